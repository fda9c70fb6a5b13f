use crate::{
    query_stats::{self, QueryStats, Statement},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{
    finding::Finding,
    plan::Plan,
    size::{Bytes, human_count, human_seconds},
};

pub static CHECK: Check = Check {
    id: "q.top",
    title: "one statement makes up a large part of the load",
    inspects: "pg_stat_statements: each statement's share of time, calls, WAL, temporary files and blocks touched",
    why: "When one statement is a quarter of everything the database does, work on it pays more than any setting. Nothing is \
          wrong with it by itself.",
    remedy: "EXPLAIN (ANALYZE, BUFFERS) it first: an index, fewer calls or fewer columns may free a quarter of the server.",
    source: "every statement report (pgBadger, pghero, check_pgactivity); a quarter is surus' own limit",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[
        Threshold::warn_above("share", "%", 25.0),
        // Below this total a share means nothing: an idle database has a top statement too.
        Threshold::warn_above("time", "s", 600.0),
        Threshold::warn_above("calls", "calls", 1e6),
        Threshold::warn_above("bytes", "bytes", 10.0 * 1024.0 * 1024.0 * 1024.0),
    ],
    look: Look::Custom(look),
};

/// In which respects a statement is large: what it is called, its share in percent, and its amount.
fn large(scene: &Scene<'_>, statement: &Statement) -> Vec<(&'static str, f64, String)> {
    let bytes = |value: f64| Bytes(value as u64).to_string();
    let all = &statement.all;
    let respects = [
        ("time", "time", statement.total_ms / 1e3, all.total_ms / 1e3, human_seconds(statement.total_ms / 1e3)),
        ("calls", "calls", statement.calls, all.calls, human_count(statement.calls as i64)),
        ("WAL", "bytes", statement.wal_bytes, all.wal_bytes, bytes(statement.wal_bytes)),
        ("temporary files", "bytes", statement.temp_bytes, all.temp_bytes, bytes(statement.temp_bytes)),
        ("blocks touched", "bytes", statement.io_bytes, all.io_bytes, bytes(statement.io_bytes)),
    ];
    let share = |own: f64, all: f64| 100.0 * own / all.max(own).max(f64::MIN_POSITIVE);
    respects
        .into_iter()
        .filter(|(_, least, own, all, _)| {
            scene.grade(least, *all).is_some() && *own > 0.0 && scene.grade("share", share(*own, *all)).is_some()
        })
        .map(|(name, _, own, all, amount)| (name, share(own, all), amount))
        .collect()
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let stats = QueryStats::open(access).await?;
        let order = "greatest(total_ms / nullif(all_total_ms, 0), calls / nullif(all_calls, 0), wal_bytes / nullif(all_wal_bytes, 0), \
            temp_bytes / nullif(all_temp_bytes, 0), io_bytes / nullif(all_io_bytes, 0))";
        let found = stats.worst("true", order, |statement| !large(scene, statement).is_empty()).await?;
        Ok(query_stats::verdict(&found, |statement| {
            let respects = large(scene, statement);
            let listed: Vec<_> =
                respects.iter().map(|(name, share, amount)| format!("{share:.0} % of {name} ({amount})")).collect();
            let title = format!("one statement makes up {}{}", listed.join(", "), stats.period());
            let mut finding = Finding::info(statement.object(), title).detail(statement.text.as_str());
            for (name, share, _) in &respects {
                finding = finding.measured(format!("share of {name}"), *share, "%");
            }
            stats.describe(finding, statement).fix(Plan::advice(
                "EXPLAIN (ANALYZE, BUFFERS) it with typical values, and look for an index or for fewer calls",
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
    fn sees_the_statement_that_takes_the_time_wherever_the_extension_lives() {
        seeded(&CHECK, |on| {
            counting(on, &[]);
            on.sql("SELECT pg_sleep(0.3)");
            on.sql("SELECT 1");
            assert_eq!(on.findings(), [], "too little load to judge");
            on.limit("time", 0.1);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].title.contains("% of time (3"), "{}", found[0].title);
            assert_eq!((found[0].severity.word(), found[0].detail.as_str()), ("info", "SELECT pg_sleep($1)"));
            assert!(found[0].key.starts_with("q.top:postgres/query "), "{}", found[0].key);
        });
    }

    #[test]
    fn without_the_library_it_is_unknown() {
        seeded(&CHECK, |on| {
            on.sql("CREATE EXTENSION pg_stat_statements");
            on.server.expect_log("must be loaded via");
            assert_eq!(on.report().unknown[0].reason.kind(), "extension");
        });
    }
}
