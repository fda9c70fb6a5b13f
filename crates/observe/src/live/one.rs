//! One session, in full: for somebody who is about to end it.

use serde::Serialize;
use surus_core::secret::masked;
use surus_pg::{RowError, Rows};

/// The longest statement that is brought, in characters.
const QUERY_AT_MOST: usize = 100_000;
/// Sessions that wait for it, at most.
const WAITERS_AT_MOST: usize = 100;

/// One session at one moment. Times are as PostgreSQL writes them, in UTC.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SessionNow {
    pub pid: i64,
    pub user: String,
    pub database: String,
    pub application: String,
    /// Where it comes from; empty over a Unix socket.
    pub client: String,
    pub backend_type: String,
    pub state: String,
    pub wait_event_type: String,
    pub wait_event: String,
    /// With the process id, what names the session: ending it wants both.
    pub backend_start: String,
    pub xact_start: Option<String>,
    pub query_start: Option<String>,
    pub state_change: Option<String>,
    /// How long its transaction has been open, in seconds.
    pub transaction_s: Option<f64>,
    /// How long its statement has run or, when none runs, how long it has been in its state, in seconds.
    pub state_s: Option<f64>,
    /// Its statement, or its last one, as the role may see it, without the values of passwords.
    pub query: String,
    /// Who blocks it; 0 stands for a prepared transaction, which has no process.
    pub blocked_by: Vec<i64>,
    /// Sessions that wait for it, itself or a lock that it holds: at most a hundred.
    pub blocks: Vec<i64>,
}

/// The query.
pub fn sql(pid: i64) -> String {
    format!(
        "SELECT pid, usename, datname, application_name, host(client_addr) AS client, backend_type, state, wait_event_type, \
           wait_event, backend_start::text AS backend_start, xact_start::text AS xact_start, \
           query_start::text AS query_start, state_change::text AS state_change, \
           extract(epoch FROM clock_timestamp() - xact_start) AS transaction_s, \
           extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN query_start ELSE state_change END) AS state_s, \
           left(query, {QUERY_AT_MOST}) AS query, \
           CASE WHEN wait_event_type = 'Lock' THEN pg_blocking_pids(pid) END AS blocked_by, \
           ARRAY(SELECT w.pid FROM (SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' LIMIT {WAITERS_AT_MOST}) w \
             WHERE {pid} = ANY (pg_blocking_pids(w.pid)) ORDER BY 1) AS blocks \
         FROM pg_stat_activity WHERE pid = {pid}"
    )
}

/// Reads the answer: none when there is no such session any more.
///
/// # Errors
/// When it has another shape.
pub fn read(rows: &Rows) -> Result<Option<SessionNow>, RowError> {
    let Some(row) = rows.iter().next() else { return Ok(None) };
    let pids = |name: &str| -> Result<Vec<i64>, RowError> {
        let mut pids: Vec<i64> = row.list(name)?.iter().filter_map(|pid| pid.parse().ok()).collect();
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    };
    let time = |name: &str| Ok::<_, RowError>(row.opt_str(name)?.map(str::to_owned));
    Ok(Some(SessionNow {
        pid: row.i64("pid")?,
        user: row.text("usename")?,
        database: row.text("datname")?,
        application: row.text("application_name")?,
        client: row.text("client")?,
        backend_type: row.text("backend_type")?,
        state: row.text("state")?,
        wait_event_type: row.text("wait_event_type")?,
        wait_event: row.text("wait_event")?,
        backend_start: row.text("backend_start")?,
        xact_start: time("xact_start")?,
        query_start: time("query_start")?,
        state_change: time("state_change")?,
        transaction_s: row.opt_f64("transaction_s")?.map(|age| age.max(0.0)),
        state_s: row.opt_f64("state_s")?.map(|age| age.max(0.0)),
        query: masked(&row.text("query")?),
        blocked_by: pids("blocked_by")?,
        blocks: pids("blocks")?,
    }))
}
