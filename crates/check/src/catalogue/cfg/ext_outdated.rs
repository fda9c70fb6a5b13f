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

pub static CHECK: Check = Check {
    id: "cfg.ext_outdated",
    title: "an extension in the database is of another version than its files",
    inspects: "pg_extension against pg_available_extensions",
    why: "A new package or a new major brings new files, but the functions and views in the database stay those of the old \
          version until somebody updates them. They lack fixes, and at some later version the update may not be possible any more.",
    remedy: "Read the extension's release notes, then ALTER EXTENSION … UPDATE in each database that has it.",
    source: "splinter extension_versions_outdated; check_pgactivity extensions_versions",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT e.extname AS name, e.extversion AS installed, a.default_version AS files, \
             CASE WHEN e.extname ~ '^(postgis|timescaledb|citus)' THEN false ELSE EXISTS ( \
               SELECT FROM pg_extension_update_paths(e.extname) p \
               WHERE p.source = e.extversion AND p.target = a.default_version AND p.path IS NOT NULL) END AS simple \
             FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname \
             WHERE a.default_version <> e.extversion ORDER BY e.extname",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = quote::ident(row.str("name")?);
        let (installed, files) = (row.str("installed")?, row.str("files")?);
        let fix = if row.bool("simple")? {
            let step = Step::sql(
                format!("ALTER EXTENSION {name} UPDATE TO {}", quote::literal(files)),
                Lock::AccessExclusive,
                format!(
                    "the functions and views of {name} become those of version {files}; what uses a changed one waits a moment"
                ),
            );
            let undo =
                format!("ALTER EXTENSION {name} UPDATE TO '{installed}' works only where the extension has a way back");
            Plan::one(format!("update {name} to {files}"), step.no_undo(undo).takes(1.0))
        } else {
            Plan::advice(format!(
                "read how {name} wants to be updated (for PostGIS: SELECT postgis_extensions_upgrade()); otherwise ALTER EXTENSION \
                 {name} UPDATE"
            ))
        };
        findings.push(
            Finding::warn(
                name.as_str(),
                format!("extension {name} is {installed} in the database, but its files are {files}"),
            )
            .detail("The database still uses the functions and views of the version that was installed.")
            .saw("installed", installed)
            .saw("version of the files", files)
            .fix(fix),
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
    fn sees_an_extension_that_was_not_updated() {
        seeded(&CHECK, |on| {
            on.sql("CREATE EXTENSION pg_stat_statements VERSION '1.7'");
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (found[0].key.as_str(), found[0].severity.word()),
                ("cfg.ext_outdated:postgres/pg_stat_statements", "warn")
            );
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.sql("ALTER EXTENSION pg_stat_statements UPDATE");
            assert_eq!(on.findings(), []);
        });
    }
}
