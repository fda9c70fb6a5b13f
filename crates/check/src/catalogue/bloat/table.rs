use crate::{
    bloat::{self, Measured},
    index::{seconds_to_write, size},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};

pub static CHECK: Check = Check {
    id: "bloat.table",
    title: "a table takes much more room than its rows need",
    inspects: "pages of each large table against what its rows need by the planner's statistics; without TOAST",
    why: "VACUUM makes the room of dead rows usable again but rarely gives it back. A table that is half empty fills caches with \
          nothing, makes every full scan and every backup longer, and costs disk space.",
    remedy: "First see that autovacuum comes in time (vac.overdue, vac.horizon), then write the table anew online or in a \
             maintenance window.",
    source: "check_pgactivity table_bloat, pgstattuple; page layout from PostgreSQL's documentation; surus",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::ReadAllData],
    thresholds: &[Threshold::above("bloat", "%", 40.0, 60.0), Threshold::warn_above("size", "bytes", 1_073_741_824.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let floor = scene.threshold("size").warn.unwrap_or(f64::MAX) / scene.number("block_size")?;
        let rows = access.session.ask(&bloat::tables_sql(floor.ceil() as u64)).await?;
        judge(scene, &bloat::read(&rows)?)
    })
}

fn judge(scene: &Scene<'_>, tables: &[Measured]) -> Judged {
    let mut findings = Vec::new();
    for table in tables.iter().filter(|one| one.doubt().is_none()) {
        let percent = table.table_bloat();
        if let Some(severity) = scene.grade("bloat", percent) {
            findings.push(finding(severity, &table.qualified(), table, percent));
        }
    }
    Ok(bloat::with_doubts(Verdict::of(findings), tables))
}

fn finding(severity: Severity, name: &str, table: &Measured, percent: f64) -> Finding {
    let (bytes, spare) = (table.bytes(), table.bytes() * percent / 100.0);
    let took = human_seconds(2.0 * seconds_to_write(bytes - spare));
    Finding::new(severity, name, format!("about {percent:.0} % of {name} ({}) is empty", size(bytes)))
        .detail(format!("Written anew it would be about {} smaller. New rows do use that room first.", size(spare)))
        .measured("estimated bloat", percent, "%")
        .measured("size at the last VACUUM or ANALYZE", bytes, "bytes")
        .measured("room not needed", spare, "bytes")
        .measured("estimated rows", table.rows, "rows")
        .fix(Plan::advice(format!(
            "write it anew without a long lock by pg_repack or pg_squeeze; or VACUUM FULL {name} in a maintenance window: ACCESS EXCLUSIVE \
             blocks everything for about {took}"
        )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    const SEED: &str = "CREATE EXTENSION pgstattuple; \
        CREATE TABLE holes(id int, big bigint, small int, at timestamptz, note text, rare text) WITH (autovacuum_enabled = off); \
        INSERT INTO holes SELECT g, g, g, now(), repeat('x', 20 + g % 40), CASE WHEN g % 10 = 0 THEN 'now and then' END FROM generate_series(1, 20000) g; \
        CREATE TABLE fresh (LIKE holes) WITH (autovacuum_enabled = off); INSERT INTO fresh SELECT * FROM holes; \
        CREATE TABLE stale (LIKE holes) WITH (autovacuum_enabled = off); INSERT INTO stale SELECT * FROM holes; \
        CREATE TABLE loose (LIKE holes) WITH (autovacuum_enabled = off, fillfactor = 60); INSERT INTO loose SELECT * FROM holes";

    /// What pgstattuple sees: everything but tuples, less what a freshly written copy of the same rows has.
    fn exact(on: &Stage, table: &str) -> f64 {
        on.sql(&format!(
            "DROP TABLE IF EXISTS copy; CREATE TABLE copy WITH (autovacuum_enabled = off) AS SELECT * FROM {table}"
        ));
        let sql = format!(
            "SELECT 100 * (1 - (c.table_len::float8 / c.tuple_len) * t.tuple_len / t.table_len) AS v FROM pgstattuple('{table}') t, pgstattuple('copy') c"
        );
        on.server.value(&sql).parse().unwrap()
    }

    #[test]
    fn agrees_with_pgstattuple_and_keeps_silent_when_it_cannot_know() {
        seeded(&CHECK, |on| {
            on.sql(SEED);
            on.sql("ANALYZE holes; ANALYZE fresh; ANALYZE loose; ANALYZE stale");
            on.sql("DELETE FROM holes WHERE id % 5 <> 0; DELETE FROM stale WHERE id % 5 <> 0");
            on.sql("VACUUM holes");
            on.sql("ANALYZE holes");
            on.until(
                "SELECT pg_stat_get_mod_since_analyze('stale'::regclass) = 16000 AND pg_stat_get_mod_since_analyze('holes'::regclass) = 0 \
                 AND pg_stat_get_tuples_deleted('holes'::regclass) > 0 AND count(*) = 4 AS v FROM pg_stat_user_tables \
                 WHERE last_analyze IS NOT NULL",
            );
            assert!(on.findings().is_empty(), "smaller than 1 GB");
            on.limit("size", 1_000_000.0);
            let report = on.report();
            let seen: Vec<_> = report.findings.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
            assert_eq!(seen, [("bloat.table:postgres/public.holes", "crit")]);
            let estimate = report.findings[0].evidence[0].value.as_f64().unwrap();
            let exact = exact(on, "holes");
            assert!((estimate - exact).abs() < 3.0, "estimate {estimate}, pgstattuple {exact}");
            assert!(estimate > 75.0);
            let unknown: Vec<_> = report.unknown.iter().map(|u| (u.object.as_str(), u.reason.kind())).collect();
            assert_eq!(unknown, [("public.stale", "statistics")]);
        });
    }

    #[test]
    fn a_role_that_sees_no_statistics_is_told_so() {
        seeded(&CHECK, |on| {
            on.sql(SEED);
            on.sql("ANALYZE; DELETE FROM holes WHERE id % 5 <> 0; CREATE ROLE watcher LOGIN IN ROLE pg_monitor");
            on.limit("size", 1_000_000.0);
            on.server.expect_log("permission denied");
            let report = on.report_of(&on.server.dsn_as("watcher", "", "postgres"));
            assert!(report.findings.is_empty());
            assert_eq!(report.unknown[0].reason.kind(), "privilege");
            if on.major() >= 14 {
                on.sql("GRANT pg_read_all_data TO watcher");
                on.sql("VACUUM holes");
                on.sql("ANALYZE");
                on.until(
                    "SELECT pg_stat_get_mod_since_analyze('holes'::regclass) = 0 AND pg_stat_get_tuples_deleted('holes'::regclass) > 0 \
                     AND pg_stat_get_last_analyze_time('holes'::regclass) IS NOT NULL AS v",
                );
                let report = on.report_of(&on.server.dsn_as("watcher", "", "postgres"));
                assert_eq!(report.findings.len(), 1, "{:?}", report.unknown);
            }
        });
    }
}
