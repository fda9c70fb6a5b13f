//! Replication, slots, WAL and its archive.

use super::{
    Asking, now,
    plot::{Plot, Unit},
    quoted,
    tables::missing,
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use surus_core::series::Point;
use surus_observe::TargetNow;

/// Replication of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Replication {
    pub role: Option<&'static str>,
    /// How far a standby is behind its primary, in seconds.
    pub lag_seconds: Option<f64>,
    /// Those that receive WAL from this server.
    pub receivers: Vec<Receiver>,
    /// What this server receives WAL from.
    pub upstream: Option<Upstream>,
    pub slots: Vec<Slot>,
    pub archive: Archive,
    pub plots: Vec<Plot>,
    pub missing: Vec<String>,
}

/// One that receives WAL: a standby, a backup, a logical subscriber.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Receiver {
    pub application: String,
    pub client: Option<String>,
    pub state: String,
    pub slot: Option<String>,
    /// Commits may wait for it.
    pub synchronous: Option<bool>,
    pub sent_lag_bytes: Option<f64>,
    pub write_lag_bytes: Option<f64>,
    pub flush_lag_bytes: Option<f64>,
    pub replay_lag_bytes: Option<f64>,
    pub replay_lag_seconds: Option<f64>,
}

/// Where WAL comes from.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Upstream {
    pub host: String,
    pub slot: Option<String>,
    pub status: String,
    /// When the last message came.
    pub heard_ms: Option<f64>,
}

/// A replication slot.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Slot {
    pub name: String,
    pub kind: Option<String>,
    pub active: bool,
    /// WAL that it keeps.
    pub retained_bytes: Option<f64>,
    /// WAL that may still be written before it is lost; none without max_slot_wal_keep_size.
    pub safe_bytes: Option<f64>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
}

/// The WAL archive as the server sees it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Archive {
    pub archived: Option<f64>,
    pub failed: Option<f64>,
    pub last_archived_ms: Option<f64>,
    pub last_failed_ms: Option<f64>,
    /// Segments that wait to be archived.
    pub waiting: Option<f64>,
    pub wal_bytes: Option<f64>,
}

/// Looks at replication.
pub fn look(asking: &Asking<'_>) -> Result<Replication, ApiError> {
    let target = asking.target()?;
    let ms = |family: &str| now::value(target, family).map(|seconds| seconds * 1000.0);
    Ok(Replication {
        role: target.role,
        lag_seconds: now::value(target, "pg_replication_lag_seconds").filter(|_| target.role == Some("standby")),
        receivers: receivers(target),
        upstream: upstream(target),
        slots: slots(target),
        archive: Archive {
            archived: now::value(target, "pg_stat_archiver_archived_count"),
            failed: now::value(target, "pg_stat_archiver_failed_count"),
            last_archived_ms: ms("pg_stat_archiver_last_archived_time_seconds"),
            last_failed_ms: ms("pg_stat_archiver_last_failed_time_seconds"),
            waiting: now::value(target, "pg_wal_archive_ready_segments"),
            wal_bytes: now::value(target, "pg_wal_size_bytes"),
        },
        plots: plots(asking, target),
        missing: missing(
            target,
            &[
                "replication",
                "stat_replication",
                "replication_slots",
                "stat_wal_receiver",
                "stat_archiver",
                "wal_directory",
            ],
        ),
    })
}

fn plots(asking: &Asking<'_>, target: &TargetNow) -> Vec<Plot> {
    let (i, r) = (format!("instance={}", quoted(&target.name)), asking.scene.range.rate());
    let mut plots = Vec::new();
    if target.role == Some("standby") {
        plots.push(
            Plot::lines("lag", "Behind the primary", Unit::Seconds)
                .query(format!("pg_replication_lag_seconds{{{i}}}"), "behind"),
        );
    }
    plots.extend([
        Plot::lines("replay-lag", "Receivers behind", Unit::Bytes)
            .about("WAL that was written and not replayed there yet.")
            .query(
                format!("max by (application_name) (pg_stat_replication_replay_lag_bytes{{{i}}})"),
                "{{application_name}}",
            )
            .empty("Nobody receives WAL from this server."),
        Plot::lines("replay-seconds", "Receivers behind, in time", Unit::Seconds)
            .query(
                format!("max by (application_name) (pg_stat_replication_replay_lag_seconds{{{i}}})"),
                "{{application_name}}",
            )
            .empty("Nobody receives WAL from this server."),
        Plot::lines("slots", "WAL kept for slots", Unit::Bytes)
            .query(format!("pg_replication_slots_retained_bytes{{{i}}}"), "{{slot_name}}")
            .empty("There is no replication slot."),
        Plot::lines("wal", "WAL written", Unit::BytesPerSecond)
            .query(format!("sum(rate(pg_stat_wal_bytes_total{{{i}}}{r}))"), "WAL"),
        Plot::lines("wal-directory", "pg_wal", Unit::Bytes).query(format!("pg_wal_size_bytes{{{i}}}"), "size").limit(
            // In megabytes, as the setting's unit is.
            now::value(target, "pg_settings_max_wal_size_bytes"),
            |_| "max_wal_size".into(),
        ),
        Plot::lines("archive", "Archiving", Unit::Count)
            .query(format!("sum(increase(pg_stat_archiver_archived_count{{{i}}}{r}))"), "archived")
            .query(format!("sum(increase(pg_stat_archiver_failed_count{{{i}}}{r}))"), "failed"),
    ]);
    plots
}

fn label(point: &Point, name: &str) -> Option<String> {
    point.labels.get(name).map(str::to_owned)
}

fn receivers(target: &TargetNow) -> Vec<Receiver> {
    type Set = fn(&mut Receiver, f64);
    let columns: [(&str, Set); 6] = [
        ("pg_stat_replication_sent_lag_bytes", |one, value| one.sent_lag_bytes = Some(value)),
        ("pg_stat_replication_write_lag_bytes", |one, value| one.write_lag_bytes = Some(value)),
        ("pg_stat_replication_flush_lag_bytes", |one, value| one.flush_lag_bytes = Some(value)),
        ("pg_stat_replication_replay_lag_bytes", |one, value| one.replay_lag_bytes = Some(value)),
        ("pg_stat_replication_replay_lag_seconds", |one, value| one.replay_lag_seconds = Some(value)),
        ("pg_stat_replication_is_synchronous", |one, value| one.synchronous = Some(value > 0.0)),
    ];
    let mut all: BTreeMap<String, Receiver> = BTreeMap::new();
    for (family, set) in columns {
        for point in now::points(target, family) {
            let one = all.entry(point.labels.to_string()).or_insert_with(|| Receiver {
                application: label(point, "application_name").unwrap_or_default(),
                client: label(point, "client_addr"),
                state: label(point, "state").unwrap_or_default(),
                slot: label(point, "slot_name"),
                ..Receiver::default()
            });
            set(one, point.value);
        }
    }
    let mut all: Vec<Receiver> = all.into_values().collect();
    all.sort_by(|a, b| b.replay_lag_bytes.unwrap_or_default().total_cmp(&a.replay_lag_bytes.unwrap_or_default()));
    all
}

fn upstream(target: &TargetNow) -> Option<Upstream> {
    let point = now::points(target, "pg_stat_wal_receiver_flushed_lsn").next()?;
    Some(Upstream {
        host: label(point, "upstream_host").unwrap_or_default(),
        slot: label(point, "slot_name"),
        status: label(point, "status").unwrap_or_default(),
        heard_ms: now::value(target, "pg_stat_wal_receiver_last_msg_receipt_time").map(|seconds| seconds * 1000.0),
    })
}

fn slots(target: &TargetNow) -> Vec<Slot> {
    let mut all: BTreeMap<String, Slot> = BTreeMap::new();
    let mut each = |family: &str, set: &dyn Fn(&mut Slot, &Point)| {
        for point in now::points(target, family) {
            let name = label(point, "slot_name").unwrap_or_default();
            let slot = all.entry(name.clone()).or_insert_with(|| Slot { name, ..Slot::default() });
            slot.kind = slot.kind.take().or_else(|| label(point, "slot_type"));
            set(slot, point);
        }
    };
    each("pg_replication_slots_active", &|slot, point| slot.active = point.value > 0.0);
    each("pg_replication_slots_retained_bytes", &|slot, point| slot.retained_bytes = Some(point.value));
    each("pg_replication_slots_safe_wal_size_bytes", &|slot, point| slot.safe_bytes = Some(point.value));
    each("pg_replication_slots_wal_status", &|slot, point| slot.wal_status = label(point, "wal_status"));
    let mut all: Vec<Slot> = all.into_values().collect();
    all.sort_by(|a, b| b.retained_bytes.unwrap_or_default().total_cmp(&a.retained_bytes.unwrap_or_default()));
    all
}
