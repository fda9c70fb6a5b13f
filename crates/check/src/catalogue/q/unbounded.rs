use crate::{
    query_stats::{self, QueryStats},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{finding::Finding, plan::Plan, size::human_count};

pub static CHECK: Check = Check {
    id: "q.unbounded",
    title: "a frequent query returns very many rows",
    inspects: "pg_stat_statements: rows per call of SELECT statements with at least 100 calls; COPY (dumps) is left out",
    why: "Nobody reads ten thousand rows on a page. They are fetched, sent and held in the application's memory, and their number \
          grows with the table until one of the three gives way.",
    remedy: "Page through the result by key (WHERE id > $1 ORDER BY id LIMIT 100), or aggregate in the database.",
    source: "postgres_ai checkup; ten thousand rows",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::warn_above("rows", "rows", 10_000.0), Threshold::warn_above("calls", "calls", 100.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        let mut found = stats
            .worst("calls > 0", "rows / calls", |statement| {
                scene.grade("rows", statement.rows_per_call()).is_some()
                    && scene.grade("calls", statement.calls).is_some()
            })
            .await?;
        found.retain(|statement| statement.is_select());
        Ok(query_stats::verdict(&found, |statement| {
            let rows = statement.rows_per_call();
            let title = format!(
                "a query returns {} rows per call, and ran {:.0} times{}",
                human_count(rows as i64),
                statement.calls,
                stats.period()
            );
            let finding = Finding::info(statement.object(), title).detail(statement.text.as_str()).measured(
                "rows per call",
                rows,
                "rows",
            );
            stats
                .describe(finding, statement)
                .fix(Plan::advice("add ORDER BY the key and LIMIT, and page by key; or let the database aggregate"))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{query_stats::tests::counting, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_a_query_that_returns_everything() {
        seeded(&CHECK, |on| {
            counting(on, &[]);
            on.sql("CREATE TABLE t AS SELECT i FROM generate_series(1, 500) i");
            for _ in 0..3 {
                on.sql("SELECT i FROM t");
                on.sql("UPDATE t SET i = i");
                on.sql("SELECT i FROM t LIMIT 10");
            }
            assert_eq!(on.findings(), []);
            on.limit("rows", 400.0);
            on.limit("calls", 3.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>(), ["SELECT i FROM t"]);
        });
    }
}
