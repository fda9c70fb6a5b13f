use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    vacuum::{Tended, tended},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::{human_count, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "vac.overdue",
    title: "VACUUM is overdue for a table",
    inspects: "dead rows of each table against the number at which autovacuum should have come, with the table's own settings",
    why: "Dead rows make every scan of the table and its indexes read more. When many times more of them lie about than should \
          have called autovacuum, it does not keep up or does not come at all.",
    remedy: "Vacuum the table now, and let autovacuum come earlier: a smaller scale factor for this table.",
    source: "surus; formula of PostgreSQL documentation, The Autovacuum Daemon",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::above("times", "× due", 2.0, 5.0), Threshold::warn_above("dead", "rows", 10_000.0)],
    look: Look::Query(
        &[Sql::all(concat!(
            "SELECT q.*, EXISTS (SELECT FROM pg_stat_progress_vacuum p WHERE p.datname = current_database() AND p.relid = q.oid) AS running FROM (",
            tended!("c.oid, "),
            "WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND pg_stat_get_dead_tuples(c.oid) >= 1000) q ORDER BY dead DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = Tended::read(row)?;
        let due = table.due_at(scene)?.max(1.0);
        let times = table.dead / due;
        let running = row.bool("running")?;
        let Some(severity) = scene.grade("times", times).filter(|_| scene.grade("dead", table.dead).is_some()) else {
            continue;
        };
        // A vacuum that is at work is what should happen; only when it came far too late is it still worth a word.
        if running && severity < Severity::Crit {
            continue;
        }
        let object = table.object();
        let title = format!(
            "{object} has {} dead rows, {times:.1} times as many as call autovacuum",
            human_count(table.dead as i64)
        );
        let when = match table.vacuumed_ago_s {
            Some(seconds) => format!("It was last vacuumed {} ago", human_seconds(seconds)),
            None => "No vacuum of it is on record".to_owned(),
        };
        let now = if running { "; a vacuum is running now" } else { "" };
        findings.push(
            Finding::new(severity, &object, title)
                .detail(format!("{when}{now}."))
                .measured("dead rows", table.dead, "rows")
                .measured("autovacuum is due at", due, "rows")
                .measured("live rows, estimated", table.rows, "rows")
                .measured("scale factor in force", table.scale_factor(scene)?, "of the rows")
                .saw("vacuum running now", running)
                .fix(fix(scene, &table)),
        );
    }
    Ok(Verdict::of(findings))
}

fn fix(scene: &Scene<'_>, table: &Tended) -> Plan {
    let mut plan = Plan::one(format!("vacuum {}", table.table), table.vacuum_step());
    if let Some(factor) = table.better_scale_factor(scene) {
        plan.summary += ", and let autovacuum come earlier";
        plan.steps.push(table.scale_factor_step(factor));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_dead_rows_beyond_the_tables_own_trigger() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql(
                    "CREATE TABLE late(a int); INSERT INTO late SELECT generate_series(1, 4000); ANALYZE late; \
                     CREATE TABLE patient(a int) WITH (autovacuum_vacuum_threshold = 100000); INSERT INTO patient SELECT generate_series(1, 4000); ANALYZE patient",
                );
                on.sql("DELETE FROM late WHERE a <= 3000; DELETE FROM patient WHERE a <= 3000");
                on.until("SELECT pg_stat_get_dead_tuples('late'::regclass) = 3000 AND pg_stat_get_dead_tuples('patient'::regclass) = 3000 AS v");
                assert!(on.findings().is_empty(), "too few to matter");
                on.limit("dead", 1000.0);
                let found = on.findings();
                assert_eq!(
                    found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                    ["vac.overdue:postgres/public.late"]
                );
                assert!(found[0].title.contains("3 000 dead rows, 3.5 times"), "{}", found[0].title);
                let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                    panic!()
                };
                assert_eq!(sql, "VACUUM public.late");
                on.sql(sql);
                on.until("SELECT pg_stat_get_dead_tuples('late'::regclass) = 0 AS v");
                assert!(on.findings().is_empty());
            },
        );
    }
}
