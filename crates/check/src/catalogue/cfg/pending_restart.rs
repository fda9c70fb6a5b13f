use crate::{
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Plan, Step},
};

pub static CHECK: Check = Check {
    id: "cfg.pending_restart",
    title: "a changed setting waits for a restart",
    inspects: "pg_settings: pending_restart",
    why: "The configuration says one thing and the server does another. The change comes into force by surprise at the \
          next restart or failover, perhaps long after everybody has forgotten it.",
    remedy: "Restart the server at a quiet moment, or take the change back.",
    source: "check_pgactivity pending_restart; pgmonitor",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let waiting = scene.settings().iter().filter(|setting| setting.pending_restart);
    let findings = waiting.map(|setting| {
        let mut finding =
            Finding::warn(setting.name.as_str(), format!("{} was changed and waits for a restart", setting.name))
                .detail(format!("Until then the server goes on with {}.", shown(&setting.shown())))
                .saw("in force", setting.shown());
        if let Some(file) = &setting.source_file {
            finding = finding.saw("set in", file.as_str());
        }
        let restart = Step::manual(
            "restart the server at a quiet moment (pg_ctl restart -m fast, or systemctl restart of its unit); all sessions end",
        );
        finding.fix(Plan::one("restart the server", restart.interrupts(Interruption::Restart)))
    });
    Ok(Verdict::of(findings.collect()))
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "an empty value" } else { value }
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_what_waits_for_a_restart() {
        seeded(&CHECK, |on| {
            on.reload(&[("work_mem", "5MB")]);
            assert_eq!(on.findings(), [], "work_mem needs none");
            on.reload(&[("max_connections", "31")]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (found[0].key.as_str(), found[0].severity.word()),
                ("cfg.pending_restart:max_connections", "warn")
            );
        });
    }
}
