use crate::{
    query_stats::{self, QueryStats, Statement},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{finding::Finding, plan::Plan, size::human_count};

pub static CHECK: Check = Check {
    id: "q.n_plus_one",
    title: "a single-row look-up runs very often, as if in a loop",
    inspects: "pg_stat_statements: SELECT statements with a large share of all calls, about one row and under 1 ms each",
    why: "An application that fetches a list and then asks for each row's details sends a query per row. Each is fast, but the \
          round trips add up to most of what a user waits for, and they fill the connections.",
    remedy: "Fetch the details together: a join, WHERE id = ANY ($1), or the eager loading of the ORM.",
    source: "surus; a million calls and a fifth of all calls",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::warn_above("calls", "calls", 1e6), Threshold::warn_above("share", "%", 20.0)],
    look: Look::Custom(look),
};

fn share(statement: &Statement) -> f64 {
    100.0 * statement.calls / statement.all.calls.max(statement.calls).max(1.0)
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        let condition = "rows <= calls * 1.5 AND rows >= calls * 0.2 AND total_ms < calls";
        let mut found = stats
            .worst(condition, "calls", |statement| {
                scene.grade("calls", statement.calls).is_some() && scene.grade("share", share(statement)).is_some()
            })
            .await?;
        // SELECT 1 and the like is how poolers test a connection.
        found.retain(|statement| statement.is_select() && statement.text.to_ascii_lowercase().contains(" where "));
        Ok(query_stats::verdict(&found, |statement| {
            let title = format!(
                "a single-row look-up ran {} times{}, {:.0} % of all calls",
                human_count(statement.calls as i64),
                stats.period(),
                share(statement)
            );
            let finding = Finding::info(statement.object(), title)
                .detail(statement.text.as_str())
                .measured("share of calls", share(statement), "%")
                .measured("rows per call", statement.rows_per_call(), "rows");
            stats.describe(finding, statement).fix(Plan::advice(
                "look for a loop around it in the application, and fetch the rows with one query: a join or = ANY ($1)",
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
    fn sees_a_look_up_in_a_loop() {
        seeded(&CHECK, |on| {
            counting(on, &[]);
            on.sql(
                "CREATE TABLE t(id int PRIMARY KEY, n int); INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
            );
            for id in 1..=100 {
                on.sql(&format!("SELECT n FROM t WHERE id = {id}; SELECT 1"));
            }
            assert_eq!(on.findings(), [], "a million calls were not made");
            on.limit("calls", 100.0);
            // Each test statement has a session of its own, whose SETs are calls too.
            on.limit("share", 2.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>(), ["SELECT n FROM t WHERE id = $1"]);
        });
    }
}
