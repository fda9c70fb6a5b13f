//! Every page of every relation file, with the server stopped: its checksum, or where the cluster has none, whether its
//! header makes sense.

use super::{
    bench::Names,
    counted,
    report::Measured,
    step::{Found, short},
};
use crate::scratch::Place;
use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};
use surus_backup::block::{BLOCK, PageState, page_state};
use surus_core::monitor::Monitor;

/// Blocks of a relation's file; the next ones are in the next file. PostgreSQL's default (`RELSEG_SIZE`).
const SEGMENT_BLOCKS: u32 = 131_072;
/// Blocks read at a time.
const AT_ONCE: usize = 128;
/// Blocks that are named of one file.
const BLOCKS_EACH: usize = 8;

const ADVICE: &str = "These blocks are damaged in the backup. Is the original damaged, too? SELECT from the relation \
    there, and pg_checksums --check on a standby or a copy. If it is not: surus backup verify, then a new full backup. \
    If it is: look at the disk, and drill older backups (--backup LABEL) for one from before.";

/// What was seen.
#[derive(Default)]
struct Seen {
    files: u64,
    pages: u64,
    damaged: Vec<String>,
    bad_pages: u64,
    unread: Vec<String>,
}

/// Looks at all of them.
pub fn look(
    data: &Path,
    place: &Place,
    checksums: bool,
    names: &Names,
    monitor: &dyn Monitor,
    measured: &mut Measured,
) -> Found {
    let mut seen = Seen::default();
    let files = files(data, place, &mut seen.unread);
    monitor.begin("files", Some(files.len() as u64));
    for file in &files {
        if let Err(error) = one(file, checksums, names, &mut seen) {
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
        return Found::bad(text, ADVICE).with(seen.damaged);
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
    /// Without fork and segment: the relation's own path.
    relation: String,
    fork: Option<String>,
    first_block: u32,
}

/// Every relation file below `base`, `global` and the tablespaces.
fn files(data: &Path, place: &Place, unread: &mut Vec<String>) -> Vec<RelationFile> {
    let mut folders: Vec<(PathBuf, String)> = vec![(data.join("global"), "global".into())];
    let mut below = |dir: PathBuf, name: String| match fs::read_dir(&dir) {
        Ok(entries) => entries.flatten().filter(|entry| entry.path().is_dir()).for_each(|entry| {
            folders.push((entry.path(), format!("{name}/{}", entry.file_name().to_string_lossy())));
        }),
        Err(error) => unread.push(format!("{name}: {error}")),
    };
    below(data.join("base"), "base".into());
    for space in fs::read_dir(data.join("pg_tblspc")).into_iter().flatten().flatten() {
        let oid = space.file_name().to_string_lossy().into_owned();
        // A link to somewhere else than the copy's own place is not followed.
        let Ok(to) = fs::canonicalize(space.path()) else { continue };
        if !to.starts_with(fs::canonicalize(place.dir()).unwrap_or_else(|_| place.dir().to_owned())) {
            continue;
        }
        for version in fs::read_dir(&to).into_iter().flatten().flatten() {
            let name = version.file_name().to_string_lossy().into_owned();
            if name.starts_with("PG_") {
                below(version.path(), format!("pg_tblspc/{oid}/{name}"));
            }
        }
    }
    let mut all = Vec::new();
    for (folder, name) in folders {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            all.extend(relation_file(&entry.path(), &name, &entry.file_name().to_string_lossy()));
        }
    }
    all
}

/// Is it one? `16384`, `16384.1`, `16384_fsm`, `16384_vm.1`, `16384_init`.
fn relation_file(path: &Path, folder: &str, name: &str) -> Option<RelationFile> {
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, segment.parse::<u32>().ok()?),
        None => (name, 0),
    };
    let (number, fork) = match stem.split_once('_') {
        Some((number, fork @ ("fsm" | "vm" | "init"))) => (number, Some(fork.to_owned())),
        Some(_) => return None,
        None => (stem, None),
    };
    let numeric = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    numeric.then(|| RelationFile {
        path: path.to_owned(),
        relative: format!("{folder}/{name}"),
        relation: format!("{folder}/{number}"),
        fork,
        first_block: segment.saturating_mul(SEGMENT_BLOCKS),
    })
}

fn one(file: &RelationFile, checksums: bool, names: &Names, seen: &mut Seen) -> std::io::Result<()> {
    let mut input = File::open(&file.path)?;
    let mut buffer = vec![0; BLOCK * AT_ONCE];
    let mut block = file.first_block;
    let mut bad = Vec::new();
    loop {
        let filled = fill(&mut input, &mut buffer)?;
        for page in buffer[..filled].chunks(BLOCK) {
            if page.len() < BLOCK {
                // The server cuts such an end off itself when it needs the place.
                seen.damaged.push(format!("{}: its last page is only {} bytes long", file.relative, page.len()));
                seen.bad_pages += 1;
                continue;
            }
            seen.pages += 1;
            let fits = if checksums { page_state(page, block) == PageState::Good } else { header_is_sane(page) };
            if !fits {
                bad.push(block);
            }
            block += 1;
        }
        if filled < buffer.len() {
            break;
        }
    }
    if !bad.is_empty() {
        seen.bad_pages += bad.len() as u64;
        seen.damaged.push(named(file, names, &bad));
    }
    Ok(())
}

fn named(file: &RelationFile, names: &Names, bad: &[u32]) -> String {
    let name = names.get(&file.relation).map_or_else(|| file.relation.clone(), Clone::clone);
    let fork = file.fork.as_ref().map(|fork| format!(" ({fork})")).unwrap_or_default();
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

/// What holds for every used page. Source: PostgreSQL's documentation, "Database Page Layout", and `PageIsVerified`.
fn header_is_sane(page: &[u8]) -> bool {
    let at = |offset: usize| u16::from_le_bytes([page[offset], page[offset + 1]]);
    let (flags, lower, upper, special) = (at(10), at(12), at(14), at(16));
    let block = u16::try_from(BLOCK).unwrap_or(u16::MAX);
    let used = upper != 0;
    let sane = flags & !7 == 0 && (24..=upper).contains(&lower) && upper <= special && special <= block;
    (used && sane && special.is_multiple_of(8)) || page.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relation_files_are_told_from_others() {
        let of = |name: &str| relation_file(Path::new("x"), "base/5", name);
        assert_eq!(of("16384.2").unwrap().first_block, 2 * SEGMENT_BLOCKS);
        assert_eq!(of("16384_vm").unwrap().relation, "base/5/16384");
        assert!(of("16384").is_some() && of("16384_fsm.1").is_some());
        for other in ["PG_VERSION", "pg_filenode.map", "t3_16384", "pg_internal.init", "pg_control", "16384.x"] {
            assert!(of(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_header_makes_sense_or_not() {
        let mut page = vec![0u8; BLOCK];
        assert!(header_is_sane(&page));
        for (offset, value) in [(12, 28u16), (14, 8000), (16, 8192), (18, 8196)] {
            page[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        }
        assert!(header_is_sane(&page));
        page[13] = 0xFF;
        assert!(!header_is_sane(&page));
    }
}
