//! Holes: WAL that was given up so that the server's disk does not fill, and the marks that say so.
//!
//! A hole is written down before its segment is acknowledged: in the repository, or, when that cannot be reached,
//! beside the server's WAL, from where the next push brings it.

use super::name::Segment;
use crate::{
    error::{BackupError, Result},
    repo::{Cluster, json},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};
use surus_core::clock;

/// Where holes wait below pg_wal. A server ignores what it does not know there, and no backup copies it.
const FOLDER: &str = "surus-holes";

/// What a mark says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoleNote {
    /// The segment's name.
    pub segment: String,
    pub given_up_at: jiff::Timestamp,
    /// WAL that waited to be archived, in bytes, and how much may.
    pub waiting_bytes: u64,
    pub allowed_bytes: u64,
}

/// Where the mark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    InRepository,
    /// Durable on the server's disk; the repository does not know yet.
    Here,
}

/// Marks a segment as given up, durably.
///
/// # Errors
/// When the mark could be written nowhere: then the segment must not be acknowledged.
pub fn mark(cluster: Option<&Cluster>, pg_wal: &Path, segment: Segment, waiting: u64, allowed: u64) -> Result<Marked> {
    let note = HoleNote {
        segment: segment.to_string(),
        given_up_at: clock::now(),
        waiting_bytes: waiting,
        allowed_bytes: allowed,
    };
    if let Some(cluster) = cluster
        && cluster.repo.place().create(&cluster.names.hole(&note.segment), &json(&note)).is_ok()
    {
        return Ok(Marked::InRepository);
    }
    let folder = pg_wal.join(FOLDER);
    write_here(&folder, &note).map_err(BackupError::file("cannot write a mark into", &folder))?;
    Ok(Marked::Here)
}

fn write_here(folder: &Path, note: &HoleNote) -> std::io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir(folder)?;
        File::open(folder.parent().unwrap_or(folder))?.sync_all()?;
    }
    let path = folder.join(format!("{}.json", note.segment));
    let unfinished = folder.join(format!(".unfinished-{}", std::process::id()));
    let mut file = File::create(&unfinished)?;
    file.write_all(&json(note))?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()
}

/// Brings marks that wait beside the server's WAL into the repository. Returns how many.
///
/// # Errors
/// When one cannot be brought; it stays.
pub fn carry_over(cluster: &Cluster, pg_wal: &Path) -> Result<u64> {
    let folder = pg_wal.join(FOLDER);
    let mut carried = 0;
    for path in waiting(&folder).map_err(BackupError::file("cannot read", &folder))? {
        let bytes = fs::read(&path).map_err(BackupError::file("cannot read", &path))?;
        let note: std::result::Result<HoleNote, _> = serde_json::from_slice(&bytes);
        // Only what was written here: a name leads to an object.
        if let Ok(note) = note
            && super::name::file_kind(&note.segment) == Some(super::name::FileKind::Segment)
        {
            cluster.repo.place().create(&cluster.names.hole(&note.segment), &bytes)?;
            carried += 1;
        }
        fs::remove_file(&path).map_err(BackupError::file("cannot remove", &path))?;
    }
    Ok(carried)
}

fn waiting(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let paths: std::io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(paths?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "json")).collect())
}

/// The cluster's holes in the repository, by segment.
///
/// # Errors
/// When they cannot be read.
pub fn list(cluster: &Cluster) -> Result<Vec<HoleNote>> {
    let mut notes = Vec::new();
    for entry in cluster.repo.place().list(&cluster.names.hole_folder())? {
        notes.extend(cluster.repo.note::<HoleNote>(&entry.name)?);
    }
    Ok(notes)
}
