use crate::{
    index::{reindex_step, seconds_to_write},
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Rows, quote};

/// Indexes that are not valid and not being built. `$named` is the operator that selects by the names which REINDEX
/// CONCURRENTLY gives to the indexes that it is to remove at its end.
macro_rules! broken_indexes {
    ($named:literal) => {
        concat!(
            "SELECT n.nspname AS schema, c.relname AS name, tn.nspname AS table_schema, t.relname AS table_name, i.indisunique, i.indisready, ",
            $crate::index::estimated_bytes!("t"),
            " AS table_bytes, ",
            $crate::index::estimated_bytes!("c"),
            " AS bytes, pg_get_indexdef(c.oid) AS definition, i.indexrelid IN (SELECT conindid FROM pg_constraint) AS bound \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
             WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relname ",
            $named,
            " '_cc(new|old)[0-9]*$' \
             AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.datname = current_database() \
               AND (p.relid = i.indrelid OR p.index_relid = i.indexrelid OR p.relid IN \
                 (SELECT o.oid FROM pg_class o WHERE o.reltoastrelid = i.indrelid))) \
             ORDER BY n.nspname, c.relname"
        )
    };
}
pub(super) use broken_indexes;

pub static CHECK: Check = Check {
    id: "idx.invalid",
    title: "an index is not valid",
    inspects: "pg_index.indisvalid and indisready, without indexes that are being built and without partitioned parents",
    why: "A concurrent build that failed leaves an index that no query may use, while every write still has to maintain it. \
          If it was to be unique, uniqueness is not enforced either.",
    remedy: "Build it again with REINDEX CONCURRENTLY, or drop it. If a unique index fails again, remove the duplicate rows first.",
    source: "check_pgactivity invalid_indexes; PostgreSQL documentation, CREATE INDEX, Building Indexes Concurrently",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(&[Sql::all(broken_indexes!("!~"))], judge),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let name = quote::qualified(row.str("schema")?, row.str("name")?);
        let table = quote::qualified(row.str("table_schema")?, row.str("table_name")?);
        let unique = row.bool("indisunique")?;
        let consequence = match (unique, row.bool("indisready")?) {
            (true, _) => "No query uses it, and it does not keep duplicates out.",
            (false, true) => "No query uses it, but every write maintains it.",
            (false, false) => "No query uses it and no write maintains it.",
        };
        let seconds = 2.0 * seconds_to_write(row.f64("table_bytes")?);
        let rebuild =
            reindex_step(&name, row.f64("bytes")?, "the index is built anew and queries may use it").takes(seconds);
        let drop = format!("or, if nobody needs it: DROP INDEX CONCURRENTLY {name}");
        let mut plan = Plan::new(format!("build {name} again"), vec![rebuild]);
        if unique {
            plan.summary += "; remove duplicate rows first if it fails";
        }
        findings.push(
            Finding::warn(&name, format!("the index {name} on {table} is not valid"))
                .detail(format!("{consequence} A concurrent build of it was cancelled or failed; {drop}."))
                .saw("definition", row.str("definition")?)
                .saw("valid", false)
                .saw("maintained by writes", row.bool("indisready")?)
                .measured("estimated size of the table", row.f64("table_bytes")?, "bytes")
                .fix(plan),
        );
    }
    Ok(Verdict::of(findings))
}

/// Drops what a failed REINDEX CONCURRENTLY left; nothing uses it.
pub(super) fn drop_leftover(name: &str) -> Plan {
    let step = Step::sql_alone(
        format!("DROP INDEX CONCURRENTLY {name}"),
        Lock::ShareUpdateExclusive,
        "writes no longer maintain an index that no query may use",
    );
    let why = "nothing is lost: no query can use an index that is not valid";
    Plan::one(format!("drop the leftover {name}"), step.takes(0.5).no_undo(why))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_failed_concurrent_build_and_rebuilds_it() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(a int); INSERT INTO t VALUES (1), (1); CREATE TABLE p(a int) PARTITION BY LIST (a); CREATE INDEX pi ON ONLY p(a)");
            on.sql("CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); ALTER INDEX pi RENAME TO parent_without_all_children");
            on.server.expect_log("could not create unique index");
            let session = on.session("postgres");
            assert!(on.try_run_in(&session, "CREATE UNIQUE INDEX CONCURRENTLY broken ON public.t(a)").is_err());
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["idx.invalid:postgres/public.broken"]
            );
            on.sql("DELETE FROM t");
            let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                panic!()
            };
            on.sql(sql);
            assert!(on.findings().is_empty());
        });
    }

    #[test]
    fn a_running_build_is_no_trouble() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(a int)");
            let held = on.session("postgres");
            on.run_in(&held, "BEGIN; LOCK TABLE public.t IN ROW EXCLUSIVE MODE");
            on.start_in_background("CREATE INDEX CONCURRENTLY slow ON public.t(a)");
            let waiting =
                "SELECT count(*) AS v FROM pg_stat_progress_create_index p JOIN pg_index i ON i.indrelid = p.relid";
            while on.server.value(waiting) != "1" {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            assert!(on.findings().is_empty());
            on.run_in(&held, "ROLLBACK");
        });
    }
}
