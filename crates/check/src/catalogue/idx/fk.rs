use crate::{
    index::{estimated_bytes, seconds_to_write},
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use std::collections::BTreeSet;
use surus_core::{
    finding::{Finding, Severity},
    plan::{Lock, Plan, Step},
    size::human_count,
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "idx.fk",
    title: "a foreign key has no index",
    inspects: "pg_constraint and pg_index: the columns of each foreign key against the leading columns of the table's indexes",
    why: "When a row of the referenced table is deleted or its key changes, PostgreSQL looks for rows that refer to it. \
          Without an index on the referring columns it reads the whole table each time, while it holds locks.",
    remedy: "Build an index that begins with the foreign key's columns, in any order.",
    source: "splinter 0001 unindexed_foreign_keys; pg-index-health foreign_keys_without_index",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("rows", "rows", 1000.0), Threshold::warn_above("large", "rows", 1_000_000.0)],
    look: Look::Custom(look),
};

const UNCOVERED: &str = concat!(
    "SELECT n.nspname AS schema, t.relname AS table_name, t.relkind = 'p' AS partitioned, k.conname AS fk, \
     (SELECT array_agg(a.attname ORDER BY o.at) FROM unnest(k.conkey) WITH ORDINALITY o(num, at) \
       JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.num) AS columns, \
     pn.nspname AS parent_schema, p.relname AS parent, \
     CASE t.relkind WHEN 'p' THEN (SELECT sum(greatest(c.reltuples, pg_stat_get_live_tuples(c.oid))) FROM pg_inherits h \
       JOIN pg_class c ON c.oid = h.inhrelid WHERE h.inhparent = t.oid) \
       ELSE greatest(t.reltuples, pg_stat_get_live_tuples(t.oid)) END AS rows, ",
    estimated_bytes!("t"),
    " AS bytes, \
     CASE p.relkind WHEN 'p' THEN (SELECT sum(pg_stat_get_tuples_deleted(h.inhrelid)) FROM pg_inherits h WHERE h.inhparent = p.oid) \
       ELSE pg_stat_get_tuples_deleted(p.oid) END AS deleted, \
     CASE p.relkind WHEN 'p' THEN (SELECT sum(pg_stat_get_tuples_updated(h.inhrelid)) FROM pg_inherits h WHERE h.inhparent = p.oid) \
       ELSE pg_stat_get_tuples_updated(p.oid) END AS updated \
     FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace \
     JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace \
     JOIN pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = k.conkey[1] \
     WHERE k.contype = 'f' AND k.conparentid = 0 AND ",
    user_schema!("n"),
    " AND NOT EXISTS (SELECT FROM pg_depend own WHERE own.classid = 'pg_class'::regclass AND own.objid = k.conrelid AND own.deptype = 'e') \
     AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = k.conrelid AND i.indisvalid \
       AND i.indnkeyatts >= cardinality(k.conkey) AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey \
       AND (i.indpred IS NULL OR cardinality(k.conkey) = 1 \
         AND pg_get_expr(i.indpred, i.indrelid) = '(' || quote_ident(f.attname) || ' IS NOT NULL)')) \
     ORDER BY t.relpages DESC, n.nspname, t.relname, k.conname",
);

/// A foreign key without index.
struct Uncovered {
    schema: String,
    table: String,
    columns: Vec<String>,
    rows: f64,
    parent: String,
    used: i64,
}

impl Uncovered {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            schema: row.text("schema")?,
            table: row.text("table_name")?,
            columns: row.list("columns")?,
            rows: row.opt_f64("rows")?.unwrap_or(0.0).max(0.0),
            parent: quote::qualified(row.str("parent_schema")?, row.str("parent")?),
            used: row.opt_i64("deleted")?.unwrap_or(0) + row.opt_i64("updated")?.unwrap_or(0),
        })
    }

    fn object(&self) -> String {
        let columns: Vec<_> = self.columns.iter().map(|column| quote::ident(column)).collect();
        format!("{}.{}", quote::qualified(&self.schema, &self.table), columns.join(","))
    }
}

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(UNCOVERED).await?;
        let mut wanted = BTreeSet::new();
        for row in rows.iter() {
            let one = Uncovered::read(row)?;
            if scene.grade("rows", one.rows).is_none() {
                continue;
            }
            wanted.extend((0..TRIES).map(|attempt| index_name(&one.table, &one.columns, attempt)));
        }
        if wanted.is_empty() {
            return Ok(Verdict::ok());
        }
        let list: Vec<_> = wanted.iter().map(|name| quote::literal(name)).collect();
        let sql = format!(
            "SELECT n.nspname AS schema, c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname IN ({})",
            list.join(", ")
        );
        judge(scene, &rows, &access.session.ask(&sql).await?)
    })
}

fn judge(scene: &Scene<'_>, rows: &Rows, taken: &Rows) -> Judged {
    let mut taken: BTreeSet<(String, String)> =
        taken.iter().map(|row| Ok((row.text("schema")?, row.text("name")?))).collect::<Result<_, RowError>>()?;
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for row in rows.iter() {
        let key = Uncovered::read(row)?;
        if scene.grade("rows", key.rows).is_none() || !seen.insert(key.object()) {
            continue;
        }
        let severity = match key.used > 0 || scene.grade("large", key.rows).is_some() {
            true => Severity::Warn,
            false => Severity::Info,
        };
        let (object, fk) = (key.object(), row.str("fk")?);
        let table = quote::qualified(&key.schema, &key.table);
        let what = if key.columns.len() == 1 { "column" } else { "columns" };
        findings.push(
            Finding::new(severity, &object, format!("no index serves the foreign key {what} {object}"))
                .detail(format!(
                    "Every DELETE and every change of a key in {} reads all {} rows of {table} to look for references.",
                    key.parent,
                    human_count(key.rows as i64)
                ))
                .saw("foreign key", fk)
                .measured("estimated rows", key.rows, "rows")
                .measured("deleted in the referenced table", row.opt_i64("deleted")?.unwrap_or(0), "rows")
                .measured("updated in the referenced table", row.opt_i64("updated")?.unwrap_or(0), "rows")
                .fix(fix(&key, row.bool("partitioned")?, row.f64("bytes")?, &mut taken)),
        );
    }
    Ok(Verdict::of(findings))
}

fn fix(key: &Uncovered, partitioned: bool, bytes: f64, taken: &mut BTreeSet<(String, String)>) -> Plan {
    let free = (0..TRIES)
        .map(|attempt| index_name(&key.table, &key.columns, attempt))
        .find(|name| taken.insert((key.schema.clone(), name.clone())));
    let table = quote::qualified(&key.schema, &key.table);
    let columns = key.columns.iter().map(|column| quote::ident(column)).collect::<Vec<_>>().join(", ");
    let Some(name) = free else {
        return Plan::advice(format!("CREATE INDEX CONCURRENTLY ON {table} ({columns})"));
    };
    let bare = quote::ident(&name);
    if partitioned {
        return Plan::advice(format!(
            "CREATE INDEX {bare} ON ONLY {table} ({columns}); then CREATE INDEX CONCURRENTLY on each partition and \
             ALTER INDEX {bare} ATTACH PARTITION each of them, since a partitioned table takes no index concurrently"
        ));
    }
    let step = Step::sql_alone(
        format!("CREATE INDEX CONCURRENTLY {bare} ON {table} ({columns})"),
        Lock::ShareUpdateExclusive,
        format!("references from {table} are found through an index"),
    );
    let undo = format!("DROP INDEX CONCURRENTLY IF EXISTS {}", quote::qualified(&key.schema, &name));
    Plan::one(format!("index {table} ({columns})"), step.takes(2.0 * seconds_to_write(bytes)).undo_sql(undo))
}

/// How many names are tried before the choice is left to PostgreSQL.
const TRIES: usize = 10;
/// PostgreSQL cuts names off at NAMEDATALEN − 1 bytes.
const LONGEST_NAME: usize = 63;

/// A name as PostgreSQL itself would choose: table, columns, `idx`; cut so that it fits, with a number from the second
/// attempt on.
fn index_name(table: &str, columns: &[String], attempt: usize) -> String {
    let suffix = if attempt == 0 { "_idx".to_owned() } else { format!("_idx{attempt}") };
    let mut base = format!("{table}_{}", columns.join("_"));
    while base.len() + suffix.len() > LONGEST_NAME {
        base.pop();
    }
    base + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_foreign_key_without_index_and_builds_one() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE users(id int PRIMARY KEY, region int, UNIQUE (id, region)); INSERT INTO users SELECT g, g FROM generate_series(1, 10) g; \
                 CREATE TABLE orders(id int PRIMARY KEY, user_id int REFERENCES users); \
                 CREATE TABLE orders_user_id_idx(a int); \
                 CREATE TABLE covered(id int, region int, note text, FOREIGN KEY (id, region) REFERENCES users(id, region)); \
                 CREATE INDEX ON covered(region, id, note); \
                 CREATE TABLE partly(user_id int REFERENCES users); CREATE INDEX ON partly(user_id) WHERE user_id IS NOT NULL; \
                 CREATE TABLE by_key(user_id int PRIMARY KEY REFERENCES users); \
                 CREATE TABLE tiny(user_id int REFERENCES users); \
                 CREATE TABLE wrong(user_id int REFERENCES users, note int); CREATE INDEX ON wrong(note, user_id); \
                 UPDATE pg_class SET reltuples = 5000 WHERE relname IN ('orders', 'covered', 'partly', 'by_key', 'wrong'); \
                 DELETE FROM users WHERE id = 1",
            );
            on.until("SELECT pg_stat_get_tuples_deleted('users'::regclass) > 0 AS v");
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
            let expected =
                [("idx.fk:postgres/public.orders.user_id", "warn"), ("idx.fk:postgres/public.wrong.user_id", "warn")];
            assert_eq!(seen, expected);
            let plan = found[0].fix.as_ref().unwrap();
            let surus_core::plan::Action::Sql { sql, transaction, .. } = &plan.steps[0].action else { panic!() };
            assert_eq!(sql, "CREATE INDEX CONCURRENTLY orders_user_id_idx1 ON public.orders (user_id)");
            assert!(!transaction);
            on.sql(sql);
            assert_eq!(on.findings().len(), 1);
        });
    }

    #[test]
    fn a_parent_that_nobody_changes_is_only_worth_knowing() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE kind(id int PRIMARY KEY); CREATE TABLE thing(kind_id int REFERENCES kind) PARTITION BY LIST (kind_id); \
                 CREATE TABLE thing1 PARTITION OF thing FOR VALUES IN (1); \
                 UPDATE pg_class SET reltuples = 5000 WHERE relname = 'thing1'",
            );
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].severity.word(), found[0].object.as_str()), ("info", "public.thing.kind_id"));
            assert!(!found[0].fix.as_ref().unwrap().is_applicable());
        });
    }

    #[test]
    fn names_fit_into_63_bytes_and_stay_whole_characters() {
        assert_eq!(index_name("orders", &["user_id".into()], 0), "orders_user_id_idx");
        let long = index_name(&"ä".repeat(30), &["ö".repeat(20)], 3);
        assert!(long.len() <= 63 && long.ends_with("_idx3"), "{long}");
    }
}
