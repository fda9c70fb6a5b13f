use crate::{
    checkpoints::{self, Checkpoints},
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "ckpt.interval",
    title: "checkpoints come much more often than checkpoint_timeout says",
    inspects: "the mean gap between checkpoints since the statistics were reset, against checkpoint_timeout",
    why: "The closer checkpoints are together, the more often the same pages are written to disk, and in full to the WAL. \
          Throughput drops in waves that look like a slow disk.",
    remedy: "Raise max_wal_size; where it is large already, look for jobs that call CHECKPOINT.",
    source: "pganalyze, checkpoint frequency; half of checkpoint_timeout as the limit; the mean hides bursts at quiet times",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_below("gap", "% of checkpoint_timeout", 50.0)],
    look: Look::Query(checkpoints::SQL, judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let counted = Checkpoints::read(rows)?;
    counted.enough()?;
    let setting = scene.setting("checkpoint_timeout")?;
    let timeout_s = scene.settings().milliseconds("checkpoint_timeout").unwrap_or(300_000.0) / 1000.0;
    let gap = counted.mean_gap_s();
    let Some(severity) = scene.grade("gap", 100.0 * gap / timeout_s) else { return Ok(Verdict::ok()) };
    let title = format!(
        "a checkpoint every {} on average, while checkpoint_timeout is {} (statistics of {})",
        human_seconds(gap),
        setting.shown(),
        human_seconds(counted.age_s)
    );
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("Pages are written several times where once would do, and each checkpoint makes the WAL larger.")
            .measured("mean gap", gap, "s")
            .measured("checkpoint_timeout", timeout_s, "s")
            .saw("checkpoints", counted.total())
            .measured("since reset", counted.age_s, "s")
            .fix(checkpoints::fewer(scene, &counted)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{checkpoints, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_checkpoints_seconds_apart() {
        seeded(&CHECK, |on| {
            checkpoints::make(on, 12);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("ckpt.interval", "warn"));
            let plan = found[0].fix.as_ref().unwrap();
            assert!(format!("{:?}", plan.steps[0].action).contains("max_wal_size"), "{plan:?}");
        });
    }
}
