use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "tbl.huge",
    title: "a very large table that grows with time is not partitioned",
    inspects: "pg_class.relpages of tables with a date or timestamp column, TOAST included (estimated)",
    why: "VACUUM, index builds and deleting old rows take hours on one huge table, and a rewrite is out of the question. \
          Partitions by time are vacuumed one by one and dropped in an instant.",
    remedy: "Partition it by the time column while it is still possible to move the rows at leisure.",
    source: "surus; 100 GB is where a full scan passes about half an hour at 50 MB/s",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("size", "bytes", 100.0 * 1024.0 * 1024.0 * 1024.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// The largest are enough; a time column that the primary key or an index begins with is the likeliest.
const SQL: &str = concat!(
    "WITH large AS (SELECT c.oid, n.nspname, c.relname, greatest(c.reltuples, 0)::bigint AS rows, \
       (c.relpages::bigint + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint AS bytes \
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
       WHERE c.relkind = 'r' AND NOT c.relispartition AND ",
    user_schema!("n"),
    " AND ",
    no_extension_owns!("pg_class", "c.oid"),
    " ORDER BY 5 DESC LIMIT 50) \
     SELECT l.nspname AS schema, l.relname AS name, l.rows, l.bytes, at.attname FROM large l CROSS JOIN LATERAL \
       (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped \
       AND a.atttypid IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) \
       ORDER BY NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND i.indkey[0] = a.attnum), NOT a.attnotnull, a.attnum \
       LIMIT 1) at ORDER BY l.bytes DESC"
);

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let bytes = row.i64("bytes")?;
        if scene.grade("size", bytes as f64).is_none() {
            continue;
        }
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let column = quote::ident(row.str("attname")?);
        let advice = format!(
            "CREATE TABLE … (LIKE {table} INCLUDING ALL) PARTITION BY RANGE ({column}), attach {table} to it as the partition \
             of the past after a validated CHECK on {column}, and make partitions for the time to come; every unique key \
             must contain {column}"
        );
        findings.push(
            Finding::info(
                table.as_str(),
                format!("{table} has about {} and no partitions", Bytes(bytes.unsigned_abs())),
            )
            .detail(format!("Its column {column} suggests that it grows with time."))
            .measured("estimated size", bytes, "bytes")
            .measured("estimated rows", row.i64("rows")?, "rows")
            .saw("time column", row.str("attname")?)
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
    fn sees_a_huge_time_table_only() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE events(id bigint PRIMARY KEY, noted date, at timestamptz NOT NULL); CREATE INDEX ON events(at); \
                 CREATE TABLE blobs(id int); CREATE TABLE small(at timestamptz); SET allow_system_table_mods = on; \
                 UPDATE pg_class SET relpages = 20000000, reltuples = 1e9 WHERE relname IN ('events', 'blobs')",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [("tbl.huge:postgres/public.events", "info")]
            );
            assert!(found[0].detail.contains("column at "), "{}", found[0].detail);
        });
    }
}
