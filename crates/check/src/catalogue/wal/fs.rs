use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
    wal_room,
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::{Bytes, human_seconds},
};
use surus_pg::{Rows, host::Room};

pub static CHECK: Check = Check {
    id: "wal.fs",
    title: "the filesystem of pg_wal is running out of room",
    inspects: "the filesystem that holds pg_wal, max_wal_size, and how fast WAL is written while something holds it",
    why: "PostgreSQL stops at once when it cannot write WAL, and it cannot start again until there is room.",
    remedy: "Find what holds WAL (wal.dir, slots, the archiver), give the filesystem room, or lower max_wal_size to what fits.",
    source: "pgEdge pg-healthcheck; used share only where pg_wal has a filesystem of its own, since host.disk grades a shared one",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Host, Need::Monitor],
    thresholds: &[
        Threshold::above("used", "% of a filesystem of its own", 60.0, 80.0),
        Threshold::below("left", "h until full, while WAL is held", 24.0, 4.0),
    ],
    look: Look::Query(
        &[
            Sql::since(
                14,
                "SELECT (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()) AS bytes, \
                 (SELECT wal_bytes / greatest(extract(epoch FROM clock_timestamp() - stats_reset), 600) FROM pg_stat_wal) AS rate, \
                 (SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver) AS archive_fails, \
                 EXISTS (SELECT FROM pg_replication_slots WHERE NOT active AND wal_status IN ('reserved', 'extended', 'unreserved') \
                   AND safe_wal_size IS NULL) AS slot_holds",
            ),
            Sql::until(
                13,
                "SELECT (SELECT coalesce(sum(size), 0)::bigint FROM pg_ls_waldir()) AS bytes, NULL::float8 AS rate, \
                 (SELECT last_failed_time > coalesce(last_archived_time, '-infinity') FROM pg_stat_archiver) AS archive_fails, \
                 EXISTS (SELECT FROM pg_replication_slots WHERE NOT active AND wal_status IN ('reserved', 'extended', 'unreserved') \
                   AND safe_wal_size IS NULL) AS slot_holds",
            ),
        ],
        judge,
    ),
};

/// What is known of the WAL's growth.
#[derive(Debug, Clone, Copy)]
struct Growth {
    /// pg_wal now.
    bytes: f64,
    /// What max_wal_size and wal_keep_size let it become.
    allowed: f64,
    /// Mean WAL written, in bytes a second, when something holds WAL now.
    held_rate: Option<f64>,
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    scene.setting("max_wal_size")?;
    let size = |name: &str| scene.settings().bytes(name).unwrap_or(0) as f64;
    let held = row.opt_bool("archive_fails")?.unwrap_or(false) || row.bool("slot_holds")?;
    let growth = Growth {
        bytes: row.f64("bytes")?,
        allowed: size("max_wal_size") + size("wal_keep_size"),
        held_rate: row.opt_f64("rate")?.filter(|_| held),
    };
    let (room, separate) = (wal_room::of(scene)?, wal_room::is_separate(scene)?);
    let Some((severity, title)) = worst(scene, &room, separate, growth) else { return Ok(Verdict::ok()) };
    let mut finding = Finding::new(severity, wal_room::directory(scene)?.display().to_string(), title)
        .detail("When WAL cannot be written, the server stops with PANIC and stays down until there is room.")
        .measured("free", room.free_bytes, "bytes")
        .measured("used", room.used_percent(), "%")
        .measured("pg_wal", growth.bytes, "bytes")
        .measured("max_wal_size and wal_keep_size", growth.allowed, "bytes");
    if let Some(rate) = growth.held_rate {
        finding = finding.measured("WAL written on average", rate, "bytes/s");
    }
    Ok(Verdict::one(finding.fix(Plan::advice(
        "give the filesystem more room, or ALTER SYSTEM SET max_wal_size to at most half of what is free; release what holds WAL \
         (an inactive slot, a failing archive command)",
    ))))
}

/// The worst that can be said about it.
fn worst(scene: &Scene<'_>, room: &Room, separate: bool, growth: Growth) -> Option<(Severity, String)> {
    let free = room.free_bytes as f64;
    let used = scene.grade("used", room.used_percent()).filter(|_| separate);
    let used =
        used.map(|severity| (severity, format!("the filesystem of pg_wal is {:.0} % full", room.used_percent())));
    let missing = growth.allowed - growth.bytes - free;
    let short = (missing > 0.0).then(|| {
        let (may, free) = (Bytes((growth.allowed - growth.bytes) as u64), Bytes(room.free_bytes));
        (Severity::Crit, format!("pg_wal may grow by {may} more, but only {free} are free"))
    });
    let eta = growth.held_rate.filter(|rate| *rate > 0.0).and_then(|rate| {
        let left_s = free / rate;
        let severity = scene.grade("left", left_s / 3600.0)?;
        Some((
            severity,
            format!("WAL is held, and at its mean rate the filesystem is full in {}", human_seconds(left_s)),
        ))
    });
    [short, eta, used].into_iter().flatten().max_by_key(|(severity, _)| *severity)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_max_wal_size_that_does_not_fit() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            on.server.local().write_settings(&[("max_wal_size", "1000TB")]).unwrap();
            on.server.local().reload();
            let found = on.soon_finds();
            assert_eq!(found[0].severity.word(), "crit");
            assert!(found[0].key.ends_with("/pg_wal"), "{}", found[0].key);
        });
    }

    #[test]
    fn sees_the_hours_left_when_a_slot_holds_wal() {
        seeded(&CHECK, |on| {
            on.sql("SELECT pg_create_physical_replication_slot('away', true)");
            on.sql("CREATE TABLE t AS SELECT g FROM generate_series(1, 10000) g");
            if on.major() < 14 {
                return;
            }
            assert_eq!(on.findings(), []);
            on.limit("left", 1e15);
            assert!(on.soon_finds()[0].title.contains("WAL is held"));
        });
    }
}
