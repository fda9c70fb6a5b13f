use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "wal.logical_unused",
    title: "wal_level is logical, and nothing uses it",
    inspects: "wal_level and the logical replication slots",
    why: "With wal_level logical every UPDATE and DELETE writes more WAL, so that changes can be decoded. Without a logical slot \
          nobody reads that.",
    remedy: "Set wal_level to replica at the next restart, unless logical replication is about to be set up.",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, wal_level",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'logical') AS logical, \
             (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical') AS physical",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    if scene.setting("wal_level")?.value != "logical" || row.i64("logical")? > 0 {
        return Ok(Verdict::ok());
    }
    let step = Step::setting("wal_level", "replica", "after a restart UPDATE and DELETE write less WAL")
        .interrupts(Interruption::Restart);
    Ok(Verdict::one(
        Finding::info("wal_level", "wal_level is logical, but there is no logical replication slot")
            .detail(
                "It costs some WAL and nothing else. A standby of this server that has logical slots of its own (16 and newer) \
                 needs it too; look there before you change it.",
            )
            .saw("logical slots", 0)
            .saw("physical slots", row.i64("physical")?)
            .fix(Plan::one("write no more WAL than replicas need", step)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_logical_wal_without_a_slot() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("wal_level", "logical"),
            |on| {
                let found = on.findings();
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("wal.logical_unused:wal_level", "info"));
                assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
                on.sql("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')");
                assert_eq!(on.findings(), []);
            },
        );
    }
}
