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
    id: "cfg.durability_off",
    title: "a setting gives up durability",
    inspects: "fsync, full_page_writes, synchronous_commit",
    why: "With fsync or full_page_writes off, a power cut or a crash of the machine can leave the data directory damaged \
          beyond repair. With synchronous_commit off, the last commits that clients were told about can vanish.",
    remedy: "Turn the setting on. A slow disk is better met with a battery-backed cache or group commit (commit_delay); a \
             single transaction that may be lost can say SET LOCAL synchronous_commit = off for itself.",
    source: "PostgreSQL documentation, chapter Write Ahead Log; check_pgactivity settings service; check_postgres",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let mut findings = Vec::new();
    for name in ["fsync", "full_page_writes"] {
        if !scene.on(name)? {
            findings.push(
                Finding::crit(name, format!("{name} is off: a crash can destroy the database"))
                    .detail("Data that was acknowledged may be gone or damaged after a power cut or an operating system crash.")
                    .saw(format!("setting {name}"), "off")
                    .fix(Plan::one(format!("turn {name} on"), Step::setting(name, "on", "writes survive a crash again"))),
            );
        }
    }
    let commit = scene.setting("synchronous_commit")?;
    if commit.value == "off" {
        findings.push(
            Finding::crit("synchronous_commit", "synchronous_commit is off for everybody: the last commits can vanish")
                .detail("A commit is acknowledged before it is on disk; a crash loses up to three wal_writer_delay of them.")
                .saw("setting synchronous_commit", commit.value.as_str())
                .saw("source", commit.source.as_str())
                .fix(Plan::one(
                    "turn synchronous_commit on",
                    Step::setting("synchronous_commit", "on", "an acknowledged commit is on disk"),
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
    fn sees_fsync_off_and_its_fix() {
        seeded(&CHECK, |on| {
            on.configure(&[("fsync", "off"), ("full_page_writes", "on")]);
            let found = on.findings();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.durability_off:fsync", "crit"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
        });
    }
}
