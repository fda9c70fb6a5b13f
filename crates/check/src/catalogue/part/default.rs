use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_count,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "part.default",
    title: "rows have landed in a default partition",
    inspects: "pg_partitioned_table.partdefid, its estimated rows and live-tuple counter",
    why: "Rows in the default partition had no partition of their own. Adding that partition later must scan the default one \
          under ACCESS EXCLUSIVE and fails while such rows are in it.",
    remedy: "Make the missing partitions, move the rows into them, and keep partitions made ahead of time.",
    source: "surus, after PostgreSQL's rules for attaching partitions beside a default one",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// The live-tuple counter is fresher than the estimate, but says nothing after a crash or on a standby.
const SQL: &str = concat!(
    "SELECT pn.nspname AS parent_schema, p.relname AS parent, n.nspname AS schema, d.relname AS name, t.partstrat::text AS strategy, \
       CASE WHEN pg_stat_get_tuples_inserted(d.oid) > 0 THEN pg_stat_get_live_tuples(d.oid) \
         ELSE greatest(d.reltuples, 0)::bigint END AS rows, ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = p.oid AND a.attnum = ANY (t.partattrs) AND a.attnum > 0) AS key \
     FROM pg_partitioned_table t JOIN pg_class p ON p.oid = t.partrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace \
     JOIN pg_class d ON d.oid = t.partdefid JOIN pg_namespace n ON n.oid = d.relnamespace WHERE d.relkind = 'r' AND ",
    user_schema!("n"),
    " ORDER BY 1, 2"
);

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let count = row.i64("rows")?;
        if count <= 0 {
            continue;
        }
        let parent = quote::qualified(row.str("parent_schema")?, row.str("parent")?);
        let partition = quote::qualified(row.str("schema")?, row.str("name")?);
        // A list with a catch-all is often meant so; a range that was not foreseen is not.
        let severity = if row.str("strategy")? == "r" { Severity::Warn } else { Severity::Info };
        let advice = format!(
            "in one transaction: ALTER TABLE {parent} DETACH PARTITION {partition}; CREATE TABLE … PARTITION OF {parent} FOR VALUES …; \
             INSERT INTO {parent} SELECT * FROM {partition} WHERE …; DELETE FROM {partition} WHERE …; ALTER TABLE {parent} ATTACH \
             PARTITION {partition} DEFAULT. It holds ACCESS EXCLUSIVE on {parent} until COMMIT"
        );
        findings.push(
            Finding::new(
                severity,
                partition.as_str(),
                format!("about {} rows of {parent} are in its default partition", human_count(count)),
            )
            .detail("The partition they belong to cannot be made while they are there.")
            .measured("estimated rows", count, "rows")
            .saw("columns of the partition key", row.list("key")?)
            .fix(Plan::advice(advice)),
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
    fn sees_rows_in_the_default_partition_only() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE m(at date) PARTITION BY RANGE (at); CREATE TABLE m_default PARTITION OF m DEFAULT; \
                 CREATE TABLE m24 PARTITION OF m FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
                 CREATE TABLE l(kind text) PARTITION BY LIST (kind); CREATE TABLE l_default PARTITION OF l DEFAULT; \
                 CREATE TABLE e(at date) PARTITION BY RANGE (at); CREATE TABLE e_default PARTITION OF e DEFAULT; \
                 INSERT INTO m SELECT '2025-05-05' FROM generate_series(1, 1234); INSERT INTO m VALUES ('2024-05-05'); \
                 INSERT INTO l VALUES ('x'); ANALYZE m_default; ANALYZE l_default",
            );
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; LOCK public.m, public.l");
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [
                    ("part.default:postgres/public.m_default", "warn"),
                    ("part.default:postgres/public.l_default", "info")
                ]
            );
            assert!(found[0].title.contains("1 234 rows"), "{}", found[0].title);
        });
    }
}
