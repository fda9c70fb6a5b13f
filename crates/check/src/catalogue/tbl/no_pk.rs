use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "tbl.no_pk",
    title: "a table has no primary key",
    inspects: "pg_class and pg_index: tables without a primary key or a unique index over NOT NULL columns",
    why: "Without a key a row cannot be named: duplicates cannot be removed safely, logical replication refuses UPDATE and \
          DELETE, and tools that copy or compare data cannot tell rows apart.",
    remedy: "Add a primary key; a bigint identity column where no natural key exists.",
    source: "splinter 0004 no_primary_key; pg-index-health tables_without_primary_key",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT n.nspname AS schema, c.relname AS name, c.reltuples::bigint AS rows \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%' \
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
             AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR (i.indisunique AND i.indimmediate \
               AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a \
               WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)))) \
             ORDER BY c.reltuples DESC",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let advice = format!(
            "ALTER TABLE {table} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY rewrites the \
                              table under ACCESS EXCLUSIVE; if a natural key exists, build a unique index concurrently and add \
                              the key USING INDEX instead"
        );
        findings.push(
            Finding::warn(table.as_str(), format!("{table} has no primary key"))
                .detail("Its rows cannot be told apart; logical replication refuses UPDATE and DELETE on it.")
                .measured("estimated rows", row.i64("rows")?.max(0), "rows")
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
    fn sees_a_table_without_key_and_no_other() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE keyless(a int); CREATE TABLE keyed(a int PRIMARY KEY); CREATE TABLE unique_only(a int NOT NULL UNIQUE)");
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.keyless"]);
            assert_eq!(found[0].key, "tbl.no_pk:postgres/public.keyless");
        });
    }
}
