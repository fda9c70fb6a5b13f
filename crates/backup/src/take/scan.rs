//! What of a data directory belongs into a backup. Source: PostgreSQL's documentation of BASE_BACKUP ("files that are
//! skipped"), and "Making a Base Backup Using the Low Level API".

use crate::error::{BackupError, Result};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use surus_core::code;

/// A file as the directory tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Relative to the data directory.
    pub path: String,
    pub size: u64,
    pub mode: u32,
    pub modified_ms: i64,
}

/// The files and directories of a cluster.
#[derive(Debug, Default)]
pub struct Tree {
    pub files: Vec<Found>,
    /// With permission bits, each after the one that holds it.
    pub directories: Vec<(String, u32)>,
}

/// Directories that are kept empty: their content is of the running server only, or comes back from WAL.
const EMPTIED: &[&str] =
    &["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];

/// Files at the top that are of the running server, or of another backup, only. `pg_control` is read apart, last.
const LEFT_OUT: &[&str] = &[
    "postmaster.pid",
    "postmaster.opts",
    "backup_label",
    "backup_label.old",
    "tablespace_map",
    "tablespace_map.old",
    "backup_manifest",
    "recovery.signal",
    "standby.signal",
    "postgresql.auto.conf.tmp",
    "current_logfiles",
    "current_logfiles.tmp",
    "global/pg_control",
    "global/pg_control.tmp",
];

/// Walks a data directory and its tablespaces, which are links in `pg_tblspc`.
///
/// # Errors
/// When something in it cannot be read, is neither file nor directory, or is a link that leads where none may.
pub fn scan(data: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut unlogged = BTreeSet::new();
    walk(data, data, "", &mut tree, &mut unlogged)?;
    // Whose init fork is there is emptied at the end of recovery: only the init fork counts.
    tree.files.retain(|file| !is_unlogged_data(&file.path, &unlogged));
    tree.files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    tree.directories.sort_unstable();
    Ok(tree)
}

fn walk(data: &Path, folder: &Path, inside: &str, tree: &mut Tree, unlogged: &mut BTreeSet<String>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder != data => return Ok(()),
        other => other.map_err(BackupError::file("cannot read", folder))?,
    };
    for entry in entries {
        let entry = entry.map_err(BackupError::file("cannot read", folder))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            let text = format!("{} has a file whose name is no UTF-8", folder.display());
            return Err(BackupError::refused(code::BACKUP_REFUSED, text));
        };
        let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
        if is_left_out(inside, &name, &path) {
            continue;
        }
        let full = entry.path();
        let about = match fs::symlink_metadata(&full) {
            // Dropped since the directory was read; WAL tells of it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            other => other.map_err(BackupError::file("cannot read", &full))?,
        };
        let about = if about.is_symlink() { follow(data, &full, inside, &name)? } else { about };
        let mode = about.permissions().mode() & 0o7777;
        if about.is_dir() {
            tree.directories.push((path.clone(), mode));
            if !EMPTIED.contains(&path.as_str()) {
                walk(data, &full, &path, tree, unlogged)?;
            }
        } else if about.is_file() {
            if let Some(relation) = path.strip_suffix("_init") {
                unlogged.insert(relation.to_owned());
            }
            let modified_ms = about.mtime() * 1000 + about.mtime_nsec() / 1_000_000;
            tree.files.push(Found { path, size: about.len(), mode, modified_ms });
        }
        // Sockets and pipes have no content that could come back.
    }
    Ok(())
}

fn is_left_out(inside: &str, name: &str, path: &str) -> bool {
    LEFT_OUT.contains(&path)
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || (is_database(inside) && is_temporary(name))
}

/// Is it a directory of a database: `base/OID`, or `pg_tblspc/OID/PG_…/OID`?
fn is_database(inside: &str) -> bool {
    let parts: Vec<_> = inside.split('/').collect();
    matches!(parts.as_slice(), ["base", _] | ["pg_tblspc", _, _, _])
}

/// A file of a temporary relation: `t3_16384`, with the backend's number first.
fn is_temporary(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix('t')
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(backend, rest)| digits(backend) && rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// A fork other than init of a relation that has an init fork.
fn is_unlogged_data(path: &str, unlogged: &BTreeSet<String>) -> bool {
    if unlogged.is_empty() || path.ends_with("_init") {
        return false;
    }
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let end = name.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(name.len());
    end > 0 && unlogged.contains(&format!("{folder}/{}", &name[..end]))
}

/// Follows a link that may be one: a tablespace, or pg_wal and the log directory, which are kept empty or copied as a
/// directory. A link that leads into the data directory, or to a further link, is refused: its content would be twice
/// in the backup, or come back in the wrong place.
fn follow(data: &Path, link: &Path, inside: &str, name: &str) -> Result<fs::Metadata> {
    let refuse = |why: &str| {
        let text = format!("{} {why}", link.display());
        Err(BackupError::refused(code::BACKUP_REFUSED, text))
    };
    let target = fs::read_link(link).map_err(BackupError::file("cannot read the link", link))?;
    let target = if target.is_absolute() { target } else { link.parent().unwrap_or(data).join(target) };
    let tablespace = inside == "pg_tblspc" && name.bytes().all(|byte| byte.is_ascii_digit());
    if fs::symlink_metadata(&target).is_ok_and(|about| about.is_symlink()) {
        return refuse("is a link to a link");
    }
    let real = |path: &Path| fs::canonicalize(path).map_err(BackupError::file("cannot follow", path));
    if real(&target)?.starts_with(real(data)?) && (tablespace || inside.is_empty()) {
        return refuse("is a link into the data directory");
    }
    fs::metadata(link).map_err(BackupError::file("cannot follow", link))
}

/// Where a file of the tree is.
pub fn full_path(data: &Path, path: &str) -> PathBuf {
    data.join(path)
}

/// Pages of a relation's file before the next one begins, as PostgreSQL is built by default (`RELSEG_SIZE`): pages of a
/// server that was built otherwise are not verified.
pub const SEGMENT_PAGES: u32 = 131_072;

/// The number of a relation file's first page in its relation, when its pages have checksums: `1663/16384` is 0,
/// `16384.2` begins after two segments of 1 GiB. `None` for files that are no relation's.
pub fn first_page(path: &str) -> Option<u32> {
    let (folder, name) = path.rsplit_once('/')?;
    if folder != "global" && !is_database(folder) {
        return None;
    }
    let (name, segment) = name.split_once('.').unwrap_or((name, "0"));
    let relation = ["_fsm", "_vm", "_init"].iter().find_map(|fork| name.strip_suffix(fork)).unwrap_or(name);
    let digits = !relation.is_empty() && relation.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| segment.parse::<u32>().ok()?.checked_mul(SEGMENT_PAGES)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_server_needs_alone_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        for path in [
            "PG_VERSION",
            "postmaster.pid",
            "backup_label",
            "global/pg_control",
            "global/pg_internal.init.77",
            "global/1262",
            "base/5/16384",
            "base/5/16384_fsm",
            "base/5/16390",
            "base/5/16390_init",
            "base/5/16390_fsm",
            "base/5/t3_16400",
            "base/5/t3_16400_vm",
            "base/pgsql_tmp/pgsql_tmp77.0",
            "pg_wal/000000010000000000000001",
            "pg_wal/archive_status/000000010000000000000001.done",
            "pg_replslot/a/state",
        ] {
            fs::create_dir_all(data.join(path).parent().unwrap()).unwrap();
            fs::write(data.join(path), path).unwrap();
        }
        let tree = scan(data).unwrap();
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        let expected = ["PG_VERSION", "base/5/16384", "base/5/16384_fsm", "base/5/16390_init", "global/1262"];
        assert_eq!(paths, expected);
        let folders: Vec<_> = tree.directories.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(folders, ["base", "base/5", "global", "pg_replslot", "pg_wal"]);
    }

    #[test]
    fn links_lead_to_tablespaces_only() {
        let dir = tempfile::tempdir().unwrap();
        let (data, space) = (dir.path().join("data"), dir.path().join("space"));
        fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        fs::create_dir_all(space.join("PG_15_202209061/5")).unwrap();
        fs::write(space.join("PG_15_202209061/5/16384"), b"x").unwrap();
        std::os::unix::fs::symlink(&space, data.join("pg_tblspc/16999")).unwrap();
        let tree = scan(&data).unwrap();
        assert_eq!(tree.files[0].path, "pg_tblspc/16999/PG_15_202209061/5/16384");
        assert_eq!(first_page(&tree.files[0].path), Some(0));
        std::os::unix::fs::symlink(data.join("pg_tblspc"), data.join("pg_tblspc/17000")).unwrap();
        assert!(scan(&data).unwrap_err().to_string().contains("into the data directory"));
    }

    #[test]
    fn pages_are_counted_through_a_relations_files() {
        assert_eq!(first_page("base/5/16384"), Some(0));
        assert_eq!(first_page("base/5/16384.2"), Some(262_144));
        assert_eq!(first_page("base/5/16384_vm"), Some(0));
        assert_eq!(first_page("global/1262"), Some(0));
        for other in ["base/5/PG_VERSION", "base/5/pg_filenode.map", "pg_xact/0000", "PG_VERSION", "global/pg_control"]
        {
            assert_eq!(first_page(other), None, "{other}");
        }
    }
}
