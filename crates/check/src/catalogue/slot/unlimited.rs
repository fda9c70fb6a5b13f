use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    slots::{self, Slot},
    verdict::{Judged, Verdict},
    wal_room,
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};
use surus_pg::{Rows, settings::byte_text};

pub static CHECK: Check = Check {
    id: "slot.unlimited",
    title: "replication slots may hold any amount of WAL",
    inspects: "max_slot_wal_keep_size, where there are slots",
    why: "Without a limit one consumer that is away for a weekend fills the disk and stops the primary: the replica's trouble \
          becomes everybody's.",
    remedy: "Set max_slot_wal_keep_size to what the disk can spare. A consumer that falls behind further must be rebuilt; that \
             is the smaller harm.",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, max_slot_wal_keep_size",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(slots::SQL, judge),
};

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let slots = Slot::all(rows)?;
    if slots.is_empty() || scene.bytes("max_slot_wal_keep_size")?.is_some() {
        return Ok(Verdict::ok());
    }
    let held = slots.iter().filter_map(|slot| slot.held_bytes).fold(0.0, f64::max);
    let names: Vec<&str> = slots.iter().map(|slot| slot.name.as_str()).collect();
    let title = match names.len() {
        1 => format!("the slot {} may hold any amount of WAL", names[0]),
        count => format!("{count} slots may hold any amount of WAL"),
    };
    Ok(Verdict::one(
        Finding::warn("max_slot_wal_keep_size", title)
            .detail("One consumer that stays away fills the disk of this server, and the server stops.")
            .saw("max_slot_wal_keep_size", -1)
            .saw("slots", names.join(", "))
            .measured("held by the oldest", held, "bytes")
            .fix(plan(scene, held)),
    ))
}

/// Half of the room that is there, else 10 GB; never so little that a slot would be lost by it today.
fn plan(scene: &Scene<'_>, held: f64) -> Plan {
    let room = wal_room::of(scene).ok().map(|room| room.free_bytes as f64 / 2.0);
    let least = (held * 2.0).max(scene.settings().bytes("max_wal_size").unwrap_or(0) as f64);
    let wanted = room.unwrap_or(10.0 * GIB).max(least);
    if room.is_some_and(|room| least > room) {
        return Plan::advice(
            "a slot holds so much already that no limit fits the disk: see slot.retained first, then set max_slot_wal_keep_size",
        );
    }
    let whole = if wanted >= GIB { (wanted / GIB).floor() * GIB } else { (wanted / 1_048_576.0).ceil() * 1_048_576.0 };
    let value = byte_text(whole);
    Plan::one(
        format!("let slots hold at most {value}"),
        Step::setting(
            "max_slot_wal_keep_size",
            value,
            "a consumer that falls behind further loses its slot and must be rebuilt; the server itself stays up",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_slots_without_a_limit() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), [], "without slots nothing can grow");
            on.sql("SELECT pg_create_physical_replication_slot('away')");
            let found = on.findings();
            let key = "slot.unlimited:max_slot_wal_keep_size";
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), (key, "warn"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'");
            on.sql("SELECT pg_reload_conf()");
            on.until("SELECT setting = '1024' AS v FROM pg_settings WHERE name = 'max_slot_wal_keep_size'");
            assert_eq!(on.findings(), []);
        });
    }
}
