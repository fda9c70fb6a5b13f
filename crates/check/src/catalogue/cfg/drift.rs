use super::standby_lower::BOUND;
use crate::{
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::settings::Setting;

pub static CHECK: Check = Check {
    id: "cfg.drift",
    title: "the nodes of a cluster have different settings",
    inspects: "pg_settings of a standby and of its primary, when both are targets of the run; an earlier state of the same \
               server is not kept yet",
    why: "After a failover the standby serves the application with its own settings. What was tuned on the old primary is \
          suddenly gone, and nobody looks for the cause there.",
    remedy: "Keep the settings of all nodes in one place and apply them everywhere; accept a difference that is meant by \
             suppressing the finding with its reason.",
    source: "check_pgactivity settings; check_postgres settings_checksum, same_schema",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings],
    thresholds: &[],
    look: Look::Facts(judge),
};

/// Settings that are meant to differ from node to node: where things are, and what replication needs.
const OWN: &[&str] = &[
    "cluster_name",
    "config_file",
    "data_directory",
    "external_pid_file",
    "hba_file",
    "hot_standby_feedback",
    "hosts_file",
    "ident_file",
    "in_hot_standby",
    "listen_addresses",
    "log_directory",
    "log_filename",
    "oauth_validator_libraries",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "restore_command",
    "server_version",
    "server_version_num",
    "ssl_cert_file",
    "ssl_key_file",
    "synchronized_standby_slots",
    "synchronous_standby_names",
    "syslog_ident",
    "transaction_read_only",
    "unix_socket_directories",
];

fn judge(scene: &Scene<'_>) -> Judged {
    let baseline = Reason::History("no earlier state of the settings is kept to compare with".into());
    let nodes = || Reason::Undeclared("only one node of this cluster was given".into());
    if !scene.facts.in_recovery {
        // Differences are told at the standby, once.
        return Ok(Verdict::ok().but_unknown("earlier state", baseline));
    }
    let Some((primary, facts)) = scene.primary() else {
        return Ok(Verdict::ok().but_unknown("earlier state", baseline).but_unknown("other nodes", nodes()));
    };
    let mut verdict = Verdict::ok().but_unknown("earlier state", baseline);
    if !(facts.role.reads_settings || facts.role.superuser) {
        let text = format!("some settings of {primary} are hidden: GRANT pg_monitor TO {}", facts.role.name);
        verdict = verdict.but_unknown("hidden settings", Reason::Privilege(text));
    }
    let compared = scene.settings().iter().filter(|setting| comparable(setting));
    for (here, there) in compared.filter_map(|here| Some((here, facts.settings.get(&here.name)?))) {
        if here.value != there.value && comparable(there) && !told_elsewhere(here, there) {
            verdict.findings.push(finding(here, there, primary));
        }
    }
    Ok(verdict)
}

fn comparable(setting: &Setting) -> bool {
    let own =
        setting.context == "internal" || setting.name.starts_with("recovery_") || OWN.contains(&setting.name.as_str());
    !own && setting.is_server_wide()
}

/// A limit below the primary's is worse than drift; cfg.standby_lower tells it.
fn told_elsewhere(here: &Setting, there: &Setting) -> bool {
    let number = |setting: &Setting| setting.value.parse::<f64>().unwrap_or_default();
    BOUND.contains(&here.name.as_str()) && number(here) < number(there)
}

fn finding(here: &Setting, there: &Setting, primary: &str) -> Finding {
    let name = here.name.as_str();
    let shown = |setting: &Setting| if setting.value.is_empty() { "(empty)".to_owned() } else { setting.shown() };
    Finding::warn(name, format!("{name} is {} here, but {} on the primary", shown(here), shown(there)))
        .detail("After a failover this node's value counts.")
        .saw("here", here.shown())
        .saw(format!("on the primary {primary}"), there.shown())
        .fix(Plan::advice(format!(
            "decide which value is right, set it on both nodes (ALTER SYSTEM SET {name} = …), {}",
            if here.needs_restart() { "and restart the one that changes" } else { "and reload" }
        )))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_settings_that_differ_between_nodes() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            let (one, two) = (on.server.dsn("postgres"), standby.dsn("postgres"));
            let look = |on: &Stage| on.report_of_all(&[("primary", &one), ("standby", &two)]);
            assert_eq!(look(on)[1].findings, [], "ports and paths differ and may");
            on.reload(&[("work_mem", "5MB")]);
            let reports = look(on);
            assert_eq!(reports[0].findings, []);
            let found = &reports[1].findings;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.drift:work_mem", "warn"));
            assert_eq!(found[0].title, "work_mem is 4MB here, but 5MB on the primary");
        });
    }
}
