use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "lock.deadlock",
    title: "transactions deadlock",
    inspects: "pg_stat_database.deadlocks since its statistics were reset (an average)",
    why: "Two transactions that lock the same rows in different order can wait for each other for ever; PostgreSQL aborts one \
          after deadlock_timeout. The work of the aborted one is lost, and both have waited.",
    remedy: "Lock rows in one order everywhere (ORDER BY the key in SELECT … FOR UPDATE, one order of tables), keep transactions \
             short, and retry SQLSTATE 40P01.",
    source: "pgEdge pg-healthcheck; check_postgres. One an hour is a pattern and no accident",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("rate", "per hour", 1.0, 10.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// Where a database's counters were never reset they are as old as the cluster's statistics.
const SQL: &str = "SELECT d.datname AS database, d.deadlocks, d.xact_commit + d.xact_rollback AS transactions, \
    extract(epoch FROM now() - coalesce(d.stats_reset, (SELECT least(b.stats_reset, a.stats_reset) \
      FROM pg_stat_bgwriter b, pg_stat_archiver a))) AS age_s \
    FROM pg_stat_database d WHERE d.deadlocks > 0 AND d.datname IS NOT NULL ORDER BY d.deadlocks DESC";

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (deadlocks, age_s) = (row.i64("deadlocks")?, row.opt_f64("age_s")?.unwrap_or(0.0));
        // Within the first hour the count itself is what the hour had at least.
        let rate = deadlocks as f64 / (age_s / 3600.0).max(1.0);
        let Some(severity) = scene.grade("rate", rate) else { continue };
        let database = row.str("database")?;
        let title = format!(
            "{deadlocks} deadlocks in database {} in {}, {rate:.1} an hour on average",
            quote::ident(database),
            human_seconds(age_s)
        );
        findings.push(
            Finding::new(severity, database, title)
                .detail("Each of them aborted a transaction after both had waited for deadlock_timeout.")
                .measured("deadlocks", deadlocks, "deadlocks")
                .measured("counted for", age_s, "s")
                .measured("rate", rate, "per hour")
                .measured("transactions", row.i64("transactions")?, "transactions")
                .fix(Plan::advice(
                    "the server's log has the two statements of each deadlock; make both lock their rows in the same order",
                )),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn counts_a_deadlock() {
        seeded(&CHECK, |on| {
            on.server.expect_log("deadlock detected");
            on.sql("CREATE TABLE t(id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)");
            assert_eq!(on.findings(), []);
            let holder = on.session("postgres");
            on.run_in(&holder, "SET deadlock_timeout = '1h'; SET lock_timeout = '20s'; BEGIN; UPDATE public.t SET id = id WHERE id = 1");
            on.start_in_background(
                "SET deadlock_timeout = '200ms'; BEGIN; UPDATE public.t SET id = id WHERE id = 2; UPDATE public.t SET id = id WHERE id = 1",
            );
            on.until("SELECT count(*) = 1 AS v FROM pg_locks WHERE NOT granted");
            // The other one has looked for a deadlock already; this request closes the circle and looks again.
            on.run_in(&holder, "SET LOCAL deadlock_timeout = '10ms'");
            let _ = on.try_in(&holder, "UPDATE public.t SET id = id WHERE id = 2");
            // A session hands its counters in when it ends, if not before.
            drop(holder);
            // The cluster may be older than this test, and its counters with it.
            on.limit("rate", 0.0001);
            let found = on.soon_finds();
            assert_eq!(
                found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [("lock.deadlock:postgres", "warn")]
            );
        });
    }
}
