use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "up.blockers",
    title: "something in the database stops an upgrade to a newer major",
    inspects: "columns of reg* and removed types, extensions and operators that newer majors do not have, prepared transactions",
    why: "pg_upgrade refuses to start, or a restore stops half way, when the database holds what the new major does not know. \
          That is found on the night of the upgrade unless somebody looks before.",
    remedy: "Change or drop each of them before the upgrade; none is needed by the new major.",
    source: "the checks of pg_upgrade and the incompatibilities in the release notes of PostgreSQL 14 to 18; splinter",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[
            Sql::since(18, concat!(always!(), order!())),
            Sql::since(16, concat!(always!(), before_18!(), order!())),
            Sql::since(14, concat!(always!(), before_18!(), before_16!(), order!())),
            Sql::until(13, concat!(always!(), before_18!(), before_16!(), before_14!(), order!())),
        ],
        judge,
    ),
};

/// pg_upgrade does not carry over the numbers in these types, nor row types of system catalogs.
macro_rules! always {
    () => {
        concat!(
            "WITH lost AS MATERIALIZED (SELECT oid FROM pg_type WHERE typtype = 'c' AND oid < 16384 OR oid IN ('regproc'::regtype, \
               'regprocedure'::regtype, 'regoper'::regtype, 'regoperator'::regtype, 'regconfig'::regtype, 'regdictionary'::regtype, \
               'regcollation'::regtype, 'regnamespace'::regtype, 'aclitem'::regtype, 'aclitem[]'::regtype)), \
             col AS MATERIALIZED (SELECT n.nspname, c.relname, a.attname, a.atttypid FROM pg_attribute a JOIN lost ON lost.oid = a.atttypid \
               JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE a.attrelid >= 16384 AND c.relkind IN ('r', 'm', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND ",
            user_schema!("n"),
            " AND ",
            no_extension_owns!("pg_class", "c.oid"),
            ") SELECT 'type' AS kind, nspname AS schema, relname AS name, attname AS part, format_type(atttypid, NULL) AS what FROM col \
             WHERE atttypid NOT IN ('aclitem'::regtype, 'aclitem[]'::regtype) \
             UNION ALL SELECT 'extension', NULL, extname, NULL, extversion FROM pg_extension \
               WHERE extname IN ('adminpack', 'old_snapshot', 'plpython2u', 'plpythonu', 'chkpass', 'timetravel', 'tsearch2') \
             UNION ALL SELECT 'prepared', NULL, gid, NULL, owner::text FROM pg_prepared_xacts WHERE database = current_database()"
        )
    };
}
use always;

/// PostgreSQL 18 has NOT NULL as constraints, which a child must share with its parent.
macro_rules! before_18 {
    () => {
        concat!(
            " UNION ALL SELECT 'not null', n.nspname, c.relname, a.attname, p.relname::text FROM pg_inherits i \
               JOIN pg_class c ON c.oid = i.inhrelid AND c.relkind = 'r' AND NOT c.relispartition JOIN pg_class p ON p.oid = i.inhparent \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_attribute pa ON pa.attrelid = p.oid AND pa.attnum > 0 AND pa.attnotnull AND NOT pa.attisdropped \
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = pa.attname AND NOT a.attnotnull WHERE ",
            user_schema!("n")
        )
    };
}
use before_18;

/// The format of aclitem changed in 16.
macro_rules! before_16 {
    () => {
        " UNION ALL SELECT 'type', nspname, relname, attname, format_type(atttypid, NULL) FROM col \
           WHERE atttypid IN ('aclitem'::regtype, 'aclitem[]'::regtype)"
    };
}
use before_16;

/// 14 removed postfix operators and changed the signatures of array functions and encoding conversions.
macro_rules! before_14 {
    () => {
        " UNION ALL SELECT 'postfix', n.nspname, o.oprname, NULL, format_type(o.oprleft, NULL) FROM pg_operator o \
           JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oprright = 0 AND o.oid >= 16384 \
         UNION ALL SELECT 'conversion', n.nspname, c.conname, NULL, c.conproc::text FROM pg_conversion c \
           JOIN pg_namespace n ON n.oid = c.connamespace WHERE c.oid >= 16384 \
         UNION ALL SELECT 'aggregate', n.nspname, p.proname, NULL, a.aggtransfn::text FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid \
           JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid >= 16384 AND a.aggtransfn::oid IN (SELECT oid FROM pg_proc \
           WHERE oid < 16384 AND proname IN ('array_append', 'array_cat', 'array_prepend', 'array_remove', 'array_replace', \
             'array_position', 'array_positions', 'width_bucket'))"
    };
}
use before_14;

macro_rules! order {
    () => {
        " ORDER BY 1, 2, 3, 4"
    };
}
use order;

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    rows.iter().map(finding).collect::<Result<_, _>>().map(Verdict::of).map_err(Into::into)
}

fn finding(row: Row<'_>) -> Result<Finding, RowError> {
    let what = row.text("what")?;
    let name = match row.opt_str("schema")? {
        Some(schema) => quote::qualified(schema, row.str("name")?),
        None => quote::ident(row.str("name")?),
    };
    let part = row.opt_str("part")?.map(quote::ident).unwrap_or_default();
    let (object, title, detail, advice) = match row.str("kind")? {
        "type" => (
            format!("{name}.{part}"),
            format!("{name}.{part} is of type {what}, which pg_upgrade does not carry over"),
            "The column holds numbers of catalog rows, and those change with the upgrade.",
            format!("ALTER TABLE {name} ALTER COLUMN {part} TYPE text USING {part}::text"),
        ),
        "extension" => (
            name.clone(),
            format!("the extension {name} is gone in newer majors"),
            "The new server has no library for it, so pg_upgrade and a restore stop there.",
            format!("DROP EXTENSION {name}, after looking at what depends on it"),
        ),
        "prepared" => (
            format!("prepared transaction {name}"),
            format!("the prepared transaction {name} is open"),
            "pg_upgrade refuses to start while one exists.",
            format!(
                "ask its owner {what}, then COMMIT PREPARED or ROLLBACK PREPARED {}",
                quote::literal(row.str("name")?)
            ),
        ),
        "not null" => (
            format!("{name}.{part}"),
            format!("{name}.{part} may be null although it may not in the parent {what}"),
            "From PostgreSQL 18 on a child must share the parent's NOT NULL, and pg_upgrade checks it.",
            format!("ALTER TABLE {name} ALTER COLUMN {part} SET NOT NULL; it scans the table under ACCESS EXCLUSIVE"),
        ),
        "postfix" => (
            format!("{name} {what}"),
            format!("the postfix operator {name} for {what} is of a kind that PostgreSQL 14 removed"),
            "The new server cannot make it.",
            format!(
                "DROP OPERATOR {}.{} ({what}, NONE) and use a function instead",
                row.text("schema")?,
                row.str("name")?
            ),
        ),
        "conversion" => (
            name.clone(),
            format!("the encoding conversion {name} has a function of the form before PostgreSQL 14"),
            "The new server refuses a conversion function without the noError parameter.",
            format!("DROP CONVERSION {name} before the upgrade and make it with the new form after it"),
        ),
        _ => (
            name.clone(),
            format!("the aggregate {name} is built on {what}, whose arguments PostgreSQL 14 changed"),
            "The new server does not find a function of these types.",
            format!("drop the aggregate {name} before the upgrade and make it with anycompatiblearray after it"),
        ),
    };
    Ok(Finding::warn(object, title).detail(detail).saw(row.str("kind")?, what).fix(Plan::advice(advice)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_what_each_major_will_stumble_over() {
        seeded(&CHECK, |on| {
            on.configure(&[("max_prepared_transactions", "5")]);
            on.sql("CREATE TABLE t(a regproc, b regclass, c regnamespace, d aclitem, e pg_class); CREATE TABLE fine(a regrole, b text)");
            on.sql("BEGIN; CREATE TABLE in_doubt(a int); PREPARE TRANSACTION 'it''s'");
            let mut expected = vec!["prepared transaction \"it's\"", "public.t.a", "public.t.c", "public.t.e"];
            if on.major() < 18 {
                on.sql("CREATE TABLE parent(id int NOT NULL); CREATE TABLE child() INHERITS (parent); ALTER TABLE child ALTER id DROP NOT NULL");
                expected.push("public.child.id");
            }
            if on.major() < 16 {
                expected.push("public.t.d");
            }
            if on.major() < 14 {
                on.sql(
                    "CREATE OPERATOR public.!! (LEFTARG = bigint, FUNCTION = factorial); \
                     CREATE AGGREGATE public.gather(anyelement) (SFUNC = array_append, STYPE = anyarray, INITCOND = '{}')",
                );
                expected.extend(["public.\"!!\" bigint", "public.gather"]);
            }
            expected.sort_unstable();
            let mut found: Vec<_> = on.findings().into_iter().map(|f| f.object).collect();
            found.sort_unstable();
            assert_eq!(found, expected);
            on.sql("ROLLBACK PREPARED 'it''s'");
            assert_eq!(on.findings().len(), expected.len() - 1);
        });
    }
}
