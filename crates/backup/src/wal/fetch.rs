//! A file of pg_wal comes back from the repository. A server that is told "there is no such file" believes that its WAL
//! ends there and begins a new timeline; so that is said only when it was proven.

use super::{
    name::{FileKind, Segment, file_kind},
    segment::{HEADER, SegmentHeader},
    survey,
    timeline::History,
};
use crate::{
    block::hash_of,
    error::{BackupError, Result},
    repo::{
        Cluster,
        container::{Damage, Hash, Kind},
    },
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use surus_core::{clock::Deadline, code};

/// The first pause before another look, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Reads a file of the archive and verifies that it is what its name says. `None` is proven: the repository was there
/// between two looks that found nothing, it knows the cluster, and nothing shows that there was WAL after the file's
/// beginning: no later segment of that timeline, no mark of one that was given up, no timeline that left it later.
///
/// # Errors
/// Whatever leaves it open whether the file is there, or what is in it.
pub fn look(cluster: &Cluster, name: &str) -> Result<Option<Vec<u8>>> {
    let kind = file_kind(name)
        .ok_or_else(|| BackupError::refused(code::WAL_NAME, format!("{name:?} is not the name of a file of pg_wal")))?;
    let object = cluster.names.wal(name);
    for first in [true, false] {
        if let Some(content) = cluster.repo.read(Kind::Wal, &object)? {
            verify(name, kind, &content, cluster.names.system_identifier)
                .map_err(|why| cluster.repo.damaged(&object, Damage::Meaning(why)))?;
            return Ok(Some(content));
        }
        if first {
            cluster.repo.still_there()?;
            let Some(mark) = cluster.mark()? else {
                let id = cluster.names.system_identifier;
                let text = format!("the repository in {} holds nothing of cluster {id}", cluster.repo.address());
                return Err(BackupError::refused(code::REPO_CLUSTER, text));
            };
            if kind == FileKind::Segment {
                refuse_gap(cluster, name, mark.segment_size)?;
            }
        }
    }
    Ok(None)
}

/// As [`look`], again and again with growing pauses while it is uncertain.
///
/// # Errors
/// The last one, when `patience` is over.
pub fn look_patiently(cluster: &Cluster, name: &str, patience: Duration) -> Result<Option<Vec<u8>>> {
    patiently(patience, || look(cluster, name))
}

/// Does it again with growing pauses until it succeeds or patience is over.
///
/// # Errors
/// The last one.
pub fn patiently<T>(patience: Duration, mut act: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Deadline::after(patience);
    let (mut pause, longest) = PAUSE;
    loop {
        match act() {
            Err(error) if deadline.passed() || !may_pass(&error) => return Err(error),
            Err(_) => thread::sleep(pause.min(deadline.remaining() + Duration::from_millis(1))),
            done => return done,
        }
        pause = (pause * 2).min(longest);
    }
}

/// Can waiting help? A wrong name, key or cluster stays wrong.
fn may_pass(error: &BackupError) -> bool {
    let lasting = [code::WAL_NAME, code::REPO_KEY, code::REPO_NEWER, code::REPO_FOREIGN, code::REPO_ADDRESS];
    !lasting.contains(&error.code())
}

/// A segment that is not there though there was WAL after its beginning: recovery must not end before it. That there
/// was shows a later segment, a mark that WAL was given up, or a timeline that left this one later.
fn refuse_gap(cluster: &Cluster, name: &str, size: u64) -> Result<()> {
    let Some(wanted) = Segment::parse(name, size) else { return Ok(()) };
    let place = cluster.repo.place();
    let gap = |text: String| {
        Err(BackupError::refused(code::WAL_GAP, format!("{name} is not in {}: {text}", cluster.repo.address())))
    };
    let segment = |name: &str| Segment::parse(name.rsplit('/').next()?, size);
    let folder = cluster.names.wal_folder(Some(wanted.timeline));
    let later = place.list_after(&folder, &cluster.names.wal(name))?;
    if let Some(later) = later.iter().find_map(|entry| segment(&entry.name)) {
        return gap(format!("{later}, which comes after it, is there"));
    }
    for entry in place.list(&cluster.names.hole_folder())? {
        let hole = entry.name.strip_suffix(".json").and_then(segment);
        if let Some(hole) = hole.filter(|hole| hole.timeline == wanted.timeline && hole.number >= wanted.number) {
            return gap(format!("WAL was given up, {hole} too; a moment before it can be restored"));
        }
    }
    for entry in place.list(&cluster.names.history_folder())? {
        let file = entry.name.rsplit('/').next().unwrap_or_default();
        let Some(timeline) = file.strip_suffix(".history").and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
            continue;
        };
        let history = match survey::history(cluster, timeline) {
            // It says nothing; that it is damaged is said where it is needed.
            Err(BackupError::Damaged { .. }) => continue,
            other => other?,
        };
        let left =
            history.entries.iter().find(|switch| switch.timeline == wanted.timeline && switch.at >= wanted.end());
        if let Some(left) = left {
            return gap(format!("timeline {timeline} left its timeline only at {}, after its end", left.at));
        }
    }
    Ok(())
}

/// Is the content what the name says?
///
/// # Errors
/// What does not fit.
pub fn verify(name: &str, kind: FileKind, content: &[u8], system_identifier: u64) -> Result<(), String> {
    match kind {
        FileKind::Segment | FileKind::Partial => {
            let header = content.get(..HEADER).and_then(SegmentHeader::parse);
            let header = header.ok_or("it does not begin as a WAL segment does")?;
            let segment = Segment::parse(&name[..24], header.segment_size).ok_or("there is no such segment")?;
            header.fits(segment, content.len() as u64, Some(system_identifier)).map_err(|misfit| misfit.to_string())
        }
        FileKind::History => {
            let timeline = u32::from_str_radix(&name[..8], 16).unwrap_or(0);
            let text = String::from_utf8_lossy(content);
            History::parse(timeline, &text).map(drop).map_err(|bad| bad.to_string())
        }
        FileKind::Backup => Ok(()),
    }
}

/// Writes the file durably: under a temporary name beside it, flushed, renamed, and its directory flushed.
///
/// # Errors
/// When it could not be; the file is not there then, or as it was.
pub fn put(content: &[u8], to: &Path) -> Result<()> {
    let unfinished = beside(to);
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&unfinished, to)?;
        flush_folder_of(to)
    };
    write().map_err(|error| {
        drop(fs::remove_file(&unfinished));
        BackupError::file("cannot write", to)(error)
    })
}

/// A prefetched file: where it is, and the hash that it had when it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    pub path: PathBuf,
    pub hash: Hash,
}

/// Hands a prefetched segment out: read again, verified again, and given its place. `false` when it is not what it was;
/// then nothing was done.
///
/// # Errors
/// When it could not be given its place.
pub fn hand_out(spooled: &Spooled, name: &str, system_identifier: u64, to: &Path) -> Result<bool> {
    let Ok(content) = fs::read(&spooled.path) else { return Ok(false) };
    let same = hash_of(&content) == spooled.hash;
    if !same || verify(name, FileKind::Segment, &content, system_identifier).is_err() {
        return Ok(false);
    }
    match fs::rename(&spooled.path, to) {
        Ok(()) => flush_folder_of(to).map_err(BackupError::file("cannot flush the directory of", to))?,
        // The spool may be on another filesystem.
        Err(_) => {
            put(&content, to)?;
            drop(fs::remove_file(&spooled.path));
        }
    }
    Ok(true)
}

/// Keeps a verified segment in the spool, durably.
///
/// # Errors
/// When there is no room, or the spool is gone.
pub fn spool(content: &[u8], path: PathBuf) -> Result<Spooled> {
    let hash = hash_of(content);
    put(content, &path)?;
    Ok(Spooled { path, hash })
}

fn beside(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(format!(".surus-{}", std::process::id()));
    to.with_file_name(name)
}

fn flush_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Some filesystems cannot flush a directory; they write it through.
        Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}
