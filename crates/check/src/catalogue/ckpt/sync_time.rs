use crate::{
    checkpoints::{self, Checkpoints},
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "ckpt.sync_time",
    title: "checkpoints wait long for the disk",
    inspects: "the mean length of the sync phase of checkpoints since the statistics were reset",
    why: "At the end of a checkpoint all written pages must reach the disk. While a slow disk is busy with that, every \
          commit waits behind it, and clients see the whole database freeze for moments.",
    remedy: "Give the data directory faster storage, or spread the writes: checkpoint_completion_target 0.9 and a \
             checkpoint_flush_after that makes the kernel write early.",
    source: "pgEdge pg-healthcheck; the single longest sync is only in the server's log, so a mean at the limit is already bad",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("mean", "s", 5.0, 30.0)],
    look: Look::Query(checkpoints::SQL, judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let counted = Checkpoints::read(rows)?;
    counted.enough()?;
    let mean = counted.sync_s / counted.total();
    let Some(severity) = scene.grade("mean", mean) else { return Ok(Verdict::ok()) };
    let title = format!(
        "the sync phase of a checkpoint takes {} on average (statistics of {})",
        human_seconds(mean),
        human_seconds(counted.age_s)
    );
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("Commits wait while the storage flushes; single checkpoints were longer than the mean.")
            .measured("mean sync phase", mean, "s")
            .saw("checkpoints", counted.total())
            .measured("since reset", counted.age_s, "s")
            .saw("checkpoint_completion_target", scene.setting("checkpoint_completion_target")?.shown())
            .saw("checkpoint_flush_after", scene.setting("checkpoint_flush_after")?.shown())
            .fix(Plan::advice(
                "find out what else uses the disk, and move the data directory to faster storage; until then ALTER SYSTEM \
                 SET checkpoint_completion_target = 0.9 and ALTER SYSTEM SET checkpoint_flush_after = '256kB'",
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{checkpoints, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_the_sync_phase_of_real_checkpoints() {
        seeded(&CHECK, |on| {
            on.configure(&[("fsync", "on")]);
            on.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS a");
            checkpoints::make(on, 12);
            assert_eq!(on.findings(), [], "a few milliseconds are no trouble");
            on.limit("mean", 1e-9);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("ckpt.sync_time", "warn"));
            assert!(found[0].evidence.iter().any(|seen| seen.name == "mean sync phase"), "{found:?}");
        });
    }
}
