//! Ending a statement or a whole session: the very one that somebody looked at, and what is written down about it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surus_core::{
    clock,
    proof::{Outcome, Proof, ProofStep},
    secret::masked,
};
use surus_pg::{AskError, AskErrorKind, Rows, quote};

/// What is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// The statement that it runs (`pg_cancel_backend`).
    Cancel,
    /// The session with its transaction (`pg_terminate_backend`).
    Terminate,
}

/// A session that is to be ended, as it was seen.
#[derive(Debug, Clone)]
pub struct Ending {
    pub act: Act,
    pub pid: i64,
    /// Tells it from a later session with the same process id; as PostgreSQL writes a time.
    pub backend_start: String,
    /// Where it is set, only the statement that began then is ended; as PostgreSQL writes a time.
    pub query_start: Option<String>,
    pub user: String,
    pub database: String,
    /// The statement that was seen, for the record.
    pub query: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ended {
    pub done: bool,
    /// For people.
    pub said: String,
}

/// A time that came from outside, as PostgreSQL writes it or in microseconds since 1970; none when it is neither.
pub fn time(text: &str) -> Option<String> {
    let text = text.trim();
    let time = match text.parse::<i64>() {
        Ok(micros) => Timestamp::from_microsecond(micros).ok()?,
        Err(_) => text.parse::<Timestamp>().ok()?,
    };
    Some(time.to_string())
}

impl Ending {
    /// Looks whether it is still the same and acts, in one statement.
    pub fn sql(&self) -> String {
        let function = match self.act {
            Act::Cancel => "pg_cancel_backend",
            Act::Terminate => "pg_terminate_backend",
        };
        let start = quote::literal(&self.backend_start);
        let same_statement = match &self.query_start {
            Some(start) => format!("query_start IS NOT DISTINCT FROM {}::timestamptz", quote::literal(start)),
            None => "true".to_owned(),
        };
        format!(
            "SELECT same, same_statement, CASE WHEN same AND same_statement THEN {function}(pid) END AS done FROM \
             (SELECT pid, backend_start IS NOT DISTINCT FROM {start}::timestamptz AS same, {same_statement} AS same_statement \
             FROM pg_stat_activity WHERE pid = {} OFFSET 0) seen",
            self.pid
        )
    }

    /// What the server's answer means.
    pub fn came(&self, answer: &Result<Rows, AskError>) -> Ended {
        let not = |said: String| Ended { done: false, said };
        let rows = match answer {
            Err(error) if error.kind == AskErrorKind::Closed => {
                return not(format!("the connection was lost, it may have been done or not: {}", error.message));
            }
            Err(error) => return not(format!("nothing was done: {}", error.message)),
            Ok(rows) => rows,
        };
        let Ok(row) = rows.first() else { return not(format!("process {} has ended by itself", self.pid)) };
        let is = |name: &str| row.text(name).is_ok_and(|value| value == "t");
        if !is("same") {
            let said = "has ended by itself, another session has its number by now: nothing was done";
            return not(format!("process {} {said}", self.pid));
        }
        if !is("same_statement") {
            return not(format!("process {} runs another statement by now: nothing was done", self.pid));
        }
        if !is("done") {
            return not(format!("the server could not signal process {}", self.pid));
        }
        let what = if self.act == Act::Terminate { "session terminated" } else { "statement cancelled" };
        Ended { done: true, said: format!("{what}: process {}", self.pid) }
    }

    /// The entry of the ledger from before it is done: who asked for it, and why.
    pub fn asked(&self, cluster: &str, by: &str) -> Proof {
        let kind = if self.act == Act::Terminate { "session-terminate-asked" } else { "statement-cancel-asked" };
        let said = "about to be done; a later entry says what came of it".to_owned();
        Proof { log_excerpt: self.excerpt(), ..self.proof(kind, cluster, clock::now(), by.to_owned(), said, 0.0, true) }
    }

    /// The entry of the ledger for what came of it.
    pub fn entry(&self, cluster: &str, began: Timestamp, ended: &Ended, duration_ms: f64) -> Proof {
        let kind = if self.act == Act::Terminate { "session-terminated" } else { "statement-cancelled" };
        self.proof(kind, cluster, began, self.sql(), ended.said.clone(), duration_ms, ended.done)
    }

    #[expect(clippy::too_many_arguments, reason = "an entry has as many parts")]
    fn proof(
        &self,
        kind: &str,
        cluster: &str,
        started_at: Timestamp,
        what: String,
        result: String,
        duration_ms: f64,
        passed: bool,
    ) -> Proof {
        Proof {
            kind: kind.to_owned(),
            items: Vec::new(),
            cluster: cluster.to_owned(),
            subject: format!("process {} of {} in {}", self.pid, self.user, self.database),
            started_at,
            finished_at: clock::now(),
            outcome: if passed { Outcome::Passed } else { Outcome::Failed },
            measured: Vec::new(),
            steps: vec![ProofStep { what, result, duration_ms }],
            log_excerpt: self.excerpt(),
            surus_version: env!("CARGO_PKG_VERSION").into(),
            expires_at: None,
            undo: None,
        }
    }

    /// The statement in one line, without the values of passwords.
    fn excerpt(&self) -> String {
        let line = self.query.split_whitespace().collect::<Vec<_>>().join(" ");
        masked(&line).chars().take(1000).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_time_or_nothing() {
        assert_eq!(time("1700000000123456").as_deref(), Some("2023-11-14T22:13:20.123456Z"));
        assert_eq!(time("2023-11-14 22:13:20.123456+00").as_deref(), Some("2023-11-14T22:13:20.123456Z"));
        for bad in ["", "now", "'; DROP TABLE t", "2023-11-14"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
