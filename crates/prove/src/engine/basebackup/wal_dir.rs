//! A directory with archived WAL: pg_wal itself, what an archive_command filled, or Barman's.

use super::{
    label::{self, Label},
    tar,
};
use crate::{
    engine::{
        archive::{Archive, Kept},
        fault,
        tool::quoted,
    },
    error::{ProveError, Result},
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use surus_backup::wal::{
    name::{FileKind, Segment, file_kind},
    timeline::History,
};
use surus_core::{code, lsn::Lsn};
use surus_pg::account::Account;

/// Endings of packed segments, and the program that unpacks each to its standard output.
const PACKED: &[(&str, &str)] =
    &[("gz", "gzip -dc"), ("zst", "zstd -qdc"), ("lz4", "lz4 -qdc"), ("bz2", "bzip2 -dc"), ("xz", "xz -dc")];
/// The first bytes of packed files.
const HEADS: &[&[u8]] =
    &[&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z'], &[0x28, 0xb5, 0x2f, 0xfd], &[0x04, 0x22, 0x4d, 0x18]];

/// What is in it.
#[derive(Debug, Clone, Default)]
pub struct WalDir {
    path: PathBuf,
    segments: Vec<(String, Option<u64>, Option<Timestamp>)>,
    files: Vec<PathBuf>,
    histories: Vec<History>,
    /// The histories of backups, by their names.
    backups: BTreeMap<String, String>,
    pub segment_size: u64,
}

impl WalDir {
    /// Reads a directory, and those below it as Barman makes them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let mut dir = Self { path: path.to_owned(), ..Self::default() };
        dir.walk(path, 1)?;
        dir.find_size();
        Ok(dir)
    }

    /// From names and sizes.
    pub fn listed(files: Vec<(String, u64)>) -> Result<Self> {
        let mut dir = Self::default();
        for (name, size) in files {
            if file_kind(&name) == Some(FileKind::Segment) {
                dir.segments.push((name, Some(size), None));
            }
        }
        dir.find_size();
        Ok(dir)
    }

    fn walk(&mut self, path: &Path, deeper: u8) -> Result<()> {
        for entry in fs::read_dir(path).map_err(ProveError::input("cannot read", path))? {
            let path = entry.map_err(ProveError::input("cannot read", path))?.path();
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // It may have been removed since it was listed.
            let Ok(meta) = path.metadata() else { continue };
            if meta.is_dir() {
                if deeper > 0 && file != "archive_status" {
                    self.walk(&path, deeper - 1)?;
                }
                continue;
            }
            let packed = PACKED.iter().find_map(|(ending, _)| file.strip_suffix(ending)?.strip_suffix('.'));
            let name = packed.unwrap_or(&file);
            match file_kind(name) {
                Some(FileKind::Segment) => {
                    let whole = meta.len() >= 1 << 20 && meta.len().is_power_of_two();
                    let plain =
                        packed.is_none() && (whole || !HEADS.iter().any(|head| tar::head(&path).starts_with(head)));
                    let at = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
                    self.segments.push((name.to_owned(), plain.then_some(meta.len()), at));
                    self.files.push(path);
                }
                Some(FileKind::History) => {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    let timeline = u32::from_str_radix(&name[..8], 16).unwrap_or(0);
                    self.histories.extend(History::parse(timeline, &text).ok());
                }
                Some(FileKind::Backup) => {
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    self.backups.insert(name.to_owned(), text);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The size that most of those that are stored as they are have.
    fn find_size(&mut self) {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        for size in self.segments.iter().filter_map(|(_, size, _)| *size) {
            if size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size) {
                *counts.entry(size).or_default() += 1;
            }
        }
        let most = counts.iter().max_by_key(|(_, count)| **count).map(|(size, _)| *size);
        self.segment_size = most.unwrap_or(if self.segments.is_empty() { 0 } else { 16 << 20 });
    }

    /// Where a backup stopped, when its history is here.
    pub fn stop_of(&self, label: &Label) -> Option<(Lsn, Option<Timestamp>)> {
        let offset = label.start.0 % if self.segment_size == 0 { 16 << 20 } else { self.segment_size };
        label::stop(self.backups.get(&format!("{}.{offset:08X}.backup", label.file))?)
    }

    /// Adds what another has.
    pub fn merge(&mut self, other: Self) {
        for one in other.segments {
            if !self.segments.iter().any(|(name, ..)| *name == one.0) {
                self.segments.push(one);
            }
        }
        for history in other.histories {
            if !self.histories.iter().any(|known| known.timeline == history.timeline) {
                self.histories.push(history);
            }
        }
    }

    /// As an archive.
    pub fn into_archive(self) -> Archive {
        let size = self.segment_size;
        let kept = |(name, plain_size, at): &(String, Option<u64>, Option<Timestamp>)| {
            Some(Kept { segment: Segment::parse(name, size)?, plain_size: *plain_size, at: *at })
        };
        let segments = if size == 0 { Vec::new() } else { self.segments.iter().filter_map(kept).collect() };
        Archive::new(segments, self.histories, size)
    }

    /// May the server's account read all of it?
    ///
    /// # Errors
    /// With the first path that it may not read.
    pub fn readable(&self, account: &Account) -> Result<()> {
        let above = self.path.ancestors().collect::<Vec<_>>().into_iter().rev();
        let enter = |path: &Path| path.metadata().is_ok_and(|meta| entered(&meta, account));
        if let Some(path) = above.clone().find(|path| !enter(path)) {
            return Err(ProveError::refused(code::ENGINE_ACCESS, fault::shut(Some(path), Some(account))));
        }
        let shut = |path: &&PathBuf| path.metadata().is_ok_and(|meta| !fault::may_read(&meta, account));
        match self.files.iter().find(shut) {
            Some(path) => Err(ProveError::refused(code::ENGINE_ACCESS, fault::shut(Some(path), Some(account)))),
            None => Ok(()),
        }
    }
}

fn entered(meta: &fs::Metadata, account: &Account) -> bool {
    let shift = match () {
        () if meta.uid() == account.uid() => 6,
        () if meta.gid() == account.gid() => 3,
        () => 0,
    };
    account.uid() == 0 || meta.mode() >> shift & 1 == 1
}

/// The body of a script that fetches a file from such a directory.
pub fn fetch_body(dir: &Path) -> String {
    let mut body = format!(
        "dir={}\n[ -d \"$dir\" ] && [ -r \"$dir\" ] && [ -x \"$dir\" ] || return 255\n\
         below=$(printf '%.16s' \"$1\")\nfor file in \"$dir/$1\" \"$dir/$below/$1\"; do\n\
         [ -e \"$file\" ] && {{ cp \"$file\" \"$2.surus\" && mv \"$2.surus\" \"$2\" && return 0; return 255; }}\n",
        quoted(&dir.display().to_string())
    );
    for (ending, program) in PACKED {
        body += &format!(
            "[ -e \"$file.{ending}\" ] && {{ {program} \"$file.{ending}\" > \"$2.surus\" && mv \"$2.surus\" \"$2\" && \
             return 0; return 255; }}\n"
        );
    }
    body + "done\nreturn 1\n"
}
