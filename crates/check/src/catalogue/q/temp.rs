use crate::{
    query_stats::{self, QueryStats, Statement},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};

pub static CHECK: Check = Check {
    id: "q.temp",
    title: "a statement spills to disk on every call",
    inspects: "pg_stat_statements: temporary blocks written per call",
    why: "A sort or hash that does not fit into work_mem is written to temporary files and read back. That is slower than memory, \
          and many at once can fill the disk.",
    remedy: "Let it sort or hash fewer rows (an index in the right order, an earlier filter), or give the role that runs it more work_mem.",
    source: "pganalyze; 64 MB per call is surus' own limit",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[
        Threshold::warn_above("per_call", "bytes", 64.0 * 1024.0 * 1024.0),
        Threshold::warn_above("calls", "calls", 10.0),
    ],
    look: Look::Custom(look),
};

fn per_call(statement: &Statement) -> f64 {
    statement.temp_bytes / statement.calls.max(1.0)
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let work_mem = scene.bytes("work_mem")?.unwrap_or(0);
        let stats = QueryStats::open(access).await?;
        let found = stats
            .worst("temp_bytes > 0", "temp_bytes / calls", |statement| {
                scene.grade("per_call", per_call(statement)).is_some()
                    && scene.grade("calls", statement.calls).is_some()
            })
            .await?;
        Ok(query_stats::verdict(&found, |statement| {
            let spilled = Bytes(per_call(statement) as u64);
            let title = format!("a statement writes {spilled} of temporary files per call");
            // What is written to disk takes about two to three times the room in memory.
            let enough = Bytes((per_call(statement) * 2.5) as u64 + work_mem);
            let advice = format!(
                "first see whether it can sort or hash fewer rows; else ALTER ROLE … SET work_mem = about {enough} for the role \
                 that runs it, if few of them run at once"
            );
            let finding = Finding::warn(statement.object(), title)
                .detail(statement.text.as_str())
                .measured("temporary files per call", per_call(statement), "bytes")
                .measured("temporary files in all", statement.temp_bytes, "bytes")
                .measured("setting work_mem", work_mem, "bytes");
            stats.describe(finding, statement).fix(Plan::advice(advice))
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{query_stats::tests::counting, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_a_sort_that_spills() {
        seeded(&CHECK, |on| {
            counting(on, &[("work_mem", "64kB")]);
            on.sql("SELECT n FROM generate_series(1, 50000) n ORDER BY n % 1000, n OFFSET 49999");
            on.sql("SELECT n FROM generate_series(1, 10) n ORDER BY n % 3");
            on.limit("calls", 1.0);
            assert_eq!(on.findings(), [], "less than 64 MB");
            on.limit("per_call", 100_000.0);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].detail.contains("OFFSET"), "{}", found[0].detail);
        });
    }
}
