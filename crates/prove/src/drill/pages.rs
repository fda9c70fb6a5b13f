//! Every page of every relation file, with the server stopped: its checksum, or where the cluster has none, whether its
//! header makes sense.

use super::{
    bench::Names,
    counted,
    report::Measured,
    step::{Found, short},
};
use crate::{
    damage::{
        page::{State, judge},
        place::{Fork, Geometry, RelationFile as Name},
    },
    scratch::Place,
};
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};
use surus_backup::{
    control::{self, Control},
    pace::Pace,
};
use surus_core::monitor::Monitor;
use surus_pg::quote::shell as word;

/// Pages read at a time.
const AT_ONCE: usize = 128;
/// Blocks that are named of one file.
const BLOCKS_EACH: usize = 8;

fn advice(server: &str, first: &str) -> String {
    format!(
        "These blocks are damaged in the backup. Are they on the original, which rows are lost, and the way back: surus prove \
         page {server}{first}. If the original is sound: surus backup verify, then a new full backup. If it is not: look at \
         the disk, and drill older backups (--backup LABEL) for one from before."
    )
}

/// What was seen.
#[derive(Default)]
struct Seen {
    files: u64,
    pages: u64,
    damaged: Vec<String>,
    bad_pages: u64,
    unread: Vec<String>,
    /// The flags that name the first damage to `surus prove page`.
    first: String,
}

/// What is looked at, and how.
pub struct Look<'a> {
    pub data: &'a Path,
    pub place: &'a Place,
    pub checksums: bool,
    pub names: &'a Names,
    /// The original, as surus knows it.
    pub server: &'a str,
}

/// Looks at all of them.
pub fn look(look: &Look<'_>, pace: &Pace<'_>, monitor: &dyn Monitor, measured: &mut Measured) -> Found {
    let Look { data, place, checksums, names, server } = *look;
    let control = fs::read(data.join(control::PATH)).ok().and_then(|bytes| Control::parse(&bytes).ok());
    let Some(geometry) = control.and_then(|control| Geometry::of(&control)) else {
        return Found::unknown("global/pg_control does not tell how long a page is: the files were not looked at");
    };
    let mut seen = Seen::default();
    let files = files(data, place, geometry, &mut seen.unread);
    monitor.begin("files", Some(files.len() as u64));
    for file in &files {
        if let Err(error) = one(file, geometry, checksums, names, pace, &mut seen) {
            seen.unread.push(format!("{}: {error}", file.relative));
        }
        seen.files += 1;
        monitor.advance("files", seen.files);
    }
    monitor.end("files", "");
    measured.pages = Some(seen.pages);
    measured.pages_damaged = Some(seen.bad_pages);
    let what = if checksums { "checksums" } else { "headers" };
    let all = counted(seen.pages, "page", "pages");
    if !seen.damaged.is_empty() || !seen.unread.is_empty() {
        let text = if seen.damaged.is_empty() {
            format!("{} could not be read", counted(seen.unread.len() as u64, "file", "files"))
        } else {
            format!("{} of {all} have wrong {what}: {}", seen.bad_pages, short(&seen.damaged.join("; ")))
        };
        seen.damaged.extend(seen.unread);
        return Found::bad(text, advice(server, &seen.first)).with(seen.damaged);
    }
    let files = counted(seen.files, "file", "files");
    match checksums {
        true => Found::good(format!("those of {all} in {files} fit")),
        false => Found::good(format!("the cluster has none; the headers of {all} in {files} make sense")).with(vec![
            "without checksums a flipped bit in a row cannot be seen: pg_checksums --enable, with the server stopped"
                .into(),
        ]),
    }
}

/// A file of a relation.
struct RelationFile {
    path: PathBuf,
    /// As PostgreSQL names it: below the data directory.
    relative: String,
    name: Name,
    first_block: u32,
}

/// Every relation file below `base`, `global` and the tablespaces.
fn files(data: &Path, place: &Place, geometry: Geometry, unread: &mut Vec<String>) -> Vec<RelationFile> {
    let mut folders: Vec<(PathBuf, String)> = vec![(data.join("global"), "global".into())];
    let mut below = |dir: PathBuf, name: &str, unread: &mut Vec<String>| {
        let inside = read(&dir, name, unread).into_iter().filter(|entry| entry.path().is_dir());
        folders.extend(inside.map(|entry| (entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy()))));
    };
    below(data.join("base"), "base", unread);
    for space in read(&data.join("pg_tblspc"), "pg_tblspc", unread) {
        let oid = space.file_name().to_string_lossy().into_owned();
        // A link to somewhere else than the copy's own place is not followed.
        let to = match fs::canonicalize(space.path()) {
            Ok(to) if to.starts_with(fs::canonicalize(place.dir()).unwrap_or_else(|_| place.dir().to_owned())) => to,
            Ok(to) => {
                unread.push(format!("pg_tblspc/{oid}: it leads to {}, out of the copy", to.display()));
                continue;
            }
            Err(error) => {
                unread.push(format!("pg_tblspc/{oid}: {error}"));
                continue;
            }
        };
        for version in read(&to, &format!("pg_tblspc/{oid}"), unread) {
            let name = version.file_name().to_string_lossy().into_owned();
            if name.starts_with("PG_") {
                below(version.path(), &format!("pg_tblspc/{oid}/{name}"), unread);
            }
        }
    }
    let mut all = Vec::new();
    for (folder, name) in folders {
        for entry in read(&folder, &name, unread) {
            let relative = format!("{name}/{}", entry.file_name().to_string_lossy());
            all.extend(Name::parse(&relative).map(|name| RelationFile {
                path: entry.path(),
                first_block: name.segment.saturating_mul(geometry.segment_pages),
                relative,
                name,
            }));
        }
    }
    all
}

/// What is in a directory; one that cannot be read is told.
fn read(folder: &Path, name: &str, unread: &mut Vec<String>) -> Vec<fs::DirEntry> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.flatten().collect(),
        Err(error) => {
            unread.push(format!("{name}: {error}"));
            Vec::new()
        }
    }
}

fn one(
    file: &RelationFile,
    geometry: Geometry,
    checksums: bool,
    names: &Names,
    pace: &Pace<'_>,
    seen: &mut Seen,
) -> std::io::Result<()> {
    let mut input = File::open(&file.path)?;
    let size = geometry.page_size;
    let mut buffer = vec![0; size * AT_ONCE];
    let mut block = file.first_block;
    let mut bad = Vec::new();
    loop {
        let filled = fill(&mut input, &mut buffer)?;
        pace.spend(filled as u64);
        for page in buffer[..filled].chunks(size) {
            if page.len() < size {
                // The server cuts such an end off itself when it needs the place.
                seen.damaged.push(format!("{}: its last page is only {} bytes long", file.relative, page.len()));
                seen.bad_pages += 1;
                continue;
            }
            seen.pages += 1;
            if matches!(judge(page, block, checksums), State::Wrong(_)) {
                bad.push(block);
            }
            block += 1;
        }
        if filled < buffer.len() {
            break;
        }
    }
    if let Some(first) = bad.first() {
        if seen.first.is_empty() {
            seen.first = format!(" --file {} --block {first}", word(&file.relative));
        }
        seen.bad_pages += bad.len() as u64;
        seen.damaged.push(named(file, names, &bad));
    }
    Ok(())
}

fn named(file: &RelationFile, names: &Names, bad: &[u32]) -> String {
    let name = names.get(&file.name.relation).map_or_else(|| file.name.relation.clone(), Clone::clone);
    let fork = match file.name.fork {
        Fork::Main => String::new(),
        other => format!(" ({})", other.word()),
    };
    let blocks = bad.iter().take(BLOCKS_EACH).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let more = bad.len().saturating_sub(BLOCKS_EACH);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let noun = if bad.len() == 1 { "block" } else { "blocks" };
    format!("{name}{fork}, {noun} {blocks}{more} (file {})", file.relative)
}

/// As much as there is, up to the whole buffer.
fn fill(input: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}
