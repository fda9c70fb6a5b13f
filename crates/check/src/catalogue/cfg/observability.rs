use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Lock, Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "cfg.observability",
    title: "the server does not record what is needed to find a fault",
    inspects: "track_counts, track_io_timing, compute_query_id, track_activity_query_size and shared_preload_libraries",
    why: "When something is slow, the first question is which query, and whether it waits for the disk. What was not \
          recorded beforehand cannot be asked afterwards. Without track_counts autovacuum does not work at all.",
    remedy: "Turn the settings on and load pg_stat_statements; they cost little. On a machine with a slow clock measure with \
             pg_test_timing before track_io_timing is turned on.",
    source: "postgres_ai checkup; pgEdge pg-healthcheck; track_activity_query_size of at least 4 kB",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings],
    thresholds: &[Threshold {
        name: "query_size",
        unit: "bytes",
        warn: Some(4096.0),
        crit: None,
        bad: crate::rule::Bad::Below,
    }],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) > 0 AS available, coalesce(bool_or(installed_version IS NOT NULL), false) AS installed \
             FROM pg_available_extensions WHERE name = 'pg_stat_statements'",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let mut findings = Vec::new();
    for (name, title, effect) in [
        (
            "track_counts",
            "no statistics are kept, so autovacuum cannot work",
            "statistics are kept, and autovacuum works again",
        ),
        (
            "track_io_timing",
            "reads and writes are not timed",
            "pg_stat_statements and EXPLAIN show the time spent on reads and writes",
        ),
    ] {
        if !scene.on(name)? {
            findings.push(setting(name, "off", title, Step::setting(name, "on", effect)));
        }
    }
    if scene.settings().text("compute_query_id") == Some("off") {
        let title = "queries have no identifier, so sessions, logs and statistics cannot be matched";
        let step =
            Step::setting("compute_query_id", "auto", "pg_stat_activity and the log show the queries' identifiers");
        findings.push(setting("compute_query_id", "off", title, step));
    }
    let size = scene.bytes("track_activity_query_size")?.unwrap_or_default() as f64;
    let limit = scene.threshold("query_size").warn.unwrap_or_default();
    if size < limit {
        let title = format!("query texts are cut off after {size:.0} bytes");
        let step = Step::setting(
            "track_activity_query_size",
            format!("{limit:.0}"),
            "after a restart, longer query texts are seen whole",
        );
        findings.push(setting(
            "track_activity_query_size",
            &format!("{size:.0} bytes"),
            &title,
            step.interrupts(Interruption::Restart),
        ));
    }
    scene.setting("shared_preload_libraries")?;
    let libraries = scene.settings().list("shared_preload_libraries").unwrap_or_default();
    if !libraries.contains(&"pg_stat_statements") {
        findings.push(not_loaded(&libraries, row.bool("available")?, row.bool("installed")?));
    }
    Ok(Verdict::of(findings))
}

fn setting(name: &str, value: &str, title: &str, step: Step) -> Finding {
    Finding::warn(name, title)
        .detail(format!("Because of {name} = {value}, this is missing when a fault must be found."))
        .saw(format!("setting {name}"), value)
        .fix(Plan::one(format!("change {name}"), step))
}

fn not_loaded(libraries: &[&str], available: bool, installed: bool) -> Finding {
    let finding =
        Finding::warn("pg_stat_statements", "pg_stat_statements is not loaded: nobody knows which queries cost most")
            .detail("It is the only record of what each kind of query costs.")
            .saw("shared_preload_libraries", libraries.join(", "));
    if !available {
        // To load a library that is not there would keep the server from starting.
        return finding.fix(Plan::advice(
            "install the server's contrib package first, then add pg_stat_statements to shared_preload_libraries, restart, and \
             CREATE EXTENSION pg_stat_statements",
        ));
    }
    let all = libraries.iter().copied().chain(["pg_stat_statements"]).collect::<Vec<_>>().join(",");
    let load = Step::setting("shared_preload_libraries", all, "after a restart, the cost of every query is recorded");
    let mut steps = vec![load.interrupts(Interruption::Restart)];
    if !installed {
        steps.push(
            Step::sql(
                "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
                Lock::None,
                "the record can be read in this database",
            )
            .undo_sql("DROP EXTENSION IF EXISTS pg_stat_statements")
            .takes(0.5),
        );
    }
    finding.fix(Plan::new("load pg_stat_statements", steps))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_what_is_not_recorded() {
        seeded(&CHECK, |on| {
            on.configure(&[("track_counts", "off"), ("track_activity_query_size", "2048")]);
            if on.major() >= 14 {
                on.reload(&[("compute_query_id", "off")]);
            }
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
            let mut expected =
                vec!["pg_stat_statements", "track_activity_query_size", "track_counts", "track_io_timing"];
            if on.major() >= 14 {
                expected.insert(0, "compute_query_id");
            }
            assert_eq!(keys, expected);
            assert!(found.iter().all(|f| f.severity.word() == "warn"));
            assert!(found.iter().all(|f| f.fix.as_ref().is_some_and(|plan| plan.is_applicable())));
            on.configure(&[("track_counts", "on"), ("track_activity_query_size", "4096"), ("track_io_timing", "on")]);
            on.configure(&[("shared_preload_libraries", "pg_stat_statements")]);
            if on.major() >= 14 {
                on.reload(&[("compute_query_id", "on")]);
            }
            assert_eq!(on.findings(), []);
        });
    }
}
