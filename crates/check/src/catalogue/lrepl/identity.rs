use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Rows, quote};

/// The published tables named in a publication, with all partitions; `$schemas` adds whole schemas (15 and newer).
macro_rules! published {
    ($schemas:expr) => {
        concat!(
            "WITH RECURSIVE pubs AS (SELECT oid, pubname, puballtables FROM pg_publication WHERE pubupdate OR pubdelete), \
             named AS (SELECT prrelid AS oid, pubname FROM pg_publication_rel JOIN pubs ON pubs.oid = prpubid ",
            $schemas,
            "), tree AS (SELECT oid, pubname FROM named UNION SELECT i.inhrelid, t.pubname FROM tree t \
               JOIN pg_class p ON p.oid = t.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = t.oid), \
             published AS (SELECT oid, pubname FROM tree UNION \
               SELECT c.oid, pubname FROM pubs JOIN pg_class c ON puballtables AND c.relkind = 'r' AND c.oid >= 16384), \
             keys AS (SELECT indrelid, bool_or(indisprimary) AS primary_key, bool_or(indisreplident) AS chosen \
               FROM pg_index WHERE indisprimary OR indisreplident GROUP BY indrelid), \
             lacking AS (SELECT c.oid, n.nspname, c.relname, c.relreplident, string_agg(pubname, ', ' ORDER BY pubname) AS pubs \
               FROM published p JOIN pg_class c ON c.oid = p.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
               LEFT JOIN keys k ON k.indrelid = c.oid \
               WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND CASE c.relreplident WHEN 'f' THEN false \
                 WHEN 'd' THEN k.primary_key IS NOT TRUE WHEN 'i' THEN k.chosen IS NOT TRUE ELSE true END \
               GROUP BY 1, 2, 3, 4) \
             SELECT nspname AS schema, relname AS name, relreplident = 'n' AS nothing, pubs, \
             (SELECT min(ic.relname::text) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid \
               WHERE i.indrelid = l.oid AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL \
               AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = l.oid \
                 AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)) AS usable FROM lacking l ORDER BY 1, 2"
        )
    };
}

pub static CHECK: Check = Check {
    id: "lrepl.identity",
    title: "a published table has no replica identity",
    inspects: "pg_publication and its tables: primary key or REPLICA IDENTITY of each table whose updates or deletes are published",
    why: "An UPDATE or DELETE can only be sent to subscribers when it says which row it means. Without an identity PostgreSQL \
          refuses the statement on the publisher, and the application gets an error.",
    remedy: "Add a primary key, or let REPLICA IDENTITY use another unique index over NOT NULL columns; FULL works without any \
             key, but is slow on large tables.",
    source: "PostgreSQL documentation, Logical Replication, Publication; our own rule",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[
            Sql::since(
                15,
                published!(
                    "UNION SELECT c.oid, pubname FROM pg_publication_namespace JOIN pubs ON pubs.oid = pnpubid \
                     JOIN pg_class c ON c.relnamespace = pnnspid AND c.relkind IN ('r', 'p')"
                ),
            ),
            Sql::until(14, published!("")),
        ],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let before = if row.bool("nothing")? { "NOTHING" } else { "DEFAULT" };
        let plan = match row.opt_str("usable")? {
            Some(index) => Plan::one(
                format!("let the unique index {index} identify the rows of {table}"),
                Step::sql(
                    format!("ALTER TABLE {table} REPLICA IDENTITY USING INDEX {}", quote::ident(index)),
                    Lock::AccessExclusive,
                    "UPDATE and DELETE are accepted again and reach the subscribers",
                )
                .undo_sql(format!("ALTER TABLE {table} REPLICA IDENTITY {before}"))
                .takes(0.1),
            ),
            None => Plan::advice(format!(
                "add a primary key to {table}; until then ALTER TABLE {table} REPLICA IDENTITY FULL, or leave its updates and \
                 deletes out of the publication"
            )),
        };
        findings.push(
            Finding::warn(table.as_str(), format!("{table} is published without a replica identity"))
                .detail("UPDATE and DELETE on it fail with \"cannot update table … because it does not have a replica identity\".")
                .saw("publications", row.str("pubs")?)
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
    fn sees_published_tables_without_identity() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE keyless(a int); CREATE TABLE keyed(a int PRIMARY KEY); CREATE TABLE \"Full\"(a int)");
            on.sql("ALTER TABLE \"Full\" REPLICA IDENTITY FULL; CREATE TABLE near(a int NOT NULL UNIQUE)");
            on.sql("CREATE TABLE parts(a int) PARTITION BY LIST (a); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)");
            on.sql("CREATE TABLE private(a int); CREATE UNLOGGED TABLE quick(a int)");
            on.sql("CREATE PUBLICATION inserts FOR TABLE private WITH (publish = 'insert')");
            assert_eq!(on.findings(), [], "inserts need no identity");
            on.sql("CREATE PUBLICATION chosen FOR TABLE keyless, keyed, \"Full\", near, parts");
            let found = on.findings();
            let objects: Vec<_> = found.iter().map(|one| one.object.as_str()).collect();
            assert_eq!(objects, ["public.keyless", "public.near", "public.part1"]);
            assert_eq!(found[0].key, "lrepl.identity:postgres/public.keyless");
            assert!(!found[0].fix.as_ref().unwrap().is_applicable());
            let near = found[1].fix.as_ref().unwrap();
            assert!(near.is_applicable() && format!("{near:?}").contains("USING INDEX near_a_key"), "{near:?}");
            on.sql("CREATE PUBLICATION everything FOR ALL TABLES");
            assert_eq!(on.findings().len(), 4, "private too, and nothing of the system's");
        });
    }
}
