//! Removing what the retention lets go: the catalogue's entry first, then the data, then WAL.

pub mod plan;

use crate::{
    catalogue::Catalogue,
    error::{BackupError, Result},
    repo::{Cluster, json},
    take::mark::BeginNote,
    wal::name::Segment,
};
use jiff::Timestamp;
use plan::{Plan, Retention};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use surus_core::{clock, code, monitor::Monitor};

/// What a backup that was broken off has left is taken over by the next one; after this long it goes.
const LEFTOVERS_FOR_MS: i64 = 7 * 86_400_000;

/// What a killed writer has left under a temporary name goes after this long.
const UNFINISHED_FOR_MS: i64 = 86_400_000;

/// Objects to remove at once.
const AT_ONCE: usize = 500;

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Expired {
    pub backups: Vec<String>,
    pub segments: usize,
    /// Data of no backup: left by one that was broken off or by an expiry that was.
    pub leftovers: Vec<String>,
    /// Stored bytes of it all.
    pub bytes: u64,
}

/// Up to where WAL was let go, on every timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ExpiredNote {
    /// The name of the first segment that stayed.
    wal_before: String,
    at: Timestamp,
}

/// The number of the segment before which WAL was let go, except that of kept backups; 0 when none was. Its absence is
/// no loss.
///
/// # Errors
/// When the note cannot be read.
pub fn let_go_before(cluster: &Cluster, segment_size: u64) -> Result<u64> {
    let note = cluster.repo.note::<ExpiredNote>(&cluster.names.expired())?;
    let segment = note.and_then(|note| Segment::parse(&note.wal_before, segment_size));
    Ok(segment.map_or(0, |segment| segment.number))
}

/// What would go.
///
/// # Errors
/// When the repository cannot be read whole: nothing may be decided over a part of it.
pub fn decide(cluster: &Cluster, retention: Retention) -> Result<(Catalogue, Plan)> {
    let mut catalogue = Catalogue::read(cluster)?;
    if let Some((label, why)) = catalogue.unreadable.first_key_value() {
        let text = format!(
            "nothing was removed: what backup {label} needs is not known ({why}); surus backup discard {label} gives it up"
        );
        return Err(BackupError::refused(code::REPO_DAMAGED, text));
    }
    catalogue.read_histories(cluster)?;
    let plan = plan::plan(&catalogue, retention, clock::now_ms());
    Ok((catalogue, plan))
}

/// Carries a plan out. Killed at any moment, it leaves only whole backups, and data that the next expiry removes.
///
/// # Errors
/// When something cannot be removed, or a backup began since the plan was made.
pub fn carry_out(cluster: &Cluster, catalogue: &Catalogue, plan: &Plan, monitor: &dyn Monitor) -> Result<Expired> {
    nothing_began(cluster, catalogue, plan)?;
    let place = cluster.repo.place();
    let names = cluster.names;
    let mut expired = Expired::default();
    for label in &plan.backups {
        remove_backup(cluster, label, monitor, &mut expired)?;
    }
    let doomed: Vec<String> = plan.segments.iter().map(|segment| names.wal(&segment.to_string())).collect();
    let stored = catalogue.wal.values().map(|wal| (wal.stored, wal.segments.len().max(1) as u64));
    let mean = stored.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    expired.bytes += mean.0 / mean.1.max(1) * doomed.len() as u64;
    if let Some(from) = plan.wal_from.as_ref().filter(|_| !doomed.is_empty()) {
        note_what_goes(cluster, from, catalogue.segment_size)?;
    }
    for names in doomed.chunks(AT_ONCE) {
        place.delete(names)?;
    }
    expired.segments = doomed.len();
    sweep(cluster, &mut expired)?;
    Ok(expired)
}

/// Removes a backup that cannot be restored any more, whatever the retention says.
///
/// # Errors
/// When there is no such backup, when it can be restored or is kept, when one that is being taken builds on it, or when
/// something cannot be removed.
pub fn discard(cluster: &Cluster, label: &str, monitor: &dyn Monitor) -> Result<Expired> {
    let catalogue = Catalogue::read(cluster)?;
    if let Some(listed) = catalogue.find(label) {
        if catalogue.trouble(listed).is_none() {
            let text =
                format!("backup {label} can be restored; surus backup expire removes what the retention lets go");
            return Err(BackupError::refused(code::BACKUP_REFUSED, text));
        }
        if let Some(keep) = &listed.keep {
            let text = format!("backup {label} is kept ({}); first: surus backup keep --release {label}", keep.reason);
            return Err(BackupError::refused(code::BACKUP_REFUSED, text));
        }
    } else if !catalogue.unreadable.contains_key(label) {
        return Err(BackupError::refused(code::BACKUP_UNKNOWN, format!("there is no backup {label}")));
    }
    if let Some(note) = catalogue.begun.iter().find(|note| note.alive() && note.parent.as_deref() == Some(label)) {
        let text = format!("nothing was removed: backup {} is being taken and builds on it", note.label);
        return Err(BackupError::refused(code::BACKUP_BUSY, text));
    }
    let mut expired = Expired::default();
    remove_backup(cluster, label, monitor, &mut expired)?;
    Ok(expired)
}

/// The catalogue's entry first: data without one is removed by the next expiry.
fn remove_backup(cluster: &Cluster, label: &str, monitor: &dyn Monitor, expired: &mut Expired) -> Result<()> {
    let (place, names) = (cluster.repo.place(), cluster.names);
    monitor.note(&format!("removing backup {label}"));
    place.delete(&[names.manifest(label)])?;
    expired.bytes += remove_data(cluster, label)?;
    place.delete(&[names.keep(label), names.verified(label)])?;
    expired.backups.push(label.to_owned());
    Ok(())
}

/// Writes down that WAL before this segment goes, before it does: else its absence would look like a loss between a
/// kept backup and the next one.
fn note_what_goes(cluster: &Cluster, from: &str, segment_size: u64) -> Result<()> {
    let number = Segment::parse(from, segment_size).map_or(0, |segment| segment.number);
    if number > let_go_before(cluster, segment_size)? {
        let note = ExpiredNote { wal_before: from.to_owned(), at: clock::now() };
        cluster.repo.place().replace(&cluster.names.expired(), &json(&note))?;
    }
    Ok(())
}

/// A backup that began since may build on what is to go.
fn nothing_began(cluster: &Cluster, catalogue: &Catalogue, plan: &Plan) -> Result<()> {
    let known: BTreeSet<_> = catalogue.begun.iter().map(|note| (&note.label, note.begun_at)).collect();
    for entry in cluster.repo.place().list(&cluster.names.begun_folder())? {
        let Some(note) = cluster.repo.note::<BeginNote>(&entry.name)? else { continue };
        let threatened = note.parent.as_ref().is_some_and(|parent| plan.backups.contains(parent));
        if threatened && !known.contains(&(&note.label, note.begun_at)) {
            let text = format!("nothing was removed: backup {} has just begun; run it again", note.label);
            return Err(BackupError::refused(code::BACKUP_BUSY, text));
        }
    }
    Ok(())
}

fn remove_data(cluster: &Cluster, label: &str) -> Result<u64> {
    let entries = cluster.repo.place().list(&cluster.names.data_folder(Some(label)))?;
    let bytes = entries.iter().map(|entry| entry.size).sum();
    let names: Vec<_> = entries.into_iter().map(|entry| entry.name).collect();
    for names in names.chunks(AT_ONCE) {
        cluster.repo.place().delete(names)?;
    }
    Ok(bytes)
}

/// Removes data that belongs to no backup and to none that is being taken.
fn sweep(cluster: &Cluster, expired: &mut Expired) -> Result<()> {
    let place = cluster.repo.place();
    expired.bytes += place.remove_unfinished(UNFINISHED_FOR_MS)?;
    let folder = cluster.names.data_folder(None);
    // The data first, then what claims it: a backup that begins in between is seen.
    let labels: BTreeSet<String> = place
        .list(&folder)?
        .into_iter()
        .filter_map(|entry| Some(entry.name.strip_prefix(&folder)?.split_once('/')?.0.to_owned()))
        .collect();
    for label in labels {
        // The mark before the manifest: a backup that is done writes its manifest and then takes its mark away. Asked
        // the other way round, one that ends in between would have neither, and lose its data.
        let begun = cluster.repo.note::<BeginNote>(&cluster.names.begun(&label))?;
        if let Some(note) = &begun {
            let silent_ms = clock::now_ms() - note.alive_at.as_millisecond();
            if note.alive() || silent_ms < LEFTOVERS_FOR_MS {
                continue;
            }
        }
        if place.read_range(&cluster.names.manifest(&label), 0..1)?.is_some() {
            continue;
        }
        expired.bytes += remove_data(cluster, &label)?;
        place.delete(&[cluster.names.begun(&label)])?;
        expired.leftovers.push(label);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{
        Repo,
        keys::KeyRing,
        local::LocalPlace,
        place::{Created, Entry, Place, PlaceError},
    };
    use std::{
        ops::Range,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    const LABEL: &str = "20260101T000000Z-full";

    /// A place in which a backup is completed just after the first look at its manifest, or at its mark.
    #[derive(Debug)]
    struct Completing {
        inner: LocalPlace,
        after: &'static str,
        done: AtomicBool,
    }

    impl Completing {
        fn looked_at(&self, name: &str) {
            if name.contains(self.after) && name.contains(LABEL) && !self.done.swap(true, Ordering::SeqCst) {
                let names = crate::repo::layout::ClusterNames { system_identifier: 7 };
                self.inner.create(&names.manifest(LABEL), b"whole").unwrap();
                self.inner.delete(&[names.begun(LABEL)]).unwrap();
            }
        }
    }

    impl Place for Completing {
        fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
            self.inner.create(name, body)
        }

        fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
            self.inner.replace(name, body)
        }

        fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
            let body = self.inner.read(name);
            self.looked_at(name);
            body
        }

        fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
            let body = self.inner.read_range(name, range);
            self.looked_at(name);
            body
        }

        fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
            self.inner.list(folder)
        }

        fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
            self.inner.delete(names)
        }

        fn address(&self) -> String {
            self.inner.address()
        }
    }

    #[test]
    fn a_backup_that_is_completed_during_the_sweep_keeps_its_data() {
        for after in ["/manifest/", "/begun/"] {
            let dir = tempfile::tempdir().unwrap();
            let folder = dir.path().join("repo");
            Repo::in_folder(&folder).unwrap();
            let place = Completing { inner: LocalPlace::new(folder), after, done: AtomicBool::new(false) };
            let repo = Repo::open(Arc::new(place), KeyRing::open()).unwrap();
            let cluster = repo.cluster(7);
            let now = clock::now();
            let note = BeginNote {
                label: LABEL.into(),
                full: true,
                host: "elsewhere".into(),
                pid: 1,
                begun_at: now,
                alive_at: now,
                parent: None,
            };
            cluster.repo.place().create(&cluster.names.begun(LABEL), &json(&note)).unwrap();
            cluster.repo.place().create(&cluster.names.bundle(LABEL, 0), b"data").unwrap();
            let mut expired = Expired::default();
            sweep(&cluster, &mut expired).unwrap();
            assert_eq!(expired.leftovers, [""; 0], "{after}");
            assert!(repo.place().read(&cluster.names.bundle(LABEL, 0)).unwrap().is_some(), "{after}");
        }
    }
}
