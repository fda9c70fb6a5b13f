use crate::{
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "sec.audit",
    title: "nothing records who connected and who changed the schema",
    inspects: "shared_preload_libraries (pgaudit), log_connections, log_statement, log_replication_commands",
    why: "After a leak the first questions are who was in, from where, and what he changed. They can only be answered if it was \
          written down before.",
    remedy: "Log connections and schema changes; where an audit is demanded, load pgaudit.",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let settings = scene.settings();
    let text = |name: &str| settings.text(name).unwrap_or_default();
    let loaded = settings.list("shared_preload_libraries").unwrap_or_default();
    let mut findings = Vec::new();
    // A list of aspects from 18 on, a boolean before.
    if matches!(text("log_connections"), "" | "off" | "false" | "no" | "0") {
        findings.push(
            Finding::info("log_connections", "connections are not logged")
                .detail("Who was connected from where, and when, cannot be told later.")
                .saw("setting log_connections", text("log_connections"))
                .fix(Plan::one(
                    "log connections",
                    Step::setting(
                        "log_connections",
                        "on",
                        "two or three lines for each new session; many without a pooler",
                    ),
                )),
        );
    }
    if text("log_statement") == "none" && !loaded.contains(&"pgaudit") {
        findings.push(
            Finding::info("log_statement", "changes of the schema and of roles are not recorded")
                .detail("Neither pgaudit is loaded nor does log_statement name ddl.")
                .saw("setting log_statement", "none")
                .saw("setting shared_preload_libraries", loaded.join(", "))
                .fix(Plan::one(
                    "log schema changes",
                    Step::setting(
                        "log_statement",
                        "ddl",
                        "CREATE, ALTER, DROP and GRANT are logged; set passwords with \\password, which sends no clear text",
                    ),
                )),
        );
    }
    let streams = scene.facts.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty());
    if streams && settings.on("log_replication_commands") == Some(false) {
        findings.push(
            Finding::info("log_replication_commands", "replication commands are not logged")
                .detail("Whoever copies the whole cluster with a replication connection leaves no line.")
                .saw("setting log_replication_commands", "off")
                .fix(Plan::one(
                    "log replication commands",
                    Step::setting("log_replication_commands", "on", "a few lines when a standby or a backup connects"),
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
    fn sees_what_is_not_recorded() {
        seeded(&CHECK, |on| {
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["sec.audit:log_connections", "sec.audit:log_statement"]
            );
            assert!(found.iter().all(|f| f.severity.word() == "info" && f.fix.as_ref().unwrap().is_applicable()));
            on.configure(&[("log_connections", "on"), ("log_statement", "ddl")]);
            assert_eq!(on.findings(), []);
        });
    }
}
