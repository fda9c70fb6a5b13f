use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    user_objects::{no_extension_owns, user_schema},
    user_rows::{self, Read},
    verdict::{Trouble, Verdict},
    widening,
};
use std::{collections::BTreeMap, time::Duration};
use surus_core::{
    finding::{Finding, Reason},
    size::human_count,
};
use surus_pg::quote;

pub static CHECK: Check = Check {
    id: "pk.int4",
    title: "an integer key that the application numbers itself nears its end",
    inspects: "primary keys of type smallint or integer without a sequence: the largest value, by one index look-up per table",
    why: "An integer key ends at 2147483647 whoever hands out the numbers: an application, an import or another database. \
          After that every INSERT fails until the column has been made wider.",
    remedy: "Make the column (and every column that references it) bigint while there is time.",
    source: "postgres_ai checkup, integer primary keys; thresholds half and three quarters of the type's range",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("used", "%", 50.0, 75.0)],
    look: Look::Custom(look),
};

/// Narrow keys that no sequence feeds and that are no foreign key (their parent is asked). Before 17 only the root of a
/// partition tree shows that a column is an identity column.
const KEYS: &str = concat!(
    "WITH fed AS MATERIALIZED ( \
       SELECT ad.adrelid AS relid, ad.adnum AS attnum FROM pg_depend d JOIN pg_attrdef ad ON ad.oid = d.objid \
       JOIN pg_sequence q ON q.seqrelid = d.refobjid WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass \
       UNION SELECT d.refobjid, d.refobjsubid FROM pg_depend d JOIN pg_sequence q ON q.seqrelid = d.objid \
       WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0), \
     narrow AS MATERIALIZED (SELECT c.oid AS relid, c.relname, c.relnamespace, c.reltuples, a.attnum, a.attname, \
       format_type(a.atttypid, NULL) AS type, CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END AS root \
       FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0] \
       WHERE i.indisprimary AND i.indisvalid AND c.relkind = 'r' AND (i.indnkeyatts = 1 OR c.relispartition) \
       AND c.relpersistence <> 't' AND (c.relpersistence = 'p' OR NOT pg_is_in_recovery()) \
       AND a.atttypid IN ('int2'::regtype, 'int4'::regtype) AND a.attidentity = '') \
     SELECT k.relid::bigint AS relid, r.oid::bigint AS root, ra.attnum, n.nspname AS schema, k.relname AS name, k.attname, k.type, \
       rn.nspname AS root_schema, r.relname AS root_name, \
       has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(k.relid, k.attnum, 'SELECT') AS readable \
     FROM narrow k JOIN pg_namespace n ON n.oid = k.relnamespace JOIN pg_class r ON r.oid = k.root \
     JOIN pg_namespace rn ON rn.oid = r.relnamespace JOIN pg_attribute ra ON ra.attrelid = r.oid AND ra.attname = k.attname \
     WHERE ra.attidentity = '' AND NOT EXISTS (SELECT FROM fed f WHERE f.relid = k.relid AND f.attnum = k.attnum) \
     AND NOT EXISTS (SELECT FROM fed f WHERE f.relid = r.oid AND f.attnum = ra.attnum) \
     AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = k.relid AND f.conkey = ARRAY[k.attnum]) AND ",
    user_schema!("n"),
    " AND ",
    no_extension_owns!("pg_class", "k.relid"),
    " ORDER BY k.reltuples DESC, k.relid"
);

/// The largest tables come first; beyond the first many, reading ends after this time.
const BUDGET: Duration = Duration::from_millis(500);

struct Key {
    table: String,
    column: String,
    type_name: String,
    root: i64,
    attnum: i64,
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(KEYS).await?;
        let (mut keys, mut items, mut hidden) = (BTreeMap::new(), Vec::new(), 0);
        for row in rows.iter() {
            if !row.bool("readable")? {
                hidden += 1;
                continue;
            }
            let relid = row.i64("relid")?;
            let (table, column) =
                (quote::qualified(row.str("schema")?, row.str("name")?), quote::ident(row.str("attname")?));
            items.push((
                table.clone(),
                format!("SELECT {relid}::bigint AS relid, (SELECT max({column}) FROM ONLY {table})::bigint AS largest"),
            ));
            keys.insert(
                relid,
                Key {
                    table: quote::qualified(row.str("root_schema")?, row.str("root_name")?),
                    column,
                    type_name: row.text("type")?,
                    root: row.i64("root")?,
                    attnum: row.i64("attnum")?,
                },
            );
        }
        let Read { answers, failed, left } = user_rows::read(access.session, &items, BUDGET).await?;
        // Partitions of one table share one key space.
        let mut largest: BTreeMap<i64, (&Key, i64)> = BTreeMap::new();
        for row in answers.iter().flat_map(|rows| rows.iter()) {
            if let (Some(key), Some(value)) = (keys.get(&row.i64("relid")?), row.opt_i64("largest")?) {
                let slot = largest.entry(key.root).or_insert((key, value));
                slot.1 = slot.1.max(value);
            }
        }
        let mut verdict = Verdict::ok();
        for (key, value) in largest.into_values() {
            verdict.findings.extend(finding(scene, access, key, value).await?);
        }
        if hidden > 0 {
            let grant =
                format!("{hidden} tables are not readable: GRANT pg_read_all_data TO {}", scene.facts.role.name);
            verdict = verdict.but_unknown("tables without SELECT", Reason::Privilege(grant));
        }
        if left > 0 {
            let text =
                format!("{left} of {} tables were not asked for their largest key; they are the smallest", rows.len());
            verdict = verdict.but_unknown("smaller tables", Reason::Timeout(text));
        }
        Ok(failed.into_iter().fold(verdict, |verdict, (name, reason)| verdict.but_unknown(name, reason)))
    })
}

async fn finding(scene: &Scene<'_>, access: Access<'_>, key: &Key, largest: i64) -> Result<Option<Finding>, Trouble> {
    let limit = if key.type_name == "smallint" { i64::from(i16::MAX) } else { i64::from(i32::MAX) };
    let percent = 100.0 * largest as f64 / limit as f64;
    let Some(severity) = scene.grade("used", percent) else { return Ok(None) };
    let name = format!("{}.{}", key.table, key.column);
    let mut finding = Finding::new(
        severity,
        name.as_str(),
        format!("the key {name} has reached {percent:.1} % of {}: {}", key.type_name, human_count(largest)),
    )
    .detail("No sequence feeds it, so surus looked at its largest value. Beyond the type's end every INSERT fails.")
    .measured("used", percent, "%")
    .saw("largest value", largest)
    .saw("limit", limit);
    if let Some((column, references)) = widening::columns(access.session, key.root, key.attnum).await? {
        finding = finding.fix(widening::plan(&column, &references, Vec::new()));
    }
    Ok(Some(finding))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_keys_that_no_sequence_feeds_and_partitions_as_one() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE imported(id int PRIMARY KEY); INSERT INTO imported VALUES (2000000000); \
                 CREATE TABLE child(id int PRIMARY KEY REFERENCES imported); INSERT INTO child SELECT * FROM imported; \
                 CREATE TABLE tiny(id smallint PRIMARY KEY); INSERT INTO tiny VALUES (17000); \
                 CREATE TABLE fed(id serial PRIMARY KEY); INSERT INTO fed VALUES (2000000000); \
                 CREATE TABLE low(id int PRIMARY KEY); INSERT INTO low VALUES (1000); CREATE TABLE nothing(id int PRIMARY KEY); \
                 CREATE TABLE parts(id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at); \
                 CREATE TABLE parts1 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); \
                 CREATE TABLE parts2 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01'); \
                 INSERT INTO parts VALUES (1900000000, '2024-05-05'), (1900000001, '2025-05-05')",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.object.as_str(), f.severity.word())).collect();
            assert_eq!(seen, [("public.imported.id", "crit"), ("public.parts.id", "crit"), ("public.tiny.id", "warn")]);
            let plan = found[0].fix.as_ref().unwrap();
            assert_eq!(plan.steps.len(), 2, "the referencing column comes along");
            assert!(plan.is_applicable());
        });
    }

    #[test]
    fn a_locked_table_hides_no_other() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE locked(id int PRIMARY KEY); CREATE TABLE open(id int PRIMARY KEY); INSERT INTO open VALUES (2000000000)");
            on.server.expect_log("canceling statement due to lock timeout");
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; LOCK public.locked");
            let report = on.report();
            assert_eq!(report.findings.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.open.id"]);
            assert_eq!(report.unknown[0].reason.kind(), "locked");
        });
    }
}
