use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.missing",
    title: "an expected standby is not connected",
    inspects: "pg_stat_replication against the declared standbys ([check.declared] standbys)",
    why: "A standby that is not connected falls behind more with every minute. When the primary fails then, there is nothing to \
          switch to.",
    remedy: "Start the standby and read in its log why it does not connect; rebuild it when its WAL is gone.",
    source: "check_pgactivity streaming_delta with its list of standbys",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT slot_name AS name FROM pg_replication_slots \
             WHERE slot_type = 'physical' AND NOT active AND NOT temporary ORDER BY slot_name",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let connected = scene.facts.standbys.as_deref().unwrap_or_default();
    let declared = &scene.declared.standbys;
    if declared.is_empty() {
        return undeclared(scene, rows);
    }
    let missing = declared.iter().filter(|name| !connected.contains(name));
    let finding = |name: &String| {
        Finding::crit(name.as_str(), format!("standby {name} is not connected"))
            .detail("If the primary fails now, what this standby did not get is not on it; it falls behind further.")
            .saw("connected", connected.join(", "))
            .saw("declared", declared.join(", "))
            .fix(Plan::advice(format!(
                "start {name} and look in its log why it does not connect (its application_name must be {name}); rebuild it with \
                 pg_basebackup when the primary no longer has the WAL that it needs"
            )))
    };
    Ok(Verdict::of(missing.map(finding).collect()))
}

/// Nothing is declared: without any trace of a standby the question does not arise; with one it cannot be answered.
fn undeclared(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut traces: Vec<String> = Vec::new();
    for row in rows.iter() {
        traces.push(format!("the slot {} is inactive", row.str("name")?));
    }
    let synchronous = &scene.setting("synchronous_standby_names")?.value;
    if !synchronous.trim().is_empty() {
        traces.push(format!("synchronous_standby_names is {synchronous}"));
    }
    if traces.is_empty() {
        return Ok(Verdict::not_applicable("no standby is declared, and nothing hints at one that is missing"));
    }
    Err(Reason::Undeclared(format!(
        "{}; whether a standby is missing takes [check.declared] standbys = [\"…\"] in surus.toml",
        traces.join(", ")
    ))
    .into())
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_declared_standby_that_is_away() {
        seeded(&CHECK, |on| {
            assert_eq!(on.report().not_applicable.len(), 1);
            on.sql("SELECT pg_create_physical_replication_slot('away')");
            assert_eq!(on.report().unknown[0].reason.kind(), "undeclared");
            let _standby = on.server.standby_named("here", &[]);
            on.options.config.declared.standbys = vec!["here".into(), "away".into()];
            on.until("SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE state = 'streaming'");
            let found = on.findings();
            assert_eq!(found.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["repl.missing:away"]);
            assert_eq!(found[0].severity.word(), "crit");
        });
    }
}
