use crate::{
    backend::{Backend, backend},
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "lock.wraparound_vacuum",
    title: "an autovacuum against wraparound makes a schema change wait",
    inspects: "pg_stat_activity: autovacuum workers \"(to prevent wraparound)\"; pg_blocking_pids of the sessions that wait",
    why: "Autovacuum normally steps aside when somebody wants its table. When it runs to prevent transaction ID wraparound it \
          does not, and ALTER TABLE, with everybody behind it, waits until the table is done.",
    remedy: "Let it finish and cancel the schema change meanwhile. Ending the vacuum is no help: it starts again at once.",
    source: "PostgreSQL documentation, Preventing Transaction ID Wraparound Failures; pganalyze",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

const SQL: &str = concat!(
    "WITH worker AS MATERIALIZED (SELECT * FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%(to prevent wraparound)%'), \
     waiting AS MATERIALIZED (SELECT pid, pg_blocking_pids(pid) AS blockers FROM (SELECT DISTINCT pid FROM pg_locks \
       WHERE NOT granted AND EXISTS (SELECT FROM worker) LIMIT 500) l) \
     SELECT ",
    backend!("a"),
    ", v.victims, v.longest_s, v.statement, p.heap_blks_scanned, p.heap_blks_total, p.phase FROM worker a CROSS JOIN LATERAL (SELECT count(*) AS victims, \
       max(extract(epoch FROM clock_timestamp() - s.query_start)) AS longest_s, min(left(s.query, 200)) AS statement \
       FROM waiting w JOIN pg_stat_activity s ON s.pid = w.pid WHERE a.pid = ANY (w.blockers)) v \
     LEFT JOIN pg_stat_progress_vacuum p ON p.pid = a.pid WHERE v.victims > 0"
);

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let backend = Backend::read(row)?;
        let (victims, longest_s) = (row.i64("victims")?, row.f64("longest_s")?);
        let title = format!(
            "autovacuum against wraparound (process {}) makes {victims} sessions wait, the longest for {}",
            backend.pid,
            human_seconds(longest_s)
        );
        let mut finding = backend
            .describe(Finding::info(backend.object(), title))
            .detail("It does not step aside for them, and it must not be ended.")
            .measured("waiting sessions", victims, "sessions")
            .measured("longest wait", longest_s, "s")
            .saw("one that waits", row.text("statement")?);
        if let (Some(scanned), Some(total)) = (row.opt_i64("heap_blks_scanned")?, row.opt_i64("heap_blks_total")?) {
            finding = finding.saw("phase", row.text("phase")?).measured("blocks scanned", scanned, "blocks").measured(
                "blocks of the table",
                total,
                "blocks",
            );
        }
        findings.push(finding.fix(Plan::advice(
            "cancel what waits and run it again when the vacuum is done; next time VACUUM (FREEZE) the table in a quiet hour before",
        )));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_who_waits_for_it() {
        let build = |builder: surus_testkit::Builder| {
            builder
                .autovacuum(true)
                .setting("autovacuum_freeze_max_age", "100000")
                .setting("autovacuum_naptime", "1s")
                .setting("vacuum_freeze_min_age", "0")
                .setting("autovacuum_vacuum_cost_delay", "0")
        };
        seeded_on(&CHECK, build, |on| {
            // Only this table is vacuumed slowly, and only when it must be, so that no other keeps the workers.
            on.sql(
                "CREATE TABLE t(id int) WITH (autovacuum_enabled = off, autovacuum_vacuum_cost_delay = 100, \
                 autovacuum_vacuum_cost_limit = 1); INSERT INTO t SELECT generate_series(1, 50000)",
            );
            // Each block with an exception handler is a subtransaction with an id of its own.
            on.sql(
                "CREATE TABLE burnt(id int); DO $$ BEGIN FOR i IN 1..110000 LOOP BEGIN INSERT INTO burnt VALUES (i); \
                 EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$",
            );
            on.until(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' \
                 AND query LIKE '%public.t (to prevent wraparound)%') AS v",
            );
            on.start_in_background("ALTER TABLE public.t ADD n int");
            let found = on.soon_finds();
            assert_eq!(found[0].severity.word(), "info");
            assert!(found[0].title.contains("makes 1 sessions wait"), "{}", found[0].title);
        });
    }
}
