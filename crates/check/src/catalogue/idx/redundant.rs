use crate::{
    index::{drop_advice, estimated_bytes, size},
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::finding::Finding;
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.redundant",
    title: "an index is the beginning of another one",
    inspects: "pg_index: B-tree indexes without uniqueness, predicate and expressions against the other indexes of the table",
    why: "A longer index answers what a shorter one with the same leading columns answers. The shorter one is smaller and so \
          a little faster to scan, but it is written at every change as well.",
    remedy: "Compare the plans of the important queries without the shorter index, then drop it.",
    source: "pg-index-health intersected_indexes; pghero duplicate indexes",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("size", "bytes", 1_048_576.0)],
    look: Look::Query(
        &[Sql::all(concat!(
            "WITH b AS MATERIALIZED (SELECT i.indexrelid, i.indrelid, i.indisunique, i.indisreplident OR i.indisclustered AS marked, \
               i.indnkeyatts, i.indnatts, i.indkey::int2[] AS atts, c.relname, c.relpages, n.nspname, \
               i.indkey[0] AS first_att, i.indclass, i.indcollation, i.indoption \
             FROM (SELECT indrelid, indkey[0] AS first_att FROM pg_index GROUP BY indrelid, indkey[0] HAVING count(*) > 1) alike \
             JOIN pg_index i ON i.indrelid = alike.indrelid AND i.indkey[0] = alike.first_att \
             JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE am.amname = 'btree' AND c.relkind = 'i' AND NOT c.relispartition AND i.indisvalid AND i.indisready \
             AND i.indpred IS NULL AND i.indexprs IS NULL AND ",
            user_schema!("n"),
            ") SELECT DISTINCT ON (a.indexrelid) a.nspname AS schema, a.relname AS name, b.relname AS longer, \
             pg_stat_get_numscans(a.indexrelid) AS scans, ",
            estimated_bytes!("a"),
            " AS bytes, ",
            estimated_bytes!("b"),
            " AS longer_bytes, pg_get_indexdef(a.indexrelid) AS definition \
             FROM b a JOIN b ON b.indrelid = a.indrelid AND b.first_att = a.first_att AND b.indexrelid <> a.indexrelid \
             AND b.indnatts > a.indnatts AND b.atts @> a.atts \
             AND starts_with(array_to_string(b.atts[0:b.indnkeyatts - 1], ' ') || ' ', array_to_string(a.atts[0:a.indnkeyatts - 1], ' ') || ' ') \
             AND starts_with(b.indclass::text || ' ', a.indclass::text || ' ') \
             AND starts_with(b.indcollation::text || ' ', a.indcollation::text || ' ') \
             AND starts_with(b.indoption::text || ' ', a.indoption::text || ' ') \
             WHERE NOT a.indisunique AND NOT a.marked AND a.relpages > 0 AND a.indexrelid NOT IN (SELECT conindid FROM pg_constraint) \
             ORDER BY a.indexrelid, b.relpages"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (bytes, longer_bytes) = (row.f64("bytes")?, row.f64("longer_bytes")?);
        if scene.grade("size", bytes).is_none() {
            continue;
        }
        let schema = row.str("schema")?;
        let (name, longer) = (quote::qualified(schema, row.str("name")?), quote::qualified(schema, row.str("longer")?));
        let definition = row.str("definition")?;
        findings.push(
            Finding::info(&name, format!("{longer} begins with all columns of {name} ({})", size(bytes)))
                .detail(format!(
                    "Queries that use it would read {longer} instead, which is {:.1} times its size.",
                    longer_bytes / bytes
                ))
                .saw("definition", definition)
                .measured("estimated size", bytes, "bytes")
                .measured("estimated size of the longer one", longer_bytes, "bytes")
                .measured("scans", row.i64("scans")?, "scans")
                .fix(drop_advice(
                    &name,
                    definition,
                    "compare plans without it first (a transaction that is rolled back does on a copy)",
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
    fn sees_a_prefix_and_no_near_miss() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE t(a int, b int, c int); CREATE INDEX a ON t(a); CREATE INDEX ab ON t(a, b); CREATE INDEX ba ON t(b, a); \
                 CREATE INDEX bdesc ON t(b DESC); CREATE UNIQUE INDEX uc ON t(c); CREATE INDEX cb ON t(c, b); \
                 CREATE INDEX c_small ON t(c) WHERE c > 3; CREATE INDEX a_incl_c ON t(a) INCLUDE (c); \
                 CREATE TABLE small(a int, b int); CREATE INDEX ON small(a); CREATE INDEX ON small(a, b); \
                 UPDATE pg_class SET relpages = 200 WHERE relkind = 'i' AND relname NOT LIKE 'small%' AND relnamespace = 'public'::regnamespace",
            );
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["idx.redundant:postgres/public.a"]);
            assert!(found[0].title.starts_with("public.a"), "{}", found[0].title);
            assert!(!found[0].fix.as_ref().unwrap().is_applicable());
        });
    }
}
