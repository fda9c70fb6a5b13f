//! A session of somebody else as a finding names it: process, role, application, age, statement.

use surus_core::{finding::Finding, size::human_seconds};
use surus_pg::{Row, RowError, quote};

/// How much of a statement a finding shows, in characters.
pub(crate) const SHOWN: usize = 200;

/// The columns that [`Backend::read`] wants, from `$a`, an alias of pg_stat_activity. Ages are seconds.
macro_rules! backend {
    ($a:literal) => {
        concat!(
            $a,
            ".pid, ",
            $a,
            ".usename AS role, ",
            $a,
            ".application_name AS application, ",
            $a,
            ".datname AS at_database, ",
            $a,
            ".state, ",
            $a,
            ".backend_type, ",
            $a,
            ".backend_start::text AS backend_start, left(",
            $a,
            ".query, 200) AS query, \
            extract(epoch FROM clock_timestamp() - ",
            $a,
            ".xact_start) AS xact_s, \
            extract(epoch FROM clock_timestamp() - ",
            $a,
            ".query_start) AS query_s, \
            extract(epoch FROM clock_timestamp() - ",
            $a,
            ".state_change) AS state_s"
        )
    };
}
pub(crate) use backend;

/// A session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Backend {
    pub pid: i64,
    pub role: String,
    pub application: String,
    pub database: String,
    pub state: String,
    pub kind: String,
    pub start: String,
    /// The running statement, or the last one; at most [`SHOWN`] characters on one line.
    pub query: String,
    /// Seconds since its transaction, its statement and its state began.
    pub xact_s: Option<f64>,
    pub query_s: Option<f64>,
    pub state_s: Option<f64>,
}

impl Backend {
    pub(crate) fn read(row: Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            pid: row.i64("pid")?,
            role: row.text("role")?,
            application: row.text("application")?,
            database: row.text("at_database")?,
            state: row.text("state")?,
            kind: row.text("backend_type")?,
            start: row.text("backend_start")?,
            query: one_line(row.opt_str("query")?.unwrap_or_default()),
            xact_s: row.opt_f64("xact_s")?,
            query_s: row.opt_f64("query_s")?,
            state_s: row.opt_f64("state_s")?,
        })
    }

    /// `process 4711 (role app, application web)`.
    pub(crate) fn who(&self) -> String {
        let role = match self.role.as_str() {
            "" => self.kind.clone(),
            role => format!("role {}", quote::ident(role)),
        };
        match self.application.as_str() {
            "" => format!("process {} ({role})", self.pid),
            application => format!("process {} ({role}, application {application})", self.pid),
        }
    }

    /// What it does and for how long: `idle in transaction for 2 min`.
    pub(crate) fn doing(&self) -> String {
        let for_long = |seconds: Option<f64>| seconds.map(|s| format!(" for {}", human_seconds(s))).unwrap_or_default();
        match self.state.as_str() {
            "active" => format!("running one statement{}", for_long(self.query_s)),
            "" => "at work".to_owned(),
            state => format!("{state}{}", for_long(self.state_s)),
        }
    }

    /// The name of the finding: there is only one process of this number at a time.
    pub(crate) fn object(&self) -> String {
        format!("process {}", self.pid)
    }

    /// Cancels its statement, and only if the process is still the same session.
    pub(crate) fn cancel(&self) -> String {
        self.signal("pg_cancel_backend")
    }

    /// Ends the session, which rolls its transaction back.
    pub(crate) fn terminate(&self) -> String {
        self.signal("pg_terminate_backend")
    }

    fn signal(&self, function: &str) -> String {
        format!(
            "SELECT {function}(pid) FROM pg_stat_activity WHERE pid = {} AND backend_start = '{}'",
            self.pid, self.start
        )
    }

    /// Adds who it is as evidence.
    pub(crate) fn describe(&self, finding: Finding) -> Finding {
        let mut finding = finding
            .saw("process", self.pid)
            .saw("role", self.role.as_str())
            .saw("application", self.application.as_str())
            .saw("database", self.database.as_str())
            .saw("state", self.state.as_str());
        if let Some(age) = self.xact_s {
            finding = finding.measured("age of the transaction", age, "s");
        }
        if let Some(age) = self.query_s {
            finding = finding.measured("age of the statement", age, "s");
        }
        finding.saw("statement", self.query.as_str())
    }
}

/// White space of any kind as one blank; at most [`SHOWN`] characters.
pub(crate) fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_becomes_one_short_line() {
        assert_eq!(one_line("SELECT\n  1,\t2"), "SELECT 1, 2");
        assert_eq!(one_line(&"é".repeat(500)).chars().count(), SHOWN);
    }
}
