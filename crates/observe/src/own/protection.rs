//! What the repositories hold for a target, as series.

use super::{Family, gauge};
use crate::collector::Page;
use jiff::Timestamp;
use surus_core::protection::{Moments, Protection};

/// A repository, and what it holds for the target; none when it could not be read.
#[derive(Debug, Clone)]
pub struct Protected {
    /// As the configuration calls it.
    pub repository: String,
    pub holds: Option<Protection>,
    /// Why it holds nothing.
    pub why: Option<String>,
    /// Which moments can be restored; the oldest timeline first.
    pub moments: Vec<Moments>,
}

pub(super) static READ: Family =
    gauge("surus_backup_repository_up", "1 if the repository could be read when surus last looked, else 0.");
pub(super) static LAST: Family = gauge(
    "surus_backup_last_timestamp_seconds",
    "When the newest backup that can be restored ended, by the server's clock; kind is full or any.",
);
pub(super) static LAST_SIZE: Family =
    gauge("surus_backup_last_size_bytes", "Bytes of all files in the newest backup that can be restored.");
pub(super) static LAST_STORED: Family = gauge(
    "surus_backup_last_stored_bytes",
    "Bytes that the newest backup that can be restored takes in the repository.",
);
pub(super) static COUNT: Family =
    gauge("surus_backup_count", "Backups in the repository; state is restorable or broken.");
pub(super) static RUNNING: Family = gauge("surus_backup_in_progress", "1 while a backup is being taken, else 0.");
pub(super) static GAPS: Family = gauge(
    "surus_wal_archive_missing_segments",
    "WAL segments that are missing in the repository since its oldest backup.",
);
pub(super) static WAL_LAST: Family = gauge(
    "surus_wal_archive_last_timestamp_seconds",
    "When the newest WAL segment came into the repository, by its clock.",
);
pub(super) static WAL_STORED: Family =
    gauge("surus_wal_archive_stored_bytes", "Bytes that WAL takes in the repository.");
pub(super) static FREE: Family = gauge(
    "surus_backup_repository_free_bytes",
    "Free bytes where the repository is; absent for a bucket, which has no limit of its own.",
);

/// Every family that [`tell`] fills.
pub static FAMILIES: &[&Family] =
    &[&READ, &LAST, &LAST_SIZE, &LAST_STORED, &COUNT, &RUNNING, &GAPS, &WAL_LAST, &WAL_STORED, &FREE];

/// The labels of one of these families.
pub fn labels(family: &Family) -> Option<&'static [&'static str]> {
    FAMILIES.iter().any(|one| one.name == family.name).then(|| match family.name {
        "surus_backup_last_timestamp_seconds" => &["repository", "kind"][..],
        "surus_backup_count" => &["repository", "state"],
        _ => &["repository"],
    })
}

/// Tells all of one repository.
pub(crate) fn tell(page: &mut Page, protected: &Protected) {
    let repository = ("repository", protected.repository.as_str());
    let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
    page.tell(&READ, [repository], f64::from(u8::from(protected.holds.is_some())));
    let Some(holds) = &protected.holds else { return };
    for (kind, newest) in [("any", holds.newest()), ("full", holds.newest_full())] {
        if let Some(newest) = newest {
            page.tell(&LAST, [repository, ("kind", kind)], seconds(newest.stopped_at));
        }
    }
    if let Some(newest) = holds.newest() {
        page.tell(&LAST_SIZE, [repository], newest.size as f64);
        page.tell(&LAST_STORED, [repository], newest.stored as f64);
    }
    let restorable = holds.restorable().count();
    for (state, count) in [("restorable", restorable), ("broken", holds.backups.len() - restorable)] {
        page.tell(&COUNT, [repository, ("state", state)], count as f64);
    }
    page.tell(&RUNNING, [repository], f64::from(u8::from(holds.in_progress.is_some())));
    page.tell(&GAPS, [repository], holds.gaps.iter().map(|gap| gap.segments).sum::<u64>() as f64);
    if let Some(at) = holds.newest_segment_at {
        page.tell(&WAL_LAST, [repository], seconds(at));
    }
    page.tell(&WAL_STORED, [repository], holds.wal_stored as f64);
    if let Some(free) = holds.free {
        page.tell(&FREE, [repository], free as f64);
    }
}
