//! What a server has finished and not archived yet: the `.ready` files of pg_wal/archive_status.

use super::name::{FileKind, file_kind};
use std::{fs, path::Path};

/// The names of segments that wait to be archived, in the order in which the server asks for them, which is that of
/// their names. Empty also when the directory cannot be read: then nobody can work ahead.
pub fn waiting_segments(pg_wal: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(pg_wal.join("archive_status")) else { return Vec::new() };
    let names = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let stem = name.strip_suffix(".ready")?;
        (file_kind(stem) == Some(FileKind::Segment)).then(|| stem.to_owned())
    });
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names
}

/// Is any segment waiting besides `name`?
pub fn has_backlog(pg_wal: &Path, name: &str) -> bool {
    waiting_segments(pg_wal).iter().any(|other| other != name)
}
