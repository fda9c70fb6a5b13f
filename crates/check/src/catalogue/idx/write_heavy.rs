use super::unused::not_yet;
use crate::{
    index::{drop_advice, size, statistics_age},
    nodes::streaming_standbys,
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::Plan,
    size::{human_count, human_seconds},
};
use surus_pg::{Row, Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.write_heavy",
    title: "indexes cost more than they give",
    inspects: "rows written to an index against its scans on every node; the size of all indexes of a table against the table",
    why: "Each index makes every insert, and every update that changes an indexed column, write one more page and more WAL. \
          For an index that is hardly read, or a table that is smaller than its indexes, that is a bad bargain.",
    remedy: "Drop what is hardly read, make wide indexes narrower, and rebuild bloated ones.",
    source: "pganalyze index write overhead; surus",
    scope: Scope::Database,
    runs_on: RunsOn::EveryNode,
    needs: &[],
    thresholds: &[
        Threshold::warn_above("ratio", "× the table", 2.0),
        Threshold::warn_above("table_indexes", "bytes", 1_073_741_824.0),
        Threshold::warn_above("size", "bytes", 104_857_600.0),
        Threshold::warn_above("writes_per_scan", "rows", 10_000.0),
        Threshold::warn_below("scans_per_day", "scans", 10.0),
        Threshold::warn_above("observed", "days", 30.0),
    ],
    look: Look::Query(
        &[Sql::all(concat!(
            "WITH x AS MATERIALIZED (SELECT i.indrelid, i.indexrelid, c.relname, c.relpages, i.indisunique OR i.indisexclusion OR i.indisreplident \
               OR i.indisclustered AS needed, pg_stat_get_numscans(c.oid) AS scans, sum(c.relpages::bigint) OVER (PARTITION BY i.indrelid) AS all_pages \
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relkind = 'i' AND c.relpages >= 128 AND i.indisvalid) \
             SELECT n.nspname AS schema, t.relname AS table_name, x.relname AS name, x.needed, x.scans, \
             x.relpages::bigint * b.size AS bytes, x.all_pages * b.size AS all_bytes, (t.relpages::bigint + coalesce(o.relpages, 0)) * b.size AS table_bytes, \
             pg_stat_get_tuples_inserted(t.oid) + pg_stat_get_tuples_updated(t.oid) - pg_stat_get_tuples_hot_updated(t.oid) AS writes, \
             CASE WHEN NOT x.needed THEN pg_get_indexdef(x.indexrelid) END AS definition, ",
            statistics_age!(),
            " AS age, ",
            streaming_standbys!(),
            " AS streaming FROM x JOIN pg_class t ON t.oid = x.indrelid LEFT JOIN pg_class o ON o.oid = t.reltoastrelid \
             JOIN pg_namespace n ON n.oid = t.relnamespace, (SELECT current_setting('block_size')::bigint AS size) b \
             WHERE ((x.scans > 0 OR pg_is_in_recovery()) AND NOT x.needed OR x.all_pages > t.relpages) AND x.all_pages >= 1280 AND ",
            user_schema!("n"),
            " AND ",
            no_extension_owns!("pg_class", "t.oid"),
            " ORDER BY n.nspname, t.relname, x.relpages DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut tables = Vec::new();
    let (mut hardly_read, mut observed, mut streaming) = (Vec::new(), None, 0);
    let mut last = String::new();
    for row in rows.iter() {
        let table = quote::qualified(row.str("schema")?, row.str("table_name")?);
        if table != last {
            tables.extend(overgrown(scene, &table, row, rows)?);
            last.clone_from(&table);
        }
        let age = row.opt_f64("age")?;
        if let Some(finding) = written_not_read(scene, &table, row, age)? {
            (observed, streaming) = (age, row.i64("streaming")?);
            hardly_read.push(finding);
        }
    }
    match not_yet(scene, observed, streaming, hardly_read.len()) {
        Some(reason) if !hardly_read.is_empty() => Ok(Verdict::of(tables).but_unknown("reads of indexes", reason)),
        _ => Ok(Verdict::of(tables.into_iter().chain(hardly_read).collect())),
    }
}

/// A table that is much smaller than its indexes.
fn overgrown(scene: &Scene<'_>, table: &str, row: Row<'_>, rows: &Rows) -> Result<Option<Finding>, surus_pg::RowError> {
    let (all, own) = (row.f64("all_bytes")?, row.f64("table_bytes")?);
    let ratio = all / own.max(1.0);
    let graded = scene.grade("ratio", ratio).filter(|_| own > 0.0 && scene.grade("table_indexes", all).is_some());
    let Some(severity) = graded else { return Ok(None) };
    let mut finding =
        Finding::new(severity, table, format!("the indexes of {table} are {ratio:.1} times the size of the table"))
            .detail("Writes maintain and caches hold more index than table.")
            .measured("estimated size of all indexes", all, "bytes")
            .measured("estimated size of the table", own, "bytes");
    for one in rows.iter() {
        if (one.str("schema")?, one.str("table_name")?) == (row.str("schema")?, row.str("table_name")?) {
            let seen = format!("{} with {} scans", size(one.f64("bytes")?), human_count(one.i64("scans")?));
            finding = finding.saw(format!("index {}", one.str("name")?), seen);
        }
    }
    let advice = "see idx.unused, idx.duplicate, idx.redundant and idx.bloat for what can go; replace wide indexes by narrower ones";
    Ok(Some(finding.fix(Plan::advice(advice))))
}

/// An index that is written very much more often than it is read. A standby counts no writes; there it is enough that
/// it is hardly read, and the primary's word about writes decides.
fn written_not_read(
    scene: &Scene<'_>,
    table: &str,
    row: Row<'_>,
    age: Option<f64>,
) -> Result<Option<Finding>, surus_pg::RowError> {
    let (bytes, scans, writes) = (row.f64("bytes")?, row.i64("scans")?, row.i64("writes")?);
    let days = age.unwrap_or(0.0) / 86_400.0;
    let per_day = scans as f64 / days.max(1.0 / 86_400.0);
    let per_scan = writes as f64 / (scans.max(1)) as f64;
    let written = scene.facts.in_recovery || (scans > 0 && scene.grade("writes_per_scan", per_scan).is_some());
    if row.bool("needed")?
        || !written
        || scene.grade("size", bytes).is_none()
        || scene.grade("scans_per_day", per_day).is_none()
    {
        return Ok(None);
    }
    let name = quote::qualified(row.str("schema")?, row.str("name")?);
    let definition = row.str("definition")?;
    let title = format!("{name} ({}) is written {} times for each scan", size(bytes), human_count(per_scan as i64));
    Ok(Some(
        Finding::warn(&name, title)
            .detail(format!(
                "In {} it was scanned {scans} times; changes of {table} pay for it.",
                human_seconds(age.unwrap_or(0.0))
            ))
            .saw("definition", definition)
            .measured("rows written to it at most", writes, "rows")
            .measured("scans", scans, "scans")
            .measured("estimated size", bytes, "bytes")
            .measured("statistics cover", age.unwrap_or(0.0), "s")
            .fix(drop_advice(
                &name,
                definition,
                "if the few queries that use it can do without, or with a narrower one",
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_an_index_that_is_written_and_hardly_read() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE t(id int PRIMARY KEY, a int, b int) WITH (autovacuum_enabled = off); CREATE INDEX rarely ON t(a); CREATE INDEX often ON t(b); \
                 INSERT INTO t SELECT g, g, g FROM generate_series(1, 2000) g; ANALYZE t; \
                 UPDATE pg_class SET relpages = 20000 WHERE relname IN ('rarely', 'often'); UPDATE pg_class SET relpages = 30000 WHERE relname = 't'; \
                 SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT b FROM t WHERE a = 7; \
                 DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM a FROM t WHERE b = i; END LOOP; END $$",
            );
            on.until(
                "SELECT pg_stat_get_numscans('rarely'::regclass) * pg_stat_get_numscans('often'::regclass) > 0 AS v",
            );
            assert!(on.findings().is_empty(), "a second of statistics is read often");
            on.limit("writes_per_scan", 1000.0);
            on.limit("scans_per_day", 1e9);
            assert_eq!(on.report().unknown[0].object, "reads of indexes");
            on.limit("observed", 0.0);
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
            assert_eq!(keys, ["idx.write_heavy:postgres/public.rarely"]);
        });
    }

    #[test]
    fn sees_a_table_that_is_smaller_than_its_indexes() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE t(id int PRIMARY KEY, a int); CREATE INDEX a ON t(a); CREATE TABLE fine(id int PRIMARY KEY); \
                 UPDATE pg_class SET relpages = 100000 WHERE relname IN ('t_pkey', 'a', 'fine_pkey', 'fine'); UPDATE pg_class SET relpages = 60000 WHERE relname = 't'",
            );
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["idx.write_heavy:postgres/public.t"]);
            assert!(found[0].title.contains("3.3 times"), "{}", found[0].title);
        });
    }
}
