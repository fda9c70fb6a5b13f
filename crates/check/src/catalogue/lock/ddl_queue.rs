use crate::{
    backend::{Backend, backend},
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "lock.ddl_queue",
    title: "a schema change waits, and everybody behind it",
    inspects: "pg_locks: ACCESS EXCLUSIVE requests that are not granted, and who queues behind them",
    why: "A command that wants ACCESS EXCLUSIVE lets nobody past while it waits, not even a SELECT. One long query and one \
          ALTER TABLE together make the table unavailable.",
    remedy: "Cancel the schema change; the queue dissolves at once. Run it again with lock_timeout of a few seconds and retries.",
    source: "surus, after PostgreSQL's lock queue; ten seconds of a table that nobody can read is an outage",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold { name: "wait", unit: "s", warn: None, crit: Some(10.0), bad: crate::rule::Bad::Above }],
    look: Look::Query(
        &[
            Sql::since(14, concat!(queue!("waitstart"), list!())),
            Sql::until(13, concat!(queue!("NULL::timestamptz"), list!())),
        ],
        judge,
    ),
};

macro_rules! queue {
    ($since:literal) => {
        concat!(
            "WITH waits AS MATERIALIZED (SELECT pid, mode, relation, ",
            $since,
            " AS since, pg_blocking_pids(pid) AS blockers FROM (SELECT * FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND database = \
               (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 500) l), \
             behind AS (SELECT d.pid, count(*) AS followers FROM waits d JOIN waits w ON w.relation = d.relation \
               AND w.pid <> d.pid AND d.pid = ANY (w.blockers) WHERE d.mode = 'AccessExclusiveLock' GROUP BY d.pid) "
        )
    };
}
use queue;

macro_rules! list {
    () => {
        concat!(
            "SELECT ",
            backend!("a"),
            ", n.nspname AS schema, c.relname AS name, b.followers, \
               extract(epoch FROM clock_timestamp() - coalesce(w.since, a.query_start)) AS wait_s, w.blockers \
             FROM waits w JOIN behind b ON b.pid = w.pid JOIN pg_stat_activity a ON a.pid = w.pid \
             JOIN pg_class c ON c.oid = w.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE w.mode = 'AccessExclusiveLock' ORDER BY wait_s DESC"
        )
    };
}
use list;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        if let Some(severity) = scene.grade("wait", row.f64("wait_s")?) {
            findings.push(finding(severity, row)?);
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(severity: Severity, row: Row<'_>) -> Result<Finding, RowError> {
    let backend = Backend::read(row)?;
    let table = quote::qualified(row.str("schema")?, row.str("name")?);
    let (wait_s, followers) = (row.f64("wait_s")?, row.i64("followers")?);
    let sessions = if followers == 1 { "session queues" } else { "sessions queue" };
    let title = format!(
        "{} has waited {} for ACCESS EXCLUSIVE on {table}, and {followers} {sessions} behind it",
        backend.who(),
        human_seconds(wait_s)
    );
    Ok(backend
        .describe(Finding::new(severity, table, title))
        .detail("Until it gets the lock or gives up, nobody can read or write the table.")
        .measured("wait", wait_s, "s")
        .measured("sessions behind it", followers, "sessions")
        .saw("waits for processes", row.list("blockers")?)
        .fix(Plan::advice(format!(
            "{}; then run the change again with SET lock_timeout = '2s', in a loop until it succeeds",
            backend.cancel()
        ))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_ddl_with_followers_only() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(id int); CREATE TABLE alone(id int)");
            let reader = on.session("postgres");
            on.run_in(&reader, "BEGIN; SELECT FROM public.t; SELECT FROM public.alone");
            on.start_in_background("ALTER TABLE public.alone ADD n int");
            on.start_in_background("ALTER TABLE public.t ADD n int");
            on.until("SELECT count(*) = 2 AS v FROM pg_locks WHERE NOT granted");
            on.start_in_background("SELECT FROM public.t");
            on.until("SELECT count(*) = 3 AS v FROM pg_locks WHERE NOT granted");
            assert_eq!(on.findings(), [], "ten seconds are not over");
            on.limit("wait", 0.01);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["lock.ddl_queue:postgres/public.t"]);
            assert!(found[0].title.contains("and 1 session queues behind it"), "{}", found[0].title);
            on.run_in(&reader, "ROLLBACK");
        });
    }
}
