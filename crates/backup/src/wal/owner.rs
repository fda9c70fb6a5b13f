//! Whose pg_wal it is: the cluster of the data directory that a path of archive_command or restore_command lies in.

use crate::{
    control::{self, Control},
    error::{BackupError, Result},
};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use surus_core::code;

/// How often pg_control is read when a write seems to be under way.
const LOOKS: u32 = 10;

/// Reads the pg_control of the data directory that the path is in: `pg_wal/…` below it, or else the working directory,
/// which is the data directory for the commands that a server runs. `None` when neither has one.
///
/// # Errors
/// When it is there and cannot be read.
pub fn control_beside(path: &Path) -> Result<Option<Control>> {
    let above = path.parent().and_then(Path::parent).map(Path::to_owned);
    for directory in [above, Some(PathBuf::new())].into_iter().flatten() {
        let file = directory.join(control::PATH);
        if file.exists() {
            return read(&file).map(Some);
        }
    }
    Ok(None)
}

fn read(file: &Path) -> Result<Control> {
    for look in 1.. {
        let bytes = fs::read(file).map_err(BackupError::file("cannot read", file))?;
        match Control::parse(&bytes) {
            Ok(control) => return Ok(control),
            Err(bad) if look == LOOKS => {
                return Err(BackupError::refused(code::BACKUP_FILE, format!("{}: {bad}", file.display())));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
    Err(BackupError::refused(code::BUG, "a loop without an end ended"))
}

/// The cluster that a path is of: the one that was named, and the one whose data directory it is in must be the same.
///
/// # Errors
/// When they differ, or pg_control cannot be read.
pub fn cluster_of(path: &Path, named: Option<u64>) -> Result<Option<u64>> {
    let found = control_beside(path)?.map(|control| control.system_identifier);
    match (named, found) {
        (Some(named), Some(found)) if named != found => {
            let text = format!("{} is of cluster {found}, and --cluster says {named}", path.display());
            Err(BackupError::refused(code::REPO_CLUSTER, text))
        }
        (named, found) => Ok(named.or(found)),
    }
}
