use crate::{
    query_stats::{self, QueryStats, Statement},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};

pub static CHECK: Check = Check {
    id: "q.variance",
    title: "a statement is sometimes fast and sometimes very slow",
    inspects: "pg_stat_statements: standard deviation against mean of the execution time, at least 1000 calls",
    why: "A mean hides that most calls are fast and some take a hundred times as long: for some values another plan is right, or \
          some calls wait for a lock. Users remember the slow ones.",
    remedy: "Compare EXPLAIN (ANALYZE, BUFFERS) for a frequent and a rare value; auto_explain and log_lock_waits show which calls are slow and why.",
    source: "surus; a standard deviation of five times the mean",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[
        Threshold::warn_above("ratio", "times", 5.0),
        Threshold::warn_above("calls", "calls", 1000.0),
        // Fast statements vary by the noise of the machine.
        Threshold::warn_above("longest", "s", 1.0),
        Threshold::warn_above("total", "s", 60.0),
    ],
    look: Look::Custom(look),
};

fn ratio(statement: &Statement) -> f64 {
    statement.stddev_ms / statement.mean_ms().max(f64::MIN_POSITIVE)
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        let found = stats
            .worst(
                "calls > 1 AND total_ms > 0 AND stddev_ms * calls > total_ms",
                "stddev_ms * calls / total_ms",
                |statement| {
                    scene.grade("ratio", ratio(statement)).is_some()
                        && scene.grade("calls", statement.calls).is_some()
                        && scene.grade("longest", statement.max_ms / 1000.0).is_some()
                        && scene.grade("total", statement.total_ms / 1000.0).is_some()
                },
            )
            .await?;
        Ok(query_stats::verdict(&found, |statement| {
            let title = format!(
                "a statement takes {} on average but up to {}",
                human_seconds(statement.mean_ms() / 1000.0),
                human_seconds(statement.max_ms / 1000.0)
            );
            let finding = Finding::info(statement.object(), title)
                .detail(statement.text.as_str())
                .measured("standard deviation", statement.stddev_ms, "ms")
                .measured("standard deviation by mean", ratio(statement), "times")
                .measured("longest", statement.max_ms, "ms");
            stats.describe(finding, statement).fix(Plan::advice(
                "compare its plans for frequent and rare values; try SET plan_cache_mode = force_custom_plan for its role; log lock waits",
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
    fn sees_a_statement_that_is_rarely_slow() {
        seeded(&CHECK, |on| {
            counting(on, &[]);
            for _ in 0..30 {
                on.sql("SELECT pg_sleep(0.0)");
            }
            on.sql("SELECT pg_sleep(0.3)");
            on.limit("ratio", 4.0);
            assert_eq!(on.findings(), []);
            on.limit("calls", 30.0);
            on.limit("longest", 0.2);
            on.limit("total", 0.2);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>(), ["SELECT pg_sleep($1)"]);
        });
    }
}
