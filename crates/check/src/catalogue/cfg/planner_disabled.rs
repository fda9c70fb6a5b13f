use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "cfg.planner_disabled",
    title: "a way to run queries is switched off for the whole server",
    inspects: "the enable_… settings that are on by default",
    why: "Each of these settings takes one method away from the planner. What helps one query makes others many times \
          slower, and hides that statistics or cost settings were the real fault.",
    remedy: "Turn it on again. If one query needs it off, say SET LOCAL in its transaction, and look for the wrong row \
             estimate behind it.",
    source: "check_pgactivity settings; PostgreSQL documentation, chapter Query Planning",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let off = scene.settings().iter().filter(|setting| {
        let was_on = setting.name.starts_with("enable_") && setting.boot_value.as_deref() == Some("on");
        was_on && setting.value == "off" && setting.is_server_wide()
    });
    let findings = off.map(|setting| {
        let name = setting.name.as_str();
        Finding::warn(name, format!("{name} is off for every query of the server"))
            .detail("Queries for which this method would be the best run slower than they need.")
            .saw(format!("setting {name}"), "off")
            .saw("source", setting.source.as_str())
            .fix(Plan::one(
                format!("turn {name} on"),
                Step::setting(name, "on", "the planner may choose the method again; plans can change"),
            ))
    });
    Ok(Verdict::of(findings.collect()))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_method_that_is_off() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), [], "some are off by default");
            on.reload(&[("enable_seqscan", "off")]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (found[0].key.as_str(), found[0].severity.word()),
                ("cfg.planner_disabled:enable_seqscan", "warn")
            );
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
        });
    }
}
