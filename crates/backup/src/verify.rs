//! Is what is in the repository still what was written? Every object is read whole and its chunks compared with the
//! manifest. What was found whole is remembered with its size and time of writing, so that the next run reads only what
//! is new, or was last read long ago.

use crate::{
    catalogue::Catalogue,
    chain::read_manifest,
    error::{BackupError, Result},
    manifest::{ChunkEntry, Manifest},
    repo::{
        Cluster,
        container::{Damage, Kind, read_object},
        json,
        place::Entry,
    },
    wal::{
        name::{FileKind, Segment, file_kind},
        segment::SegmentHeader,
    },
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::{clock, monitor::Monitor};

/// How a verification is done.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    pub workers: usize,
    /// What was found whole longer ago is read again; zero reads everything again.
    pub again_after: Duration,
}

/// An object as it was when it was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    size: u64,
    modified_ms: i64,
    verified_ms: i64,
}

impl Remembered {
    fn still_is(self, entry: &Entry, oldest_ms: i64) -> bool {
        self.size == entry.size && self.modified_ms == entry.modified_ms && self.verified_ms >= oldest_ms
    }
}

/// What is remembered of a backup: when all of it was last found whole, and each object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedNote {
    pub at: Timestamp,
    objects: BTreeMap<String, Remembered>,
}

/// What is wrong in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Fault {
    /// An object is not what was written; `files` are those that have blocks in it, the first few.
    Damaged { object: String, damage: String, files: Vec<String> },
    /// An object that a backup needs is not there.
    Missing { object: String, files: Vec<String> },
    /// A WAL segment between the backup's start and end is not there.
    MissingWal { segment: String },
    /// An object could not be read: nothing is known of it.
    Unread { object: String, problem: String },
}

/// What was found out about one backup, or about WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The backup's label; none for WAL.
    pub backup: Option<String>,
    pub faults: Vec<Fault>,
    /// Objects read now, and those remembered from before.
    pub read: u64,
    pub remembered: u64,
    /// Stored bytes read now.
    pub bytes: u64,
}

impl Verdict {
    /// Is everything whole?
    pub fn good(&self) -> bool {
        self.faults.is_empty()
    }
}

/// When all of a backup was last read and found whole.
///
/// # Errors
/// When the note cannot be read.
pub fn verified_at(cluster: &Cluster, label: &str) -> Result<Option<Timestamp>> {
    // A note that cannot be understood is as good as none: the backup is read again.
    match cluster.repo.note::<VerifiedNote>(&cluster.names.verified(label)) {
        Err(BackupError::Damaged { .. }) => Ok(None),
        other => Ok(other?.map(|note| note.at)),
    }
}

/// Verifies one backup: its own objects, and that the WAL it needs is archived. What it builds on is verified as a
/// backup of its own.
///
/// # Errors
/// When the repository cannot be listed, or the verdict cannot be kept.
pub fn verify_backup(
    cluster: &Cluster,
    catalogue: &Catalogue,
    label: &str,
    options: VerifyOptions,
    monitor: &dyn Monitor,
) -> Result<Verdict> {
    let mut verdict = Verdict { backup: Some(label.into()), faults: Vec::new(), read: 0, remembered: 0, bytes: 0 };
    let manifest = match read_manifest(cluster, label, "it was asked for") {
        Ok(manifest) => manifest,
        Err(BackupError::Damaged { name, damage, .. }) => {
            verdict.faults.push(Fault::Damaged { object: name, damage: damage.to_string(), files: Vec::new() });
            return Ok(verdict);
        }
        Err(other) => return Err(other),
    };
    for segment in catalogue.missing_for(&manifest.about) {
        verdict.faults.push(Fault::MissingWal { segment: segment.to_string() });
    }
    if let Some(parent) = manifest.about.parent.as_ref().filter(|parent| catalogue.find(parent).is_none()) {
        let (object, files) = (cluster.names.manifest(parent), Vec::new());
        verdict.faults.push(match catalogue.unreadable.get(parent) {
            Some(_) => Fault::Damaged { object, damage: "this backup builds on it".into(), files },
            None => Fault::Missing { object, files },
        });
    }
    let known = match cluster.repo.note::<VerifiedNote>(&cluster.names.verified(label)) {
        Err(BackupError::Damaged { .. }) => None,
        other => other?,
    };
    let known = known.map(|note| note.objects).unwrap_or_default();
    let work = BackupWork::new(cluster, &manifest);
    let there = cluster.repo.place().list(&cluster.names.data_folder(Some(label)))?;
    let objects = examine(cluster, &there, &known, options, monitor, |entry| work.examine(entry), &mut verdict);
    for (bundle, object) in &work.wanted {
        if !there.iter().any(|entry| entry.name == *object) {
            verdict.faults.push(Fault::Missing { object: object.clone(), files: work.files_in(*bundle) });
        }
    }
    if verdict.good() {
        let note = VerifiedNote { at: clock::now(), objects };
        cluster.repo.place().replace(&cluster.names.verified(label), &json(&note))?;
    } else {
        cluster.repo.place().delete(&[cluster.names.verified(label)])?;
    }
    Ok(verdict)
}

/// Verifies archived WAL: every file is whole, and holds what its name says. A backup that needs one that is not is no
/// longer said to be verified.
///
/// # Errors
/// As [`verify_backup`].
pub fn verify_wal(cluster: &Cluster, options: VerifyOptions, monitor: &dyn Monitor) -> Result<Verdict> {
    let mut verdict = Verdict { backup: None, faults: Vec::new(), read: 0, remembered: 0, bytes: 0 };
    let name = cluster.names.verified_wal();
    let known = match cluster.repo.note::<VerifiedNote>(&name) {
        Err(BackupError::Damaged { .. }) => None,
        other => other?,
    };
    let known = known.map(|note| note.objects).unwrap_or_default();
    let there = cluster.repo.place().list(&cluster.names.wal_folder(None))?;
    let segment_size = cluster.mark()?.map_or(0, |mark| mark.segment_size);
    let look = |entry: &Entry| examine_wal(cluster, entry, segment_size);
    let objects = examine(cluster, &there, &known, options, monitor, look, &mut verdict);
    cluster.repo.place().replace(&name, &json(&VerifiedNote { at: clock::now(), objects }))?;
    if !verdict.good() {
        not_verified_with(cluster, &verdict.faults, segment_size)?;
    }
    Ok(verdict)
}

/// Takes back what was said of backups that cannot be made consistent without the WAL of these faults.
fn not_verified_with(cluster: &Cluster, faults: &[Fault], segment_size: u64) -> Result<()> {
    let bad = faults.iter().filter_map(|fault| match fault {
        Fault::Damaged { object, .. } | Fault::Missing { object, .. } | Fault::Unread { object, .. } => {
            Segment::parse(object.rsplit('/').next()?, segment_size)
        }
        Fault::MissingWal { segment } => Segment::parse(segment, segment_size),
    });
    let bad: BTreeSet<Segment> = bad.collect();
    // One that cannot be read is not said to be verified.
    for about in crate::catalogue::readable(cluster)?.0 {
        let first = Segment::at(about.timeline, about.start_lsn, segment_size);
        let last = Segment::ending_at(about.timeline, about.stop_lsn, segment_size).max(first);
        if bad.range(first..=last).next().is_some() {
            cluster.repo.place().delete(&[cluster.names.verified(&about.label)])?;
        }
    }
    Ok(())
}

/// Reads objects in threads, each with `look`; gives what is to be remembered.
fn examine(
    cluster: &Cluster,
    there: &[Entry],
    known: &BTreeMap<String, Remembered>,
    options: VerifyOptions,
    monitor: &dyn Monitor,
    look: impl Fn(&Entry) -> Option<Fault> + Sync,
    verdict: &mut Verdict,
) -> BTreeMap<String, Remembered> {
    let now_ms = clock::now_ms();
    let oldest_ms = now_ms.saturating_sub(i64::try_from(options.again_after.as_millis()).unwrap_or(i64::MAX));
    let short = |name: &str| name.trim_start_matches(&cluster.names.folder()).to_owned();
    let mut objects = BTreeMap::new();
    let mut todo = Vec::new();
    for entry in there {
        match known.get(&short(&entry.name)) {
            Some(before) if !options.again_after.is_zero() && before.still_is(entry, oldest_ms) => {
                verdict.remembered += 1;
                objects.insert(short(&entry.name), *before);
            }
            _ => todo.push(entry),
        }
    }
    let (next, bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let found: Mutex<Vec<(usize, Option<Fault>)>> = Mutex::new(Vec::with_capacity(todo.len()));
    monitor.begin("bytes", Some(todo.iter().map(|entry| entry.size).sum()));
    thread::scope(|scope| {
        for _ in 0..options.workers.clamp(1, 64) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(entry) = todo.get(number) else { return };
                    let fault = look(entry);
                    let done = bytes.fetch_add(entry.size, Ordering::Relaxed) + entry.size;
                    monitor.advance("bytes", done);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push((number, fault));
                }
            });
        }
    });
    monitor.end("bytes", "");
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_unstable_by_key(|(number, _)| *number);
    for (number, fault) in found {
        let entry = todo[number];
        verdict.read += 1;
        verdict.bytes += entry.size;
        match fault {
            Some(fault) => verdict.faults.push(fault),
            None => {
                let seen = Remembered { size: entry.size, modified_ms: entry.modified_ms, verified_ms: now_ms };
                objects.insert(short(&entry.name), seen);
            }
        }
    }
    objects
}

/// What a backup's objects must hold.
struct BackupWork<'a> {
    cluster: &'a Cluster,
    manifest: &'a Manifest,
    /// Its bundles' numbers and names.
    wanted: BTreeMap<u32, String>,
    /// The chunks of each bundle by their numbers in it.
    chunks: BTreeMap<u32, BTreeMap<u32, &'a ChunkEntry>>,
}

impl<'a> BackupWork<'a> {
    fn new(cluster: &'a Cluster, manifest: &'a Manifest) -> Self {
        let mut chunks: BTreeMap<u32, BTreeMap<u32, &ChunkEntry>> = BTreeMap::new();
        for chunk in &manifest.chunks {
            chunks.entry(chunk.bundle).or_default().insert(chunk.index, chunk);
        }
        let label = &manifest.about.label;
        let wanted = chunks.keys().map(|bundle| (*bundle, cluster.names.bundle(label, *bundle))).collect();
        Self { cluster, manifest, wanted, chunks }
    }

    fn examine(&self, entry: &Entry) -> Option<Fault> {
        let bundle = entry.name.rsplit_once("/b").and_then(|(_, number)| number.parse::<u32>().ok());
        let kind = if bundle.is_some() { Kind::Bundle } else { Kind::Blocks };
        let none = BTreeMap::new();
        let expected = bundle.and_then(|bundle| self.chunks.get(&bundle)).unwrap_or(&none);
        let mut seen = 0;
        let fault = read_and_check(self.cluster, kind, &entry.name, |index, raw, hash| {
            let Some(chunk) = expected.get(&index) else { return Ok(()) };
            seen += 1;
            let same = chunk.hash == *hash && chunk.raw_len as usize == raw.len();
            if same { Ok(()) } else { Err(Damage::Content) }
        });
        match fault {
            None if seen == expected.len() => None,
            None => Some(Damage::Truncated.to_string()).map(|damage| self.damaged(entry, damage, bundle)),
            Some(Fault::Damaged { damage, .. }) => Some(self.damaged(entry, damage, bundle)),
            other => other,
        }
    }

    fn damaged(&self, entry: &Entry, damage: String, bundle: Option<u32>) -> Fault {
        let files = bundle.map_or_else(Vec::new, |bundle| self.files_in(bundle));
        Fault::Damaged { object: entry.name.clone(), damage, files }
    }

    /// The first files that have blocks in a bundle.
    fn files_in(&self, bundle: u32) -> Vec<String> {
        let inside = |chunk: u32| self.manifest.chunks.get(chunk as usize).is_some_and(|one| one.bundle == bundle);
        let files = self.manifest.files.iter().filter(|file| file.runs.iter().any(|run| inside(run.chunk)));
        let paths: BTreeSet<_> = files.map(|file| file.path.clone()).take(5).collect();
        paths.into_iter().collect()
    }
}

fn examine_wal(cluster: &Cluster, entry: &Entry, segment_size: u64) -> Option<Fault> {
    let file = entry.name.rsplit_once('/').map_or("", |(_, file)| file);
    let (mut start, mut bytes) = (Vec::new(), 0);
    let fault = read_and_check(cluster, Kind::Wal, &entry.name, |index, raw, _| {
        bytes += raw.len() as u64;
        if index == 0 {
            start = raw;
        }
        Ok(())
    });
    if fault.is_some() || file_kind(file) != Some(FileKind::Segment) {
        return fault;
    }
    let damaged = |damage: String| Fault::Damaged { object: entry.name.clone(), damage, files: Vec::new() };
    let Some(header) = SegmentHeader::parse(&start) else { return Some(damaged("it holds no WAL segment".into())) };
    let segment = Segment::parse(file, segment_size)?;
    let misfit = header.fits(segment, bytes, Some(cluster.names.system_identifier)).err()?;
    Some(damaged(misfit.to_string()))
}

fn read_and_check(
    cluster: &Cluster,
    kind: Kind,
    name: &str,
    each: impl FnMut(u32, Vec<u8>, &[u8; 32]) -> Result<(), Damage>,
) -> Option<Fault> {
    let object = name.to_owned();
    match cluster.repo.place().read(name) {
        Err(error) => Some(Fault::Unread { object, problem: error.to_string() }),
        Ok(None) => Some(Fault::Missing { object, files: Vec::new() }),
        Ok(Some(body)) => match read_object(kind, name, &body, cluster.repo.keys(), each) {
            Ok(()) => None,
            Err(Damage::Key(id)) => Some(Fault::Unread { object, problem: Damage::Key(id).to_string() }),
            Err(damage) => Some(Fault::Damaged { object, damage: damage.to_string(), files: Vec::new() }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalogue, manifest::tests::example, repo::Repo};
    use surus_core::{lsn::Lsn, monitor::Silent};

    #[test]
    fn a_backup_whose_wal_is_damaged_is_no_longer_said_to_be_verified() {
        const SIZE: u64 = 16 << 20;
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        let cluster = repo.cluster(7);
        cluster.register(SIZE, None).unwrap();
        for (label, segment) in [("a", 3), ("b", 6)] {
            let mut manifest = example(label);
            manifest.about.start_lsn = Lsn(segment * SIZE + 40);
            manifest.about.stop_lsn = Lsn((segment + 1) * SIZE + 99);
            catalogue::write_manifest(&cluster, &manifest).unwrap();
            let note = VerifiedNote { at: clock::now(), objects: BTreeMap::new() };
            repo.place().replace(&cluster.names.verified(label), &json(&note)).unwrap();
        }
        let bad = Segment { timeline: example("a").about.timeline, number: 4, size: SIZE };
        repo.place().create(&cluster.names.wal(&bad.to_string()), b"damaged").unwrap();
        let options = VerifyOptions { workers: 1, again_after: Duration::ZERO };
        assert!(!verify_wal(&cluster, options, &Silent).unwrap().good());
        assert_eq!(verified_at(&cluster, "a").unwrap(), None);
        assert!(verified_at(&cluster, "b").unwrap().is_some());
    }
}
