use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::{listed, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "name.truncate",
    title: "names are as long as PostgreSQL allows and were probably cut",
    inspects: "names of max_identifier_length bytes in pg_class, pg_attribute, pg_constraint, pg_proc, pg_trigger",
    why: "PostgreSQL cuts longer names with no more than a notice. Two long names can become one, and a migration that looks \
          for the name it wrote does not find it.",
    remedy: "Give such objects a shorter name.",
    source: "pg-index-health objects whose names have reached the maximum length",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// One row per kind with its first names. Partitions and clones repeat their parent's names.
const SQL: &str = concat!(
    "WITH named AS ( \
       SELECT CASE c.relkind WHEN 'i' THEN 'index' WHEN 'I' THEN 'index' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' \
         WHEN 'S' THEN 'sequence' ELSE 'table' END AS kind, c.relnamespace AS schema, NULL::name AS owner, c.relname AS name \
       FROM pg_class c WHERE c.oid >= 16384 AND octet_length(c.relname) >= (SELECT current_setting('max_identifier_length')::int) AND NOT c.relispartition AND c.relkind IN ('r', 'p', 'i', 'I', 'v', 'm', 'S', 'f') \
       UNION ALL SELECT 'column', c.relnamespace, c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
       WHERE a.attrelid >= 16384 AND octet_length(a.attname) >= (SELECT current_setting('max_identifier_length')::int) AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
       AND NOT c.relispartition \
       UNION ALL SELECT 'constraint', k.connamespace, c.relname, k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid \
       WHERE octet_length(k.conname) >= (SELECT current_setting('max_identifier_length')::int) AND k.conislocal AND k.conparentid = 0 AND k.conindid = 0 \
       UNION ALL SELECT 'function', p.pronamespace, NULL, p.proname FROM pg_proc p WHERE p.oid >= 16384 AND octet_length(p.proname) >= (SELECT current_setting('max_identifier_length')::int) \
       UNION ALL SELECT 'trigger', c.relnamespace, c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
       WHERE octet_length(t.tgname) >= (SELECT current_setting('max_identifier_length')::int) AND NOT t.tgisinternal AND t.tgparentid = 0), \
     ranked AS (SELECT kind, n.nspname, owner, name, count(*) OVER (PARTITION BY kind) AS names, \
       row_number() OVER (PARTITION BY kind ORDER BY n.nspname, owner, name) AS nth \
       FROM named JOIN pg_namespace n ON n.oid = named.schema WHERE ",
    user_schema!("n"),
    ") SELECT kind, names, nspname AS schema, owner, name FROM ranked WHERE nth <= 10 ORDER BY kind, nth"
);

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut kinds: Vec<(&str, i64, Vec<String>)> = Vec::new();
    for row in rows.iter() {
        let name = match row.opt_str("owner")? {
            Some(owner) => {
                format!("{} of {}", quote::ident(row.str("name")?), quote::qualified(row.str("schema")?, owner))
            }
            None => quote::qualified(row.str("schema")?, row.str("name")?),
        };
        let kind = row.str("kind")?;
        match kinds.last_mut() {
            Some(last) if last.0 == kind => last.2.push(name),
            _ => kinds.push((kind, row.i64("names")?, vec![name])),
        }
    }
    let findings = kinds.into_iter().map(|(kind, total, names)| {
        let noun = if total == 1 { "name has" } else { "names have" };
        let advice = match kind {
            "column" => "ALTER TABLE … RENAME COLUMN … TO …".to_owned(),
            "constraint" => "ALTER TABLE … RENAME CONSTRAINT … TO …".to_owned(),
            "trigger" => "ALTER TRIGGER … ON … RENAME TO …".to_owned(),
            kind => format!("ALTER {} … RENAME TO …", kind.to_uppercase()),
        };
        Finding::info(
            kind,
            format!("{total} {kind} {noun} the greatest length that is possible: {}", listed(&names, total, 2)),
        )
        .detail("They were probably longer when they were written, and PostgreSQL cut them.")
        .measured("names", total, "names")
        .saw("first of them", names)
        .fix(Plan::advice(format!("{advice}, together with the code that uses the name")))
    });
    Ok(Verdict::of(findings.collect()))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_names_that_were_cut() {
        seeded(&CHECK, |on| {
            let (long, fits) = ("x".repeat(70), "y".repeat(62));
            on.sql(&format!(
                "CREATE TABLE {long}(a int, {long} int); CREATE INDEX i{long} ON {long}(a); CREATE TABLE {fits}({fits} int)"
            ));
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["name.truncate:postgres/column", "name.truncate:postgres/index", "name.truncate:postgres/table"]
            );
            assert!(found[2].title.contains(&format!("public.{}", "x".repeat(63))), "{}", found[2].title);
        });
    }
}
