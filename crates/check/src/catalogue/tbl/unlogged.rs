use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    verdict::{Judged, Verdict},
    widening::BYTES_PER_SECOND,
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Lock, Plan, Step},
    size::Bytes,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "tbl.unlogged",
    title: "a table is unlogged: a crash empties it",
    inspects: "pg_class.relpersistence of tables and sequences, against [check.declared] unlogged",
    why: "PostgreSQL writes no WAL for an unlogged table. After a crash it is empty, it does not exist on a standby, and it \
          cannot be restored to a point in time.",
    remedy: "SET LOGGED, unless losing the content is fine; then declare the table in [check.declared] unlogged.",
    source: "check_pgactivity table_unlogged; pg-index-health",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// A sequence that belongs to an unlogged table goes with it.
const SQL: &str = concat!(
    "SELECT n.nspname AS schema, c.relname AS name, c.relkind = 'S' AS sequence, greatest(c.reltuples, 0)::bigint AS rows, \
       (c.relpages::bigint + coalesce((SELECT sum(ic.relpages) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid \
       WHERE i.indrelid = c.oid), 0)) * current_setting('block_size')::bigint AS bytes \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relpersistence = 'u' AND c.relkind IN ('r', 'S', 'm') \
     AND NOT EXISTS (SELECT FROM pg_depend d WHERE c.relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = c.oid \
       AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')) AND ",
    user_schema!("n"),
    " AND ",
    no_extension_owns!("pg_class", "c.oid"),
    " ORDER BY n.nspname, c.relname"
);

/// Up to this size the rewrite is proposed as a step; it takes some twenty seconds under ACCESS EXCLUSIVE.
const REWRITE_BYTES: i64 = 1024 * 1024 * 1024;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = quote::qualified(row.str("schema")?, row.str("name")?);
        let plain = format!("{}.{}", row.str("schema")?, row.str("name")?);
        if scene.declared.unlogged.iter().any(|declared| *declared == name || *declared == plain) {
            continue;
        }
        let (kind, statement) = if row.bool("sequence")? { ("sequence", "SEQUENCE") } else { ("table", "TABLE") };
        let bytes = row.i64("bytes")?;
        let sql = |to: &str| format!("ALTER {statement} {name} SET {to}");
        let plan = if bytes <= REWRITE_BYTES {
            let step =
                Step::sql(sql("LOGGED"), Lock::AccessExclusive, "the content survives a crash and reaches standbys")
                    .interrupts(Interruption::Rewrite)
                    .takes((bytes as f64 / BYTES_PER_SECOND).max(0.1))
                    .undo_sql(sql("UNLOGGED"));
            Plan::one(format!("make {name} logged"), step)
        } else {
            Plan::advice(format!(
                "{} writes about {} to the table and to WAL under ACCESS EXCLUSIVE; do it in a quiet hour",
                sql("LOGGED"),
                Bytes(bytes.unsigned_abs())
            ))
        };
        findings.push(
            Finding::crit(name.as_str(), format!("the {kind} {name} is unlogged: a crash empties it"))
                .detail("It is also missing on every standby and in every restore to a point in time.")
                .measured("estimated rows", row.i64("rows")?, "rows")
                .measured("estimated size", bytes, "bytes")
                .fix(plan),
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
    fn sees_unlogged_tables_but_not_declared_or_temporary_ones() {
        seeded(&CHECK, |on| {
            on.sql("CREATE UNLOGGED TABLE hot(id int GENERATED ALWAYS AS IDENTITY); CREATE UNLOGGED TABLE cache(a int); CREATE TABLE logged(a int)");
            let session = on.session("postgres");
            on.run_in(&session, "CREATE TEMP TABLE temporary(a int)");
            on.options.config.declared.unlogged = vec!["public.cache".into()];
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["tbl.unlogged:postgres/public.hot"]);
            assert!(found[0].fix.as_ref().unwrap().is_applicable());
            on.sql("ALTER TABLE hot SET LOGGED");
            assert_eq!(on.findings(), []);
        });
    }
}
