use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Trouble, Verdict},
    widening,
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
};
use surus_pg::{Row, quote};

pub static CHECK: Check = Check {
    id: "fk.type_mismatch",
    title: "a foreign key's column has another type than the key it references",
    inspects: "pg_constraint and pg_attribute: types of referencing and referenced columns",
    why: "The narrower of the two types decides what can be stored: an integer column that references a bigint key fails once \
          the key passes 2147483647. Between some types the comparison also converts every value, which costs the index.",
    remedy: "Give both columns the same type, the one of the referenced key.",
    source: "pg-index-health foreign keys with unmatched column type",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Custom(look),
};

/// varchar and text are one type to the comparison. Domains count as what they are made of.
///
/// Nearly all keys have one column; only for those that differ are names looked up.
const SQL: &str = concat!(
    "WITH fk AS MATERIALIZED (SELECT oid, conrelid, confrelid, conkey, confkey FROM pg_constraint WHERE contype = 'f' AND conparentid = 0), \
     differs AS MATERIALIZED (SELECT fk.oid, a.attnum, fa.attnum AS key_attnum FROM fk \
         JOIN pg_attribute a ON a.attrelid = fk.conrelid AND a.attnum = fk.conkey[1] \
         JOIN pg_attribute fa ON fa.attrelid = fk.confrelid AND fa.attnum = fk.confkey[1] WHERE a.atttypid <> fa.atttypid \
       UNION ALL SELECT m.oid, a.attnum, fa.attnum FROM (SELECT oid, conrelid, confrelid, unnest(conkey[2:]) AS attnum, \
           unnest(confkey[2:]) AS key_attnum FROM fk WHERE array_length(conkey, 1) > 1) m \
         JOIN pg_attribute a ON a.attrelid = m.conrelid AND a.attnum = m.attnum \
         JOIN pg_attribute fa ON fa.attrelid = m.confrelid AND fa.attnum = m.key_attnum WHERE a.atttypid <> fa.atttypid), \
     base AS (SELECT oid, CASE WHEN typtype = 'd' THEN typbasetype ELSE oid END AS base FROM pg_type) \
     SELECT n.nspname AS schema, c.relname AS name, k.conname, fn.nspname AS key_schema, fc.relname AS key_name, \
       a.attname, format_type(a.atttypid, a.atttypmod) AS type, fa.attname AS key_attname, \
       format_type(fa.atttypid, fa.atttypmod) AS key_type, k.confrelid::bigint AS key_relid, fa.attnum AS key_attnum, \
       t.base IN ('int2'::regtype, 'int4'::regtype) AND ft.base IN ('int4'::regtype, 'int8'::regtype) AS narrower, \
       ft.base = 'int8'::regtype AS key_is_bigint, \
       t.base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND ft.base IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AS integers \
     FROM differs d JOIN pg_constraint k ON k.oid = d.oid \
     JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = d.attnum JOIN pg_attribute fa ON fa.attrelid = k.confrelid AND fa.attnum = d.key_attnum \
     JOIN base t ON t.oid = a.atttypid JOIN base ft ON ft.oid = fa.atttypid \
     JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_class fc ON fc.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = fc.relnamespace \
     WHERE t.base <> ft.base \
     AND NOT (t.base IN ('text'::regtype, 'varchar'::regtype) AND ft.base IN ('text'::regtype, 'varchar'::regtype)) AND ",
    user_schema!("n"),
    " ORDER BY n.nspname, c.relname, k.conname, a.attnum"
);

fn look<'a>(_: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(SQL).await?;
        let mut findings = Vec::new();
        for row in rows.iter() {
            findings.push(finding(access, row).await?);
        }
        Ok(Verdict::of(findings))
    })
}

async fn finding(access: Access<'_>, row: Row<'_>) -> Result<Finding, Trouble> {
    let table = quote::qualified(row.str("schema")?, row.str("name")?);
    let column = quote::ident(row.str("attname")?);
    let key = format!(
        "{}.{}",
        quote::qualified(row.str("key_schema")?, row.str("key_name")?),
        quote::ident(row.str("key_attname")?)
    );
    let (kind, key_type) = (row.str("type")?, row.str("key_type")?);
    let narrower = row.bool("narrower")?;
    let advice = format!(
        "ALTER TABLE {table} ALTER COLUMN {column} TYPE {key_type} rewrites the table under ACCESS EXCLUSIVE; add USING \
         {column}::{key_type} where there is no automatic conversion"
    );
    let mut plan = Plan::advice(advice);
    if narrower
        && row.bool("key_is_bigint")?
        && let Some((_, references)) =
            widening::columns(access.session, row.i64("key_relid")?, row.i64("key_attnum")?).await?
        && let Some(own) = references.iter().find(|one| one.is(row, "schema", "name", "attname"))
    {
        plan = widening::plan(own, &[], Vec::new());
    }
    // An integer column that is wider than its key wastes room and nothing else.
    let wider = row.bool("integers")? && !narrower;
    let severity = if wider { Severity::Info } else { Severity::Warn };
    let detail = match narrower {
        _ if wider => format!("It can never hold more than {key_type} does, so its width is of no use."),
        true => format!("{kind} ends long before {key_type} does; rows with higher keys cannot be referenced."),
        false => format!("Each comparison of {kind} with {key_type} converts one of them, and an index may not help."),
    };
    Ok(Finding::new(
        severity,
        format!("{table}.{}", quote::ident(row.str("conname")?)),
        format!("{table}.{column} is {kind} but references {key}, which is {key_type}"),
    )
    .detail(detail)
    .saw("type", kind)
    .saw("referenced type", key_type)
    .saw("constraint", row.str("conname")?)
    .fix(plan))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_types_that_differ_and_not_those_that_compare_as_one() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE parent(id bigint PRIMARY KEY, code text UNIQUE, price numeric UNIQUE); CREATE DOMAIN ref AS bigint; \
                 CREATE TABLE child(a int REFERENCES parent, b varchar(9) REFERENCES parent(code), c ref REFERENCES parent, \
                 d bigint REFERENCES parent, e int REFERENCES parent(price)); \
                 CREATE TABLE small(id int PRIMARY KEY); CREATE TABLE big(id bigint REFERENCES small)",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                // Worst first; a referencing column that is merely too wide comes last.
                [
                    "fk.type_mismatch:postgres/public.child.child_a_fkey",
                    "fk.type_mismatch:postgres/public.child.child_e_fkey",
                    "fk.type_mismatch:postgres/public.big.big_id_fkey"
                ]
            );
            let plan = |at: usize| found[at].fix.as_ref().unwrap();
            assert_eq!((plan(0).is_applicable(), plan(1).is_applicable()), (true, false));
            assert_eq!(plan(0).steps.len(), 1);
        });
    }
}
