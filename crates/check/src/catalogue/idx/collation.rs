use crate::{
    index::{estimated_bytes, reindex_step},
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Lock, Plan, Step},
};
use surus_pg::{Row, RowError, Rows, quote};

/// `$of_default` holds the recorded and the actual version of the database's own collation, where the major keeps them.
macro_rules! outdated {
    ($recorded:literal, $actual:literal) => {
        concat!(
            "WITH x AS MATERIALIZED (SELECT DISTINCT i.indexrelid, i.indisexclusion, u.coll FROM pg_index i CROSS JOIN LATERAL unnest(i.indcollation::oid[]) u(coll) \
               WHERE u.coll <> 0 AND i.indrelid >= 16384), \
             v AS MATERIALIZED (SELECT u.coll, CASE u.coll WHEN 100 THEN ",
            $recorded,
            " ELSE co.collversion END AS recorded, CASE u.coll WHEN 100 THEN ",
            $actual,
            " ELSE pg_collation_actual_version(u.coll) END AS actual FROM (SELECT DISTINCT coll FROM x) u JOIN pg_collation co ON co.oid = u.coll, \
               pg_database d WHERE d.datname = current_database()) \
             SELECT v.coll = 100 AS is_default, cn.nspname AS coll_schema, co.collname AS coll_name, v.recorded, v.actual, n.nspname AS schema, c.relname AS name, \
             x.indisexclusion AS exclusion, ",
            estimated_bytes!("c"),
            " AS bytes FROM v JOIN x ON x.coll = v.coll JOIN pg_collation co ON co.oid = v.coll JOIN pg_namespace cn ON cn.oid = co.collnamespace \
             JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'i' AND v.recorded <> v.actual ORDER BY v.coll, c.relpages DESC"
        )
    };
}

pub static CHECK: Check = Check {
    id: "idx.collation",
    title: "the order of texts has changed under the indexes",
    inspects: "recorded against actual versions of the collations that indexes use",
    why: "An upgrade of the operating system's C library or of ICU can change how texts sort. Indexes built before still have the old \
          order: lookups miss rows that are there, and unique indexes let duplicates in.",
    remedy: "Build every index over such texts anew, check for duplicates, then record the new version.",
    source: "PostgreSQL documentation, ALTER COLLATION, and wiki page Locale data changes",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[
            Sql::since(15, outdated!("d.datcollversion", "pg_database_collation_actual_version(d.oid)")),
            Sql::until(14, outdated!("NULL", "NULL")),
        ],
        judge,
    ),
};

/// More steps than this nobody reads.
const MOST_STEPS: usize = 100;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let all: Vec<Row<'_>> = rows.iter().collect();
    let same = |a: &Row<'_>, b: &Row<'_>| {
        a.str("coll_name").ok() == b.str("coll_name").ok() && a.str("coll_schema").ok() == b.str("coll_schema").ok()
    };
    let findings: Result<Vec<Finding>, RowError> = all.chunk_by(same).map(|indexes| finding(scene, indexes)).collect();
    let verdict = Verdict::of(findings?);
    if scene.major() >= 15 {
        return Ok(verdict);
    }
    let text = "PostgreSQL does not record the version of a database's own collation before 15: after an upgrade of the operating \
                system compare the order of texts by hand";
    Ok(verdict.but_unknown("the database's default collation", Reason::Version(text.into())))
}

fn finding(scene: &Scene<'_>, indexes: &[Row<'_>]) -> Result<Finding, RowError> {
    let first = indexes[0];
    let (recorded, actual) = (first.str("recorded")?, first.str("actual")?);
    let default = first.bool("is_default")?;
    let collation = quote::qualified(first.str("coll_schema")?, first.str("coll_name")?);
    let object = if default { "default collation".to_owned() } else { collation.clone() };
    let title =
        format!("{} indexes were built with version {recorded} of the {object}, which is now {actual}", indexes.len());
    let mut finding = Finding::crit(&object, title)
        .detail("Lookups by text may miss rows, and unique indexes may let duplicates in, until the indexes are built anew.")
        .saw("recorded version", recorded)
        .saw("actual version", actual)
        .measured("indexes", indexes.len(), "indexes");
    for index in indexes.iter().take(20) {
        finding = finding.saw("index", quote::qualified(index.str("schema")?, index.str("name")?));
    }
    let database = scene.database.unwrap_or(&scene.facts.database);
    let refresh = match default {
        true => format!("ALTER DATABASE {} REFRESH COLLATION VERSION", quote::ident(database)),
        false => format!("ALTER COLLATION {collation} REFRESH VERSION"),
    };
    Ok(finding.fix(fix(scene, indexes, &refresh)?))
}

fn fix(scene: &Scene<'_>, indexes: &[Row<'_>], refresh: &str) -> Result<Plan, RowError> {
    if scene.facts.in_recovery {
        return Ok(Plan::advice(
            "indexes come from the primary: run this standby on the same version of the operating system (or ICU) as the primary",
        ));
    }
    if indexes.len() > MOST_STEPS {
        return Ok(Plan::advice(format!(
            "reindexdb --concurrently --jobs=4 on the database, in a quiet hour; then {refresh}"
        )));
    }
    let mut steps = Vec::new();
    for index in indexes {
        let name = quote::qualified(index.str("schema")?, index.str("name")?);
        steps.push(match index.bool("exclusion")? {
            true => {
                Step::manual(format!("REINDEX INDEX {name} (an exclusion constraint cannot be rebuilt concurrently)"))
            }
            false => reindex_step(&name, index.f64("bytes")?, "the index follows the present order of texts"),
        });
    }
    let note = "nothing is lost: the note of the version becomes true again";
    steps.push(
        Step::sql(refresh, Lock::None, "the version that the indexes now have is recorded").takes(0.1).no_undo(note),
    );
    Ok(Plan::new("build the indexes anew, then record the new version", steps))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_collation_that_changed_and_rebuilds_its_indexes() {
        seeded(&CHECK, |on| {
            let known = "SELECT count(*) FROM pg_collation WHERE collname = 'en-x-icu' AND pg_collation_actual_version(oid) IS NOT NULL";
            if on.server.value(&format!("SELECT ({known}) AS v")) == "0" {
                eprintln!("skipped: this build has no ICU");
                return;
            }
            on.sql(
                "CREATE TABLE t(a text COLLATE \"en-x-icu\", b text COLLATE \"C\", c text COLLATE \"de-x-icu\"); CREATE INDEX by_a ON t(a); \
                 CREATE INDEX by_b ON t(b); CREATE INDEX by_c ON t(c); UPDATE pg_collation SET collversion = '1.2' WHERE collname = 'en-x-icu'",
            );
            let found = on.report().findings;
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["idx.collation:postgres/pg_catalog.\"en-x-icu\""]
            );
            assert_eq!(found[0].severity.word(), "crit");
            let statements: Vec<_> = found[0]
                .fix
                .as_ref()
                .unwrap()
                .steps
                .iter()
                .map(|step| match &step.action {
                    surus_core::plan::Action::Sql { sql, .. } => sql.clone(),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(statements.len(), 2);
            for sql in statements {
                on.sql(&sql);
            }
            assert!(on.report().findings.is_empty());
        });
    }

    #[test]
    fn sees_the_default_collation_change() {
        seeded(&CHECK, |on| {
            if on.major() < 15 {
                assert_eq!(on.report().unknown[0].reason.kind(), "version");
                return;
            }
            if on.server.value("SELECT pg_database_collation_actual_version(oid) IS NULL AS v FROM pg_database WHERE datname = 'postgres'") == "t" {
                eprintln!("the template database's collation has no version (locale C)");
                return;
            }
            on.sql("CREATE TABLE t(a text PRIMARY KEY)");
            on.sql("UPDATE pg_database SET datcollversion = '1.2' WHERE datname = 'postgres'");
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["idx.collation:postgres/default collation"]
            );
        });
    }
}
