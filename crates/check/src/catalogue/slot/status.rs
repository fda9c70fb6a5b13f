use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    slots::{self, Slot},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::Bytes,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "slot.status",
    title: "a replication slot has lost its WAL or is about to",
    inspects: "pg_replication_slots: wal_status, safe_wal_size, and from 16 on why a slot was invalidated",
    why: "When a slot holds more than max_slot_wal_keep_size, the server takes the WAL away. The consumer cannot continue then: \
          a standby must be built anew, a logical subscriber copied again.",
    remedy: "Before it is lost: raise max_slot_wal_keep_size and speed the consumer up. Afterwards: rebuild the consumer with a \
             new slot and drop the old one.",
    source: "check_pgactivity replication_slots; PostgreSQL documentation, pg_replication_slots",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_below("safe", "% of max_slot_wal_keep_size left", 20.0)],
    look: Look::Query(slots::SQL, judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let limit = scene.bytes("max_slot_wal_keep_size")?;
    let mut findings = Vec::new();
    for slot in Slot::all(rows)? {
        let Some((severity, title, plan)) = state(scene, &slot, limit) else { continue };
        let mut finding = Finding::new(severity, slot.name.as_str(), title)
            .detail(format!("Without its WAL the consumer must be copied from the beginning; {}.", slot.state()))
            .saw("wal_status", slot.wal_status.as_deref().unwrap_or("none"));
        if let Some(safe) = slot.safe_bytes {
            finding = finding.measured("safe_wal_size", safe, "bytes");
        }
        if let Some(invalid) = &slot.invalid {
            finding = finding.saw("invalidated", invalid.as_str());
        }
        findings.push(finding.fix(plan));
    }
    Ok(Verdict::of(findings))
}

fn state(scene: &Scene<'_>, slot: &Slot, limit: Option<u64>) -> Option<(Severity, String, Plan)> {
    let name = &slot.name;
    if slot.is_dead() {
        let why = slot.invalid.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        let plan = Plan::advice(format!(
            "the slot cannot be used again: rebuild its consumer with a new slot, then {}",
            slots::drop_sql(name)
        ));
        return Some((Severity::Crit, format!("the slot {name} is invalid: its WAL is gone{why}"), plan));
    }
    let plan = Plan::advice(format!(
        "raise max_slot_wal_keep_size above {} at once (ALTER SYSTEM SET, then SELECT pg_reload_conf()), and speed up or bring \
         back the consumer of {name}",
        Bytes(slot.held_bytes.unwrap_or(0.0) as u64)
    ));
    if slot.wal_status.as_deref() == Some("unreserved") {
        return Some((Severity::Warn, format!("the next checkpoint takes the WAL of slot {name} away"), plan));
    }
    let (safe, limit) = (slot.safe_bytes?, limit? as f64);
    // The server keeps WAL up to max_wal_size anyway, so a small limit never gets small here while that is not reached.
    let percent = 100.0 * safe / limit.max(1.0);
    let severity = scene.grade("safe", percent).filter(|_| slot.wal_status.as_deref() == Some("extended"))?;
    let left = Bytes(safe.max(0.0) as u64);
    Some((severity, format!("slot {name} loses its WAL after {left} more"), plan))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_slot_lose_its_wal() {
        seeded(&CHECK, |on| {
            on.configure(&[("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "2MB"), ("min_wal_size", "2MB")]);
            on.sql("SELECT pg_create_physical_replication_slot('behind', true)");
            assert_eq!(on.findings(), []);
            on.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 30000) g");
            let found = on.findings();
            assert_eq!(found[0].key, "slot.status:behind");
            on.sql("CHECKPOINT");
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("slot.status:behind", "crit"));
            assert!(format!("{:?}", found[0].fix).contains("pg_drop_replication_slot('behind')"));
        });
    }

    #[test]
    fn sees_a_slot_in_danger() {
        seeded(&CHECK, |on| {
            on.configure(&[("max_slot_wal_keep_size", "20MB"), ("max_wal_size", "2MB"), ("checkpoint_timeout", "1h")]);
            on.sql("SELECT pg_create_physical_replication_slot('behind', true)");
            on.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 30000) g");
            assert_eq!(on.findings(), [], "there is room yet");
            on.limit("safe", 90.0);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("slot.status:behind", "warn"));
            assert!(found[0].title.contains("more"), "{}", found[0].title);
        });
    }
}
