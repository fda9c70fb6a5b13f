//! Where pg_wal lies and how much room it has there.

use crate::scene::Scene;
use std::{os::unix::fs::MetadataExt, path::PathBuf};
use surus_core::finding::Reason;
use surus_pg::host::{self, Room};

/// The directory.
///
/// # Errors
/// Unknown: surus is not on the host, or the role may not see where the data directory is.
pub(crate) fn directory(scene: &Scene<'_>) -> Result<PathBuf, Reason> {
    Ok(scene.data_directory()?.join("pg_wal"))
}

/// The room on its filesystem.
///
/// # Errors
/// As [`directory`], or this user of the operating system may not enter the data directory.
pub(crate) fn of(scene: &Scene<'_>) -> Result<Room, Reason> {
    let directory = directory(scene)?;
    host::room(&directory).ok_or_else(|| hidden(&directory))
}

/// Has it a filesystem of its own, apart from the data directory's?
///
/// # Errors
/// As [`of`].
pub(crate) fn is_separate(scene: &Scene<'_>) -> Result<bool, Reason> {
    let (wal, data) = (directory(scene)?, scene.data_directory()?);
    let device = |path: &PathBuf| std::fs::metadata(path).map(|seen| seen.dev()).map_err(|_| hidden(path));
    Ok(device(&wal)? != device(&data)?)
}

fn hidden(path: &std::path::Path) -> Reason {
    Reason::Host(format!("surus may not look at {}: run it as the server's operating system user", path.display()))
}
