use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    vacuum::vacuum_step,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
    size::human_count,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "vm.low",
    title: "index-only scans have to visit the table",
    inspects: "pg_class.relallvisible of large tables on which index-only scans are in use",
    why: "An index-only scan may skip the table only where the visibility map says that all rows of a page are visible to all. \
          VACUUM sets that; where it comes seldom, such scans read the table after all.",
    remedy: "Vacuum the table, and let autovacuum come more often; for tables that only grow by a smaller insert scale factor.",
    source: "PostgreSQL documentation, Index-Only Scans and Covering Indexes; pgEdge pg-healthcheck",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_below("visible", "%", 50.0), Threshold::warn_above("size", "bytes", 83_886_080.0)],
    look: Look::Query(
        // Entries returned by all indexes less rows fetched through them is what index-only scans did not fetch.
        &[Sql::all(concat!(
            "WITH big AS MATERIALIZED (SELECT c.oid, c.relname, c.relnamespace, c.relpages, c.relallvisible, pg_stat_get_tuples_fetched(c.oid) AS fetched \
               FROM pg_class c WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relpages >= 128 AND c.relallvisible < c.relpages), \
             used AS (SELECT i.indrelid, sum(pg_stat_get_tuples_returned(i.indexrelid)) AS entries, \
               bool_or(i.indnatts > i.indnkeyatts AND pg_stat_get_numscans(i.indexrelid) > 0) AS covering \
               FROM pg_index i WHERE i.indrelid IN (SELECT oid FROM big) GROUP BY i.indrelid) \
             SELECT n.nspname AS schema, b.relname AS name, 100.0 * b.relallvisible / b.relpages AS visible, u.covering, u.entries, b.fetched, \
             b.relpages::bigint * current_setting('block_size')::bigint AS bytes \
             FROM big b JOIN used u ON u.indrelid = b.oid JOIN pg_namespace n ON n.oid = b.relnamespace \
             WHERE (u.covering OR u.entries - b.fetched >= greatest(10000, 0.1 * u.entries)) AND ",
            user_schema!("n"),
            " ORDER BY b.relpages DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (visible, bytes) = (row.f64("visible")?, row.f64("bytes")?);
        let graded = scene.grade("visible", visible).filter(|_| scene.grade("size", bytes).is_some());
        let Some(severity) = graded else { continue };
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let fetched = row.f64("fetched")?;
        let mut step = vacuum_step(&table, "", bytes);
        step.effect = "index-only scans skip the pages whose rows are visible to all".into();
        let often = format!(
            "if it fills up again soon: ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02)"
        );
        let reason = match row.bool("covering")? {
            true => "An index with INCLUDE columns, made for index-only scans, is in use on it.".to_owned(),
            false => "Its indexes returned more entries than rows were fetched, so index-only scans are in use on it."
                .to_owned(),
        };
        findings.push(
            Finding::new(severity, &table, format!("only {visible:.0} % of {table} is marked all-visible"))
                .detail(format!("{reason} They visit the table for all other pages."))
                .measured("all-visible", visible, "%")
                .measured("estimated size", bytes, "bytes")
                .measured("index entries returned", row.f64("entries")?, "rows")
                .measured("rows fetched through indexes", fetched, "rows")
                .fix(Plan::new(
                    format!("vacuum {table} ({} rows were fetched through indexes)", human_count(fetched as i64)),
                    vec![step, Step::manual(often)],
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
    fn sees_index_only_scans_over_a_table_that_vacuum_never_saw() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql(
                    "CREATE TABLE t(id int, note text, pad text); INSERT INTO t SELECT g, g::text, repeat('x', 300) FROM generate_series(1, 5000) g; \
                     CREATE INDEX covering ON t(id) INCLUDE (note); CREATE TABLE plain AS SELECT * FROM t; CREATE INDEX ON plain(id); ANALYZE",
                );
                on.sql("SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT note FROM t WHERE id < 10; SELECT pad FROM plain WHERE id < 10");
                on.until("SELECT pg_stat_get_numscans('covering'::regclass) > 0 AS v");
                assert!(on.findings().is_empty(), "too small to matter");
                on.limit("size", 1_000_000.0);
                let found = on.findings();
                assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["vm.low:postgres/public.t"]);
                let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                    panic!()
                };
                on.sql(sql);
                assert!(on.findings().is_empty());
            },
        );
    }
}
