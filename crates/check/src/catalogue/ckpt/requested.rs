use crate::{
    checkpoints::{self, Checkpoints},
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "ckpt.requested",
    title: "checkpoints are forced before their time",
    inspects: "pg_stat_checkpointer (17 and newer) or pg_stat_bgwriter: requested checkpoints among all since the reset",
    why: "A checkpoint that starts because max_wal_size is full cannot spread its writes as planned, and after each one every \
          page goes into the WAL in full again. The server then writes far more than the application does.",
    remedy: "Raise max_wal_size until checkpoints start by time. The price is disk for WAL and a longer recovery after a crash.",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, WAL Configuration",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::above("share", "%", 20.0, 50.0)],
    look: Look::Query(checkpoints::SQL, judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let counted = Checkpoints::read(rows)?;
    counted.enough()?;
    let share = counted.requested_percent();
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    let since = human_seconds(counted.age_s);
    let title = format!(
        "{share:.0} % of the checkpoints since the statistics were reset {since} ago were requested, not timed ({} of {})",
        counted.requested,
        counted.total()
    );
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail(
                "WAL fills max_wal_size before checkpoint_timeout is over. Manual CHECKPOINTs and base backups count here \
                 too, so a server that does many of those may look worse than it is.",
            )
            .measured("share", share, "%")
            .saw("requested", counted.requested)
            .saw("timed", counted.timed)
            .measured("since reset", counted.age_s, "s")
            .saw("max_wal_size", scene.setting("max_wal_size")?.shown())
            .fix(checkpoints::fewer(scene, &counted)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{checkpoints, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_forced_checkpoints() {
        seeded(&CHECK, |on| {
            assert_eq!(on.report().unknown[0].reason.kind(), "statistics");
            checkpoints::make(on, 12);
            let found = on.findings();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("ckpt.requested", "crit"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
        });
    }
}
