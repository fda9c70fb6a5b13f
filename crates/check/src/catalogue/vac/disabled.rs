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
    id: "vac.disabled",
    title: "autovacuum does not work",
    inspects: "settings autovacuum and track_counts",
    why: "Without autovacuum, or without the counters that tell it where to go, dead rows pile up, the planner works with old \
          statistics, and old rows are frozen only in an emergency.",
    remedy: "Turn it on. If it is in the way at some hours, slow it down rather than turn it off.",
    source: "check_pgactivity autovacuum and settings; PostgreSQL documentation, Routine Vacuuming",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let mut findings = Vec::new();
    for (name, consequence) in [
        (
            "autovacuum",
            "Nobody removes dead rows or renews statistics; only the emergency against wraparound still runs.",
        ),
        ("track_counts", "Autovacuum runs but does not see which tables have changed, so it does nothing."),
    ] {
        let setting = scene.setting(name)?;
        if !scene.on(name)? {
            findings.push(
                Finding::crit(name, format!("{name} is off"))
                    .detail(consequence)
                    .saw(format!("setting {name}"), "off")
                    .saw("source", setting.source.as_str())
                    .fix(Plan::one(
                        format!("turn {name} on"),
                        Step::setting(name, "on", "autovacuum looks after all tables again"),
                    )),
            );
        }
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_autovacuum_off() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false).setting("track_counts", "off"),
            |on| {
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
                assert_eq!(seen, [("vac.disabled:autovacuum", "crit"), ("vac.disabled:track_counts", "crit")]);
                assert!(found.iter().all(|f| f.fix.as_ref().unwrap().is_applicable()));
            },
        );
    }
}
