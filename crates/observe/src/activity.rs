//! Who is doing what right now, and what it waits for: one look at pg_stat_activity. What the rows mean is decided
//! here; when it is looked is decided by the engine.

use crate::collector::Page;
use std::collections::BTreeMap;
use surus_core::series::{Family, MetricKind, Told};
use surus_pg::{Row, RowError, Rows, Sql, facts::DatabaseFacts};
use surus_store::samples::SessionSample;

/// Sessions whose blockers are looked up in one sample: each takes all partitions of the lock table for a moment.
const WAITERS_AT_MOST: usize = 100;

/// Active sessions by what they wait for, averaged over the samples since the cycle before.
pub static ACTIVE: Family = Family {
    name: "surus_active_sessions",
    kind: MetricKind::Gauge,
    help: "Average number of active sessions by the type of what they wait for; CPU: they wait for nothing that \
           PostgreSQL knows of. Idle sessions, sessions idle in a transaction and WAL senders are not counted.",
};

/// What a session waits for that waits for nothing PostgreSQL knows of.
const ON_CPU: &str = "CPU";
/// Types that are told also when nobody waits for them, so that their series have no gaps.
const TYPES: [&str; 9] = [ON_CPU, "BufferPin", "Client", "Extension", "IO", "IPC", "LWLock", "Lock", "Timeout"];

const COLUMNS: [Sql; 2] = [Sql::since(14, "query_id"), Sql::until(13, "NULL::bigint AS query_id")];

/// The query: everything that is not idle, without this session; one row more than wanted shows that there are more.
///
/// The function behind pg_stat_activity instead of the view, whose joins for two names take the server three times as
/// long: once a second that matters.
pub fn sql(major: u16, sessions_at_most: usize) -> String {
    let query_id = Sql::of_major(&COLUMNS, major).unwrap_or("query_id");
    format!(
        "WITH seen AS MATERIALIZED (SELECT pid, leader_pid, datid, usesysid, application_name, client_addr, backend_type, \
           state, wait_event_type, wait_event, {query_id}, xact_start, query_start \
           FROM pg_stat_get_activity(NULL) WHERE pid <> pg_backend_pid() AND backend_type IS NOT NULL AND \
           CASE WHEN backend_type = 'client backend' THEN state <> 'idle' ELSE wait_event_type IS DISTINCT FROM 'Activity' END \
           LIMIT {limit}), \
         waiting AS MATERIALIZED (SELECT pid FROM seen WHERE wait_event_type = 'Lock' LIMIT {WAITERS_AT_MOST}) \
         SELECT pid, leader_pid, datid, pg_get_userbyid(nullif(usesysid, 0)) AS usename, application_name, host(client_addr) AS client, backend_type, state, \
           wait_event_type, wait_event, query_id, \
           round(extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint AS transaction_age_ms, \
           round(extract(epoch FROM clock_timestamp() - query_start) * 1000)::bigint AS query_age_ms, \
           CASE WHEN pid IN (SELECT pid FROM waiting) THEN pg_blocking_pids(pid) END AS blocked_by FROM seen",
        limit = sessions_at_most + 1,
    )
}

/// Reads the answer.
///
/// # Errors
/// When it has another shape.
pub fn read(rows: &Rows, databases: &[DatabaseFacts]) -> Result<Vec<SessionSample>, RowError> {
    rows.iter().map(|row| session(row, databases)).collect()
}

/// The name of a database; of one that is too new to be known, its number.
fn name_of(oid: i64, databases: &[DatabaseFacts]) -> Option<String> {
    let known = databases.iter().find(|database| i64::from(database.oid) == oid);
    (oid != 0).then(|| known.map_or_else(|| format!("oid {oid}"), |database| database.name.clone()))
}

fn session(row: Row<'_>, databases: &[DatabaseFacts]) -> Result<SessionSample, RowError> {
    let text = |column: &str| -> Result<Option<String>, RowError> {
        Ok(row.opt_str(column)?.filter(|text| !text.is_empty()).map(str::to_owned))
    };
    let pid = |number: i64| i32::try_from(number).unwrap_or_default();
    Ok(SessionSample {
        pid: pid(row.i64("pid")?),
        database: row.opt_i64("datid")?.and_then(|oid| name_of(oid, databases)),
        user: text("usename")?,
        application: text("application_name")?,
        client: text("client")?,
        backend_type: text("backend_type")?,
        state: text("state")?,
        wait_event_type: text("wait_event_type")?,
        wait_event: text("wait_event")?,
        query_id: row.opt_i64("query_id")?.filter(|id| *id != 0),
        // Blockers that hold a prepared transaction have no process and are 0, which is kept: it says what it is.
        blocked_by: row.list("blocked_by")?.iter().filter_map(|pid| pid.parse().ok()).collect(),
        transaction_age_ms: row.opt_i64("transaction_age_ms")?.map(|age| age.max(0)),
        query_age_ms: row.opt_i64("query_age_ms")?.map(|age| age.max(0)),
        leader_pid: row.opt_i64("leader_pid")?.map(pid),
    })
}

/// Does this session count as active?
fn is_active(session: &SessionSample) -> bool {
    match session.backend_type.as_deref() {
        Some("walsender") => false,
        _ => session.state.as_deref() == Some("active"),
    }
}

/// Averages samples between two cycles.
#[derive(Debug, Default)]
pub struct Average {
    samples: u32,
    active: BTreeMap<String, u64>,
}

impl Average {
    /// Takes a sample in.
    pub fn add(&mut self, sessions: &[SessionSample]) {
        self.samples += 1;
        for session in sessions.iter().filter(|session| is_active(session)) {
            let waits_for = session.wait_event_type.as_deref().unwrap_or(ON_CPU);
            match self.active.get_mut(waits_for) {
                Some(count) => *count += 1,
                None => drop(self.active.insert(waits_for.to_owned(), 1)),
            }
        }
    }

    /// The averages, to begin anew. None without a sample.
    pub fn take(&mut self) -> Option<Vec<Told>> {
        let Self { samples, active } = std::mem::take(self);
        if samples == 0 {
            return None;
        }
        let mut page = Page::default();
        let others = active.keys().map(String::as_str).filter(|name| !TYPES.contains(name));
        for name in TYPES.into_iter().chain(others) {
            let count = active.get(name).copied().unwrap_or(0);
            page.tell(&ACTIVE, [("wait_event_type", name)], count as f64 / f64::from(samples));
        }
        Some(page.into_told())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(state: &str, waits_for: Option<&str>) -> SessionSample {
        SessionSample {
            backend_type: Some("client backend".into()),
            state: Some(state.into()),
            wait_event_type: waits_for.map(str::to_owned),
            ..SessionSample::default()
        }
    }

    #[test]
    fn averages_are_over_samples_and_count_only_who_is_active() {
        let mut average = Average::default();
        assert!(average.take().is_none());
        average.add(&[session("active", None), session("active", Some("Lock")), session("idle in transaction", None)]);
        average.add(&[session("active", None)]);
        let told = average.take().unwrap();
        let value = |name: &str| {
            let points = &told[0].points;
            points.iter().find(|point| point.labels.get("wait_event_type") == Some(name)).unwrap().value
        };
        assert_eq!((value("CPU"), value("Lock"), value("IO")), (1.0, 0.5, 0.0));
        assert!(average.take().is_none());
    }
}
