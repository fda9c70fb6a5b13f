use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    vacuum::{Tended, horizon_holders, tended},
    verdict::{Judged, Verdict},
};
use std::collections::BTreeSet;
use surus_core::{
    finding::Finding,
    plan::Plan,
    size::{human_count, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "vac.blocked",
    title: "VACUUM ran but could not remove dead rows",
    inspects: "tables with many dead rows after a recent vacuum, and what was already holding back the horizon when it ran",
    why: "Autovacuum comes again and again, reads the whole table, and may not remove the rows because somebody could still look \
          at them. It costs I/O without any gain while the table grows.",
    remedy: "End what holds back the horizon; vac.horizon names it by class.",
    source: "pganalyze vacuum advisor: blocked by xmin horizon",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[Threshold::warn_above("held", "s", 300.0), Threshold::warn_above("dead", "rows", 10_000.0)],
    look: Look::Query(
        &[Sql::all(concat!(
            "SELECT q.*, h.class, h.name AS holder, h.pid, h.since_s, h.xids FROM (",
            tended!(""),
            "WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND pg_stat_get_dead_tuples(c.oid) >= 1000) q JOIN (",
            horizon_holders!(),
            ") h ON h.since_s > q.vacuumed_ago OR h.since_s IS NULL \
             WHERE q.vacuumed_ago < 86400 AND (h.database IS NULL OR h.database = current_database()) \
             ORDER BY q.dead DESC, h.xids DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = Tended::read(row)?;
        let (object, since_s) = (table.object(), row.opt_f64("since_s")?);
        let long = since_s.is_none_or(|seconds| scene.grade("held", seconds).is_some());
        let many = scene.grade("dead", table.dead).is_some() && table.dead >= table.due_at(scene)?;
        if !long || !many || !seen.insert(object.clone()) {
            continue;
        }
        let class = row.str("class")?;
        let holder = row.opt_str("holder")?.map_or_else(|| class.to_owned(), |name| format!("{class} {name}"));
        let ago = human_seconds(table.vacuumed_ago_s.unwrap_or(0.0));
        let title =
            format!("{object} was vacuumed {ago} ago and still has {} dead rows", human_count(table.dead as i64));
        let mut finding = Finding::warn(object, title)
            .detail(format!(
                "The oldest snapshot ({holder}) is older than that vacuum, which had to leave the rows alone."
            ))
            .measured("dead rows", table.dead, "rows")
            .saw("held back by", holder.as_str())
            .measured("transactions since", row.opt_i64("xids")?.unwrap_or(0), "transactions");
        if let Some(seconds) = since_s {
            finding = finding.measured("held", seconds, "s");
        }
        if let Some(pid) = row.opt_i64("pid")? {
            finding = finding.saw("process id", pid);
        }
        findings.push(
            finding.fix(Plan::advice(format!("end what holds it back ({holder}): surus check vac.horizon says how"))),
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
    fn sees_a_vacuum_that_had_to_leave_rows_alone() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql("CREATE TABLE t(a int); INSERT INTO t SELECT generate_series(1, 3000); ANALYZE t");
                let old = on.session("postgres");
                on.run_in(&old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.t");
                on.sql("DELETE FROM t WHERE a <= 2000");
                on.sql("VACUUM t");
                on.until("SELECT pg_stat_get_dead_tuples('t'::regclass) >= 2000 AND pg_stat_get_last_vacuum_time('t'::regclass) IS NOT NULL AS v");
                on.limit("dead", 1000.0);
                assert!(on.findings().is_empty(), "the snapshot is young");
                on.limit("held", 0.0);
                let found = on.findings();
                assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["vac.blocked:postgres/public.t"]);
                assert!(found[0].detail.contains("idle in transaction"), "{}", found[0].detail);
                on.run_in(&old, "ROLLBACK");
                assert!(on.findings().is_empty(), "the holder is gone");
            },
        );
    }
}
