use crate::{
    query_stats::{self, QueryStats},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};

pub static CHECK: Check = Check {
    id: "q.slow",
    title: "a frequent statement is slow",
    inspects: "pg_stat_statements: mean execution time of statements with at least 100 calls",
    why: "Somebody waits for each of these calls. A second is what a person notices; for a statement inside a transaction it is \
          also a second longer that its locks are held.",
    remedy: "EXPLAIN (ANALYZE, BUFFERS) it with typical values; most often an index is missing or rows are fetched to be thrown away.",
    source: "pgEdge pg-healthcheck; one and five seconds on average",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::above("mean", "s", 1.0, 5.0), Threshold::warn_above("calls", "calls", 100.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        let mean_s = |statement: &query_stats::Statement| statement.mean_ms() / 1000.0;
        let found = stats
            .worst("calls > 0", "total_ms / calls", |statement| {
                scene.grade("mean", mean_s(statement)).is_some() && scene.grade("calls", statement.calls).is_some()
            })
            .await?;
        Ok(query_stats::verdict(&found, |statement| {
            let severity = scene.grade("mean", mean_s(statement)).unwrap_or(Severity::Warn);
            let title = format!(
                "a statement takes {} on average, and ran {:.0} times{}",
                human_seconds(mean_s(statement)),
                statement.calls,
                stats.period()
            );
            let finding = Finding::new(severity, statement.object(), title).detail(statement.text.as_str()).measured(
                "longest",
                statement.max_ms,
                "ms",
            );
            stats
                .describe(finding, statement)
                .fix(Plan::advice("EXPLAIN (ANALYZE, BUFFERS) it with typical values, and see where the time goes"))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{query_stats::tests::counting, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_a_slow_statement_but_no_fast_or_utility_one() {
        seeded(&CHECK, |on| {
            counting(on, &[("pg_stat_statements.track_utility", "on")]);
            on.sql("SELECT pg_sleep(0.06)");
            on.sql("SELECT pg_sleep(0.06)");
            on.sql("SELECT 1; SELECT 2; CREATE TABLE t AS SELECT pg_sleep(0.06)::text");
            on.sql("SELECT pg_sleep(0.06), count(*) FROM pg_class");
            on.limit("mean", 0.05);
            assert_eq!(on.findings(), [], "a hundred calls were not made");
            on.limit("calls", 1.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>(), ["SELECT pg_sleep($1)"]);
            assert!(found[0].title.contains("ran 2 times"), "{}", found[0].title);
        });
    }
}
