use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
    size::{human_count, human_seconds},
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "vac.stats_stale",
    title: "the planner's statistics of a table are old",
    inspects: "rows changed since the last ANALYZE of each table, and tables that were never analyzed",
    why: "The planner chooses join orders and indexes by statistics. When a large part of the table has changed since they were \
          gathered, or there are none, it may choose plans that take a thousand times longer.",
    remedy: "Run ANALYZE on the table; after a restore or an upgrade on the whole database.",
    source: "check_pgactivity last_analyze; PostgreSQL documentation, Updating Planner Statistics",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("changed", "%", 20.0), Threshold::warn_above("rows", "rows", 10_000.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT n.nspname AS schema, c.relname AS name, q.* FROM (SELECT oid, relname, relnamespace, \
               greatest(reltuples, pg_stat_get_live_tuples(oid), 0) AS rows, pg_stat_get_mod_since_analyze(oid) AS changed, \
               pg_stat_get_tuples_returned(oid) + pg_stat_get_tuples_fetched(oid) AS read, reltuples < 0 AS never_seen, \
               extract(epoch FROM now() - greatest(pg_stat_get_last_analyze_time(oid), pg_stat_get_last_autoanalyze_time(oid))) AS ago \
               FROM pg_class WHERE relkind IN ('r', 'm') AND relpersistence <> 't') q \
             JOIN pg_class c ON c.oid = q.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE q.changed >= 1000 OR q.never_seen AND q.read >= 1000 ORDER BY greatest(q.changed, q.read) DESC",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (count, changed, ago) = (row.f64("rows")?, row.f64("changed")?, row.opt_f64("ago")?);
        // A restored table may have no counters yet; that queries read rows from it shows that it is not empty.
        let unseen = row.bool("never_seen")?;
        let weight = if unseen { changed.max(count).max(row.f64("read")?) } else { changed };
        if scene.grade("rows", weight).is_none() {
            continue;
        }
        let percent = 100.0 * changed / count.max(1.0);
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let title = match ago {
            None if unseen => format!("{table} was never analyzed"),
            _ if scene.grade("changed", percent).is_none() => continue,
            Some(ago) => format!(
                "{} rows of {table} ({percent:.0} %) changed since it was analyzed {} ago",
                human_count(changed as i64),
                human_seconds(ago)
            ),
            None => format!("{} rows of {table} changed and no ANALYZE is on record", human_count(changed as i64)),
        };
        let step = Step::sql(
            format!("ANALYZE {table}"),
            Lock::ShareUpdateExclusive,
            "the planner knows the table as it is now",
        );
        findings.push(
            Finding::warn(&table, title)
                .detail("Plans for queries on it rest on numbers that are no longer true.")
                .measured("changed since ANALYZE", changed, "rows")
                .measured("estimated rows", count, "rows")
                .fix(Plan::one(
                    format!("analyze {table}"),
                    step.takes(5.0).no_undo("statistics only become more accurate"),
                )),
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
    fn sees_tables_that_changed_since_analyze() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql(
                    "CREATE TABLE loaded(a int); CREATE TABLE changed(a int); CREATE TABLE fresh(a int); \
                     INSERT INTO changed SELECT generate_series(1, 4000); INSERT INTO fresh SELECT generate_series(1, 4000)",
                );
                on.sql("ANALYZE changed");
                on.sql("UPDATE changed SET a = 0 WHERE a <= 2000; INSERT INTO loaded SELECT generate_series(1, 4000); ANALYZE fresh");
                on.until("SELECT pg_stat_get_mod_since_analyze('loaded'::regclass) = 4000 AND pg_stat_get_mod_since_analyze('changed'::regclass) = 2000 AS v");
                assert!(on.findings().is_empty(), "too few rows to matter");
                on.limit("rows", 1000.0);
                let found = on.findings();
                let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
                assert_eq!(keys, ["changed", "loaded"].map(|name| format!("vac.stats_stale:postgres/public.{name}")));
                for one in &found {
                    let surus_core::plan::Action::Sql { sql, .. } = &one.fix.as_ref().unwrap().steps[0].action else {
                        panic!()
                    };
                    on.sql(sql);
                }
                on.until("SELECT pg_stat_get_mod_since_analyze('loaded'::regclass) = 0 AND pg_stat_get_mod_since_analyze('changed'::regclass) = 0 AS v");
                assert!(on.findings().is_empty());
            },
        );
    }
}
