use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
    size::human_seconds,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "vac.workers",
    title: "all autovacuum workers are busy",
    inspects: "autovacuum workers in pg_stat_activity against autovacuum_max_workers, and how long even the youngest has been at work",
    why: "While every worker is busy with a large table, no other table is vacuumed or analyzed, however much it changes.",
    remedy: "Let workers go faster: a higher cost limit, which all workers share. More workers alone only share the same speed.",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, Cost-based Vacuum Delay",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[Threshold::warn_above("busy", "s", 1800.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) AS workers, min(extract(epoch FROM clock_timestamp() - backend_start)) AS youngest, \
             array_agg(datname || ': ' || query) AS doing FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query <> ''",
        )],
        judge,
    ),
};

/// Beyond this the limit hardly slows down anything on today's disks.
const FASTEST: f64 = 2000.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (workers, most) = (row.f64("workers")?, scene.number("autovacuum_max_workers")?);
    let youngest = row.opt_f64("youngest")?.unwrap_or(0.0);
    if workers < most || scene.grade("busy", youngest).is_none() {
        return Ok(Verdict::ok());
    }
    let limit = match scene.number("autovacuum_vacuum_cost_limit")? {
        own if own > 0.0 => own,
        _ => scene.number("vacuum_cost_limit")?,
    };
    let unlimited = scene.number("autovacuum_vacuum_cost_delay")? == 0.0;
    let plan = if unlimited || limit >= FASTEST {
        Plan::advice(
            "the cost limit is not what slows them down: raise autovacuum_max_workers, and see vac.horizon and vac.multi_pass",
        )
    } else {
        let faster = format!("{:.0}", (limit * 2.0).min(FASTEST));
        let effect = "autovacuum workers together read and write up to twice as fast";
        Plan::one("let autovacuum go faster", Step::setting("autovacuum_vacuum_cost_limit", faster, effect))
    };
    let title = format!("all {workers:.0} autovacuum workers have been busy for more than {}", human_seconds(youngest));
    let mut finding = Finding::warn("", title)
        .detail("Tables that change now wait until one of them is done.")
        .measured("workers", workers, "workers")
        .measured("youngest at work for", youngest, "s")
        .measured("cost limit", limit, "");
    for doing in row.list("doing")? {
        finding = finding.saw("at work on", doing);
    }
    Ok(Verdict::one(finding.fix(plan)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_the_only_worker_busy_with_one_table() {
        let slow = [
            ("autovacuum_max_workers", "1"),
            ("autovacuum_naptime", "1s"),
            ("autovacuum_vacuum_cost_delay", "100ms"),
            ("autovacuum_vacuum_cost_limit", "1"),
        ];
        seeded_on(
            &CHECK,
            |builder| slow.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)),
            |on| {
                assert!(on.findings().is_empty());
                on.sql("CREATE TABLE t(a int, b text); INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g");
                on.sql("DELETE FROM t WHERE a % 2 = 0");
                on.limit("busy", 0.0);
                let found = on.soon_finds();
                assert_eq!(found[0].key, "vac.workers");
                let step = &found[0].fix.as_ref().unwrap().steps[0];
                let surus_core::plan::Action::Setting { name, value } = &step.action else { panic!() };
                assert_eq!((name.as_str(), value.as_str()), ("autovacuum_vacuum_cost_limit", "2"));
            },
        );
    }
}
