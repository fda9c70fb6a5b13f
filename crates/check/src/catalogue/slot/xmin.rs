use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    slots::{self, Slot},
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_count};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "slot.xmin",
    title: "a replication slot keeps VACUUM from removing dead rows",
    inspects: "pg_replication_slots: age of xmin and catalog_xmin",
    why: "Rows that a slot may still need are not removed by any VACUUM. Tables bloat, and transaction ids run out in the end.",
    remedy: "Let the consumer catch up; if it is gone for good, drop the slot, and VACUUM works again at once.",
    source: "check_pgactivity; postgres_ai checkup; 100 and 500 million transactions",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("age", "transactions", 1e8, 5e8)],
    look: Look::Query(slots::SQL, judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for slot in Slot::all(rows)?.into_iter().filter(|slot| !slot.is_dead()) {
        let Some(age) = slot.xmin_age else { continue };
        let Some(severity) = scene.grade("age", age) else { continue };
        let rows_kept = if slot.kind == "logical" { "catalog rows" } else { "rows" };
        let title = format!("slot {} keeps dead {rows_kept} of {} transactions", slot.name, human_count(age as i64));
        let plan = match slot.active {
            true => Plan::advice(format!(
                "speed up the consumer of slot {}; on a standby end the long query that hot_standby_feedback reports",
                slot.name
            )),
            false => slots::revive_or_drop(&slot.name),
        };
        findings.push(
            Finding::new(severity, slot.name.as_str(), title)
                .detail(format!("No VACUUM can remove what died since then; {}.", slot.state()))
                .measured("age", age, "transactions")
                .saw("active", slot.active)
                .fix(plan),
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
    fn sees_a_slot_that_holds_the_horizon() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("wal_level", "logical"),
            |on| {
                on.sql("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')");
                on.sql("DO $$ BEGIN FOR i IN 1..50 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$");
                assert_eq!(on.findings(), [], "50 transactions are no trouble");
                on.limit("age", 40.0);
                let found = on.findings();
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("slot.xmin:feed", "warn"));
            },
        );
    }
}
