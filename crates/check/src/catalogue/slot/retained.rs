use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    slots::{self, Slot},
    verdict::{Judged, Verdict},
    wal_room,
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "slot.retained",
    title: "a replication slot holds much WAL",
    inspects: "pg_replication_slots.restart_lsn against the current position; on the host also the room left for pg_wal",
    why: "WAL that a slot still needs is never removed. A consumer that falls behind can fill the disk of the server that feeds \
          it and stop that server.",
    remedy: "Find out why the consumer is slow or away; limit what slots may hold with max_slot_wal_keep_size.",
    source: "check_pgactivity replication_slots; pgEdge pg-healthcheck; the share of free room counts from 256 MB held on",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[
        Threshold::above("held", "bytes", 5e9, 20e9),
        Threshold::above("of_free", "% of the free room", 20.0, 50.0),
    ],
    look: Look::Query(slots::SQL, judge),
};

/// Less than this is no danger to any disk, however full.
const HARMLESS: f64 = 256.0 * 1024.0 * 1024.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    // Without a look at the host the bytes alone decide.
    let free = wal_room::of(scene).ok().map(|room| room.free_bytes as f64);
    let mut findings = Vec::new();
    for slot in Slot::all(rows)? {
        let Some(held) = slot.held_bytes else { continue };
        let share = free.filter(|_| held >= HARMLESS).map(|free| 100.0 * held / free.max(1.0));
        let by_share = share.and_then(|share| scene.grade("of_free", share));
        let Some(severity) = scene.grade("held", held).max(by_share) else { continue };
        let title = format!("the {} slot {} holds {} of WAL", slot.kind, slot.name, Bytes(held as u64));
        let plan = match slot.active {
            true => Plan::advice(format!(
                "find out why the consumer of slot {} is slow (repl.lag_bytes); set max_slot_wal_keep_size so that it cannot \
                 fill the disk",
                slot.name
            )),
            false => slots::revive_or_drop(&slot.name),
        };
        let mut finding = Finding::new(severity, slot.name.as_str(), title)
            .detail(format!("The disk of pg_wal fills up while this lasts; {}.", slot.state()))
            .measured("held WAL", held, "bytes")
            .saw("active", slot.active)
            .saw("wal_status", slot.wal_status.as_deref().unwrap_or("none"));
        if let Some(free) = free {
            finding = finding.measured("free for pg_wal", free, "bytes");
        }
        findings.push(finding.fix(plan));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_what_a_slot_holds() {
        seeded(&CHECK, |on| {
            on.sql("SELECT pg_create_physical_replication_slot('behind', true)");
            on.sql("SELECT pg_create_physical_replication_slot('unused')");
            on.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 10000) g");
            assert_eq!(on.findings(), [], "a few megabytes are no trouble");
            on.limit("held", 1e6);
            let found = on.findings();
            assert_eq!(found.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["slot.retained:behind"]);
            assert_eq!(found[0].severity.word(), "warn");
        });
    }
}
