//! Statements by their counters in pg_stat_statements: numbers first, the text only of those that are reported.

use crate::{
    backend::one_line,
    rule::Access,
    verdict::{Trouble, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    size::human_seconds,
};
use surus_pg::{AskError, AskErrorKind, Row, RowError, Session, quote};

/// How many statements the numbers are read of, and how many findings a check makes of them.
const READ: usize = 50;
const REPORTED: usize = 10;

/// pg_stat_statements of the database that the session is in, wherever the extension lives and however old it is.
pub(crate) struct QueryStats<'a> {
    session: &'a Session,
    /// The function behind the view, qualified; its argument says whether texts are read too.
    function: String,
    columns: Vec<String>,
    /// Seconds since the counters were reset; nobody knows before PostgreSQL 14.
    pub age_s: Option<f64>,
}

/// A statement's counters, all users of it together. Times are milliseconds, sizes bytes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Statement {
    pub queryid: i64,
    pub calls: f64,
    pub total_ms: f64,
    pub max_ms: f64,
    pub stddev_ms: f64,
    pub plan_ms: f64,
    pub rows: f64,
    pub temp_bytes: f64,
    pub io_bytes: f64,
    pub wal_bytes: f64,
    /// The same counters over all statements of the database that clients sent themselves.
    pub all: Totals,
    /// The beginning of its text on one line; filled for those that are reported.
    pub text: String,
}

/// The sums over all statements of a database.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Totals {
    pub calls: f64,
    pub total_ms: f64,
    pub temp_bytes: f64,
    pub io_bytes: f64,
    pub wal_bytes: f64,
}

impl Statement {
    /// Mean execution time.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.total_ms / self.calls.max(1.0)
    }

    /// Rows per call.
    pub(crate) fn rows_per_call(&self) -> f64 {
        self.rows / self.calls.max(1.0)
    }

    /// Stable as long as the tables it names are.
    pub(crate) fn object(&self) -> String {
        format!("query {}", self.queryid)
    }

    /// Is it a query that reads, not one that changes rows?
    pub(crate) fn is_select(&self) -> bool {
        let head = self.text.trim_start_matches(['(', ' ']).to_ascii_lowercase();
        head.starts_with("select")
            || head.starts_with("with") && !head.contains(" update ") && !head.contains(" insert ")
    }
}

impl<'a> QueryStats<'a> {
    /// Finds the extension.
    ///
    /// # Errors
    /// Unknown when it is there but its library is not loaded.
    pub(crate) async fn open(access: Access<'a>) -> Result<Self, Trouble> {
        let session = access.session;
        let rows = session.ask(WHERE_IT_IS).await?;
        let row = rows.first()?;
        let name = |name: &str| quote::qualified(row.str("schema").unwrap_or_default(), name);
        let mut stats =
            Self { session, function: name("pg_stat_statements"), columns: row.list("columns")?, age_s: None };
        if row.bool("has_info")? {
            let sql = format!(
                "SELECT extract(epoch FROM now() - stats_reset) AS age_s FROM {}",
                name("pg_stat_statements_info")
            );
            stats.age_s = session.ask(&sql).await.map_err(not_loaded)?.first()?.opt_f64("age_s")?;
        }
        Ok(stats)
    }

    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|one| one == column)
    }

    /// `new` where this version of the extension has it, else `old`.
    fn either(&self, new: &'static str, old: &'static str) -> &'static str {
        if self.has(new) { new } else { old }
    }

    /// The statements for which the SQL condition over the columns of [`Statement`] holds and that `wanted` chooses,
    /// largest `order` first. Statements about the system catalogs and utility commands are left out.
    ///
    /// # Errors
    /// Unknown when the library is not loaded.
    pub(crate) async fn worst(
        &self,
        condition: &str,
        order: &str,
        wanted: impl Fn(&Statement) -> bool,
    ) -> Result<Vec<Statement>, Trouble> {
        let sql = self.numbers(condition, order);
        let rows = self.session.ask(&sql).await.map_err(not_loaded)?;
        let mut found = rows.iter().map(Statement::read).collect::<Result<Vec<_>, _>>()?;
        found.retain(wanted);
        if found.is_empty() {
            return Ok(found);
        }
        let ids: Vec<_> = found.iter().map(|statement| statement.queryid.to_string()).collect();
        let texts = self.session.ask(&self.texts(&ids)).await.map_err(not_loaded)?;
        let mut named = Vec::new();
        for statement in found {
            let mine = texts.iter().find(|row| row.i64("queryid").is_ok_and(|id| id == statement.queryid));
            match mine {
                Some(row) if row.bool("noise")? => {}
                Some(row) => named.push(Statement { text: one_line(row.str("query")?), ..statement }),
                None => named.push(statement),
            }
        }
        named.truncate(REPORTED);
        Ok(named)
    }

    fn numbers(&self, condition: &str, order: &str) -> String {
        let top = if self.has("toplevel") { "toplevel" } else { "true" };
        let (total, max) = (self.either("total_exec_time", "total_time"), self.either("max_exec_time", "max_time"));
        let stddev = self.either("stddev_exec_time", "stddev_time");
        let plan = if self.has("total_plan_time") { "total_plan_time" } else { "0" };
        let wal = if self.has("wal_bytes") { "wal_bytes" } else { "0" };
        format!(
            "WITH raw AS (SELECT queryid, {top} AS top, calls, {total} AS total, {max} AS longest, {stddev} AS stddev, {plan} AS plan, rows, \
               temp_blks_written::float8 * block.size AS temp, (shared_blks_hit + shared_blks_read)::float8 * block.size AS io, {wal}::float8 AS wal \
               FROM {}(false), (SELECT current_setting('block_size')::float8 AS size) block \
               WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IS NOT NULL), \
             statement AS (SELECT queryid, sum(calls) AS calls, sum(total) AS total_ms, max(longest) AS max_ms, \
               sqrt(sum(stddev * stddev * calls) / greatest(sum(calls), 1)) AS stddev_ms, sum(plan) AS plan_ms, sum(rows) AS rows, \
               sum(temp) AS temp_bytes, sum(io) AS io_bytes, sum(wal) AS wal_bytes FROM raw GROUP BY queryid), \
             everything AS (SELECT sum(calls) AS all_calls, sum(total) AS all_total_ms, sum(temp) AS all_temp_bytes, sum(io) AS all_io_bytes, \
               sum(wal) AS all_wal_bytes FROM raw WHERE top) \
             SELECT * FROM statement, everything WHERE {condition} ORDER BY {order} DESC LIMIT {READ}",
            self.function
        )
    }

    /// Monitoring (surus' own too) is known by the catalogs it reads; the whole text is looked at on the server.
    fn texts(&self, ids: &[String]) -> String {
        format!(
            "SELECT DISTINCT ON (queryid) queryid, left(query, 200) AS query, query ~* {} OR query ~* {} AS noise FROM {}(true) \
             WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND queryid IN ({}) ORDER BY queryid",
            quote::literal(UTILITY),
            quote::literal(CATALOGS),
            self.function,
            ids.join(", ")
        )
    }

    /// Adds a statement's text and how long was counted.
    pub(crate) fn describe(&self, finding: Finding, statement: &Statement) -> Finding {
        let finding = finding
            .saw("statement", statement.text.as_str())
            .measured("calls", statement.calls, "calls")
            .measured("mean time", statement.mean_ms(), "ms")
            .measured("total time", statement.total_ms / 1000.0, "s");
        match self.age_s {
            Some(age) => finding.measured("counted for", age, "s"),
            None => finding
                .saw("counted since", "the last reset of pg_stat_statements, whose time this version does not keep"),
        }
    }

    /// ` in 3 d 4 h`, or nothing when nobody knows how long was counted.
    pub(crate) fn period(&self) -> String {
        self.age_s.map(|age| format!(" in {}", human_seconds(age))).unwrap_or_default()
    }
}

impl Statement {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        let number = |name: &str| Ok::<_, RowError>(row.opt_f64(name)?.unwrap_or(0.0));
        Ok(Self {
            queryid: row.i64("queryid")?,
            calls: number("calls")?,
            total_ms: number("total_ms")?,
            max_ms: number("max_ms")?,
            stddev_ms: number("stddev_ms")?,
            plan_ms: number("plan_ms")?,
            rows: number("rows")?,
            temp_bytes: number("temp_bytes")?,
            io_bytes: number("io_bytes")?,
            wal_bytes: number("wal_bytes")?,
            all: Totals {
                calls: number("all_calls")?,
                total_ms: number("all_total_ms")?,
                temp_bytes: number("all_temp_bytes")?,
                io_bytes: number("all_io_bytes")?,
                wal_bytes: number("all_wal_bytes")?,
            },
            text: String::new(),
        })
    }
}

/// One finding for each statement.
pub(crate) fn verdict(statements: &[Statement], finding: impl Fn(&Statement) -> Finding) -> Verdict {
    Verdict::of(statements.iter().map(finding).collect())
}

fn not_loaded(error: AskError) -> Trouble {
    match error.kind {
        AskErrorKind::ObjectState => Trouble::Unknown(Reason::Extension(format!(
            "{}: add pg_stat_statements to shared_preload_libraries and restart",
            error.message
        ))),
        _ => error.into(),
    }
}

const WHERE_IT_IS: &str = "SELECT n.nspname AS schema, \
    EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = 'pg_stat_statements_info') AS has_info, \
    ARRAY(SELECT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = n.oid \
      AND c.relname = 'pg_stat_statements' AND a.attnum > 0 AND NOT a.attisdropped) AS columns \
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";

const UTILITY: &str = "^\\s*(begin|start|commit|end|rollback|abort|savepoint|release|prepare|execute|set|reset|show|discard|deallocate|\
    vacuum|analyze|create|alter|drop|reindex|cluster|checkpoint|copy|truncate|grant|revoke|comment|refresh|lock|listen|unlisten|notify|\
    load|declare|fetch|close|move|explain|do|call|import|security|reassign)\\M";

const CATALOGS: &str = "\\m(pg_catalog|information_schema|pg_stat\\w*|pg_class|pg_namespace|pg_attribute|pg_index|pg_constraint|\
    pg_settings|pg_locks|pg_database|pg_roles|pg_authid|pg_extension|pg_proc|pg_type|pg_is_in_recovery|pg_current_wal\\w*|pg_ls_\\w+|\
    pg_control_\\w+|pg_hba_file_rules|pg_replication_slots|pg_file_settings|pg_sequences?|pg_depend|pg_inherits|pg_largeobject\\w*)\\M";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::Stage;

    /// Loads the extension into a schema that is not on the search path, and counts from now.
    pub(crate) fn counting(on: &mut Stage, more: &[(&str, &str)]) {
        let load = [("shared_preload_libraries", "pg_stat_statements")];
        on.configure(&[&load[..], more].concat());
        on.sql("CREATE SCHEMA metrics; CREATE EXTENSION pg_stat_statements SCHEMA metrics");
        on.sql("SELECT metrics.pg_stat_statements_reset()");
    }

    #[test]
    fn a_select_is_known_by_its_beginning() {
        let of = |text: &str| Statement { text: text.into(), ..Statement::default() }.is_select();
        assert!(of("SELECT 1") && of("(select 1) UNION select 2") && of("WITH a AS (SELECT 1) SELECT * FROM a"));
        assert!(!of("UPDATE t SET a = $1") && !of("WITH a AS (SELECT 1) UPDATE t SET x = 1"));
    }
}
