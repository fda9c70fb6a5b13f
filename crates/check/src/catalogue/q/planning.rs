use crate::{
    query_stats::{self, QueryStats, Statement},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::Verdict,
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::human_seconds,
};

pub static CHECK: Check = Check {
    id: "q.planning",
    title: "a statement takes longer to plan than to run",
    inspects: "pg_stat_statements: planning against execution time, where pg_stat_statements.track_planning is on",
    why: "Planning is repeated at every call of a statement that is not prepared. With many partitions, joins or indexes it can \
          cost more than the execution itself.",
    remedy: "Prepare the statement (a driver's prepared statements, plan_cache_mode), give it a condition on the partition key, or \
             have fewer partitions and indexes.",
    source: "pganalyze; half of the time",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::warn_above("share", "%", 50.0), Threshold::warn_above("planning", "s", 60.0)],
    look: Look::Custom(look),
};

fn share(statement: &Statement) -> f64 {
    100.0 * statement.plan_ms / (statement.plan_ms + statement.total_ms).max(f64::MIN_POSITIVE)
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        if scene.settings().on("pg_stat_statements.track_planning") != Some(true) {
            return Ok(Verdict::unknown(Reason::Statistics(
                "planning is not timed: pg_stat_statements.track_planning is off".into(),
            )));
        }
        let found = stats
            .worst("plan_ms > 0", "plan_ms", |statement| {
                scene.grade("planning", statement.plan_ms / 1000.0).is_some()
                    && scene.grade("share", share(statement)).is_some()
            })
            .await?;
        Ok(query_stats::verdict(&found, |statement| {
            let title = format!(
                "planning is {:.0} % of a statement's time: {}{}",
                share(statement),
                human_seconds(statement.plan_ms / 1000.0),
                stats.period()
            );
            let finding = Finding::warn(statement.object(), title)
                .detail(statement.text.as_str())
                .measured("share of planning", share(statement), "%")
                .measured("planning in all", statement.plan_ms / 1000.0, "s");
            stats.describe(finding, statement).fix(Plan::advice(
                "EXPLAIN (SUMMARY) shows the planning time; prepare the statement, and let it prune partitions early",
            ))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{query_stats::tests::counting, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_planning_where_it_is_timed() {
        seeded(&CHECK, |on| {
            counting(on, &[("pg_stat_statements.track_planning", "on")]);
            on.sql("CREATE TABLE p(id int) PARTITION BY LIST (id)");
            on.sql("DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE p%s PARTITION OF p FOR VALUES IN (%s)', i, i); END LOOP; END $$");
            on.sql("SELECT count(*) FROM p a JOIN p b USING (id) JOIN p c USING (id) WHERE false = (a.id > 0)");
            assert_eq!(on.findings(), [], "a minute was not spent");
            on.limit("planning", 0.001);
            on.limit("share", 10.0);
            let found = on.findings();
            assert!(found.iter().any(|f| f.detail.contains("FROM p a JOIN p b")), "{found:#?}");
        });
    }

    #[test]
    fn without_timing_it_is_unknown() {
        seeded(&CHECK, |on| {
            counting(on, &[]);
            assert_eq!(on.report().unknown[0].reason.kind(), "statistics");
        });
    }
}
