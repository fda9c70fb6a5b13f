use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
    size::human_count,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "vac.partition_parent",
    title: "a partitioned table was never analyzed",
    inspects: "pg_class.reltuples of partitioned tables, and the rows of their partitions",
    why: "Autovacuum analyzes partitions, but never the partitioned table itself. Without statistics over all partitions the planner \
          guesses how many rows a join or a GROUP BY over the whole table gives.",
    remedy: "Run ANALYZE on the partitioned table now and from time to time, for instance once a day.",
    source: "PostgreSQL documentation, ANALYZE: notes on partitioned tables; surus",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Major(14)],
    thresholds: &[Threshold::warn_above("rows", "rows", 10_000.0)],
    look: Look::Query(
        &[Sql::all(concat!(
            "WITH RECURSIVE tree AS (SELECT c.oid AS root, c.oid AS member FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind = 'p' AND NOT c.relispartition AND c.reltuples < 0 AND ",
            user_schema!("n"),
            " UNION ALL SELECT t.root, h.inhrelid FROM tree t JOIN pg_inherits h ON h.inhparent = t.member), \
             summed AS (SELECT t.root, count(*) FILTER (WHERE c.relkind = 'r') AS partitions, \
               sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0)) FILTER (WHERE c.relkind = 'r') AS rows \
               FROM tree t JOIN pg_class c ON c.oid = t.member GROUP BY t.root) \
             SELECT n.nspname AS schema, c.relname AS name, s.partitions, coalesce(s.rows, 0) AS rows \
             FROM summed s JOIN pg_class c ON c.oid = s.root JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY s.rows DESC NULLS LAST"
        ))],
        judge,
    ),
};

/// ANALYZE reads a sample of this many rows of each partition at the default statistics target.
const SECONDS_PER_PARTITION: f64 = 1.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (count, partitions) = (row.f64("rows")?, row.i64("partitions")?);
        if scene.grade("rows", count).is_none() {
            continue;
        }
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let step =
            Step::sql(format!("ANALYZE {table}"), Lock::ShareUpdateExclusive, "the planner knows the table as a whole");
        let title = format!(
            "{table} ({partitions} partitions, {} rows) was never analyzed as a whole",
            human_count(count as i64)
        );
        findings.push(
            Finding::warn(&table, title)
                .detail("Plans over all partitions rest on guesses; autovacuum only analyzes each partition.")
                .measured("partitions", partitions, "partitions")
                .measured("estimated rows", count, "rows")
                .fix(Plan::one(
                    format!("analyze {table}; then have a daily job do so"),
                    step.takes(SECONDS_PER_PARTITION * partitions as f64)
                        .no_undo("statistics only become more accurate"),
                )),
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
    fn sees_a_parent_without_statistics() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE m(a int, b int) PARTITION BY RANGE (a); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (100); \
                 CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (100) TO (200) PARTITION BY LIST (b); CREATE TABLE m2_1 PARTITION OF m2 FOR VALUES IN (1); \
                 CREATE TABLE small(a int) PARTITION BY LIST (a); CREATE TABLE small1 PARTITION OF small FOR VALUES IN (1); \
                 INSERT INTO m SELECT g % 100, 1 FROM generate_series(1, 100) g; UPDATE pg_class SET reltuples = 7000 WHERE relname IN ('m1', 'm2_1')",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["vac.partition_parent:postgres/public.m"]
            );
            assert!(found[0].title.contains("2 partitions, 14 000 rows"), "{}", found[0].title);
            let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                panic!()
            };
            on.sql(sql);
            assert!(on.findings().is_empty());
        });
    }
}
