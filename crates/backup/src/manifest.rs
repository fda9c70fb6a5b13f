//! A backup's manifest: what the backup is, every file with where its blocks are, every chunk with its hash.
//!
//! It is written last, and a backup without one is none. In the repository it is an object of JSON lines: `about`
//! first, then directories, files and chunks, and `end` with their counts. Specified in docs/format/repository.md.

use crate::repo::{codec::Codec, container::Damage};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use surus_core::lsn::Lsn;

/// The newest form of manifest that this surus reads and writes: form 2 has files whose checksum as a whole is not
/// known.
pub const FORMAT: u32 = 2;
/// The form of a manifest in which every file has its checksum.
pub const FORMAT_WITH_ALL_SUMS: u32 = 1;

/// Does a backup stand alone?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    Full,
    /// Holds only blocks that differ from those of its parent.
    Incremental,
}

/// Who was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Primary,
    Standby,
}

/// How the files were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// From the data directory on the same machine.
    Local,
    /// With BASE_BACKUP over the replication protocol.
    Stream,
}

/// How an incremental backup found what differs from its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changes {
    /// Every block was read and compared with the parent's.
    Compared,
    /// The server knew it from its WAL summaries, and sent no other blocks.
    Summaries,
}

/// A tablespace other than the default ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    pub oid: u32,
    pub path: String,
}

/// A page whose checksum does not fit and that was the same when it was read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadPage {
    pub path: String,
    /// The page's number in this file.
    pub block: u64,
}

/// What a backup is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    pub label: String,
    pub kind: BackupKind,
    /// The backup that an incremental one builds on.
    pub parent: Option<String>,
    pub system_identifier: u64,
    /// `server_version_num`.
    pub server_version: u32,
    /// Of the start; the same at the stop, for a promotion ends a backup.
    pub timeline: u32,
    /// Where recovery begins.
    pub start_lsn: Lsn,
    /// Recovery must come at least here before the data is consistent.
    pub stop_lsn: Lsn,
    /// The server's clock.
    pub started_at: Timestamp,
    pub stopped_at: Timestamp,
    pub origin: Origin,
    pub method: Method,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Does the cluster have page checksums? They were verified then.
    pub checksums: bool,
    pub codec: Codec,
    /// The content of `backup_label`, as the server gave it.
    pub backup_label: String,
    pub tablespace_map: Option<String>,
    pub tablespaces: Vec<Tablespace>,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes that this backup itself takes in the repository, without its manifest.
    pub stored: u64,
    /// Bytes of blocks that it holds itself, before compression.
    pub own: u64,
    pub bad_pages: Vec<BadPage>,
    /// How many bundles hold its chunks; they are numbered from 0 on.
    pub bundles: u32,
    /// `surus --version`.
    pub surus: String,
    /// The next transaction id when the backup ended, with its epoch: none from it on had begun.
    #[serde(default)]
    pub next_xid: Option<u64>,
    /// Of an incremental backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// Consecutive blocks of a file, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32, u32, u32)", into = "(u32, u32, u32, u32)")]
pub struct Run {
    /// The first block's number in the file.
    pub block: u32,
    pub count: u32,
    /// The chunk's number in [`Manifest::chunks`].
    pub chunk: u32,
    /// The first block's number in the chunk.
    pub at: u32,
}

impl From<(u32, u32, u32, u32)> for Run {
    fn from((block, count, chunk, at): (u32, u32, u32, u32)) -> Self {
        Self { block, count, chunk, at }
    }
}

impl From<Run> for (u32, u32, u32, u32) {
    fn from(run: Run) -> Self {
        (run.block, run.count, run.chunk, run.at)
    }
}

/// A file of the data directory. In an incremental backup, blocks in no run are those of the parent's file of that
/// path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the data directory; `pg_tblspc/OID/…` for tablespaces.
    pub path: String,
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    pub modified_ms: i64,
    /// CRC-32C of the whole content, as PostgreSQL's own manifests have it; `None` when nobody has read it whole since
    /// it changed.
    pub crc32c: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// Where a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkEntry {
    pub bundle: u32,
    /// The chunk's number in its bundle.
    pub index: u32,
    /// Bytes from the bundle's beginning.
    pub offset: u64,
    /// Bytes in the bundle, with its header.
    pub stored_len: u32,
    /// Bytes before compression.
    pub raw_len: u32,
    pub hash: [u8; 32],
}

/// A manifest in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub about: About,
    /// Directories with their permission bits, each after the one that holds it.
    pub directories: Vec<(String, u32)>,
    /// In order of their paths.
    pub files: Vec<FileEntry>,
    pub chunks: Vec<ChunkEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    About(Box<About>),
    Directory(String, u32),
    File(FileEntry),
    /// Bundle, index, offset, stored and raw length, hash in hexadecimal.
    Chunk(u32, u32, u64, u32, u32, String),
    End {
        directories: u64,
        files: u64,
        chunks: u64,
    },
}

impl Manifest {
    /// As lines of JSON.
    pub fn to_lines(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut put = |line: &Line| {
            // Writing to memory what has no keys but text cannot fail.
            let _ = serde_json::to_writer(&mut text, line);
            text.push(b'\n');
        };
        put(&Line::About(Box::new(self.about.clone())));
        for (path, mode) in &self.directories {
            put(&Line::Directory(path.clone(), *mode));
        }
        for file in &self.files {
            put(&Line::File(file.clone()));
        }
        for chunk in &self.chunks {
            let hash = hex(&chunk.hash);
            put(&Line::Chunk(chunk.bundle, chunk.index, chunk.offset, chunk.stored_len, chunk.raw_len, hash));
        }
        put(&Line::End {
            directories: self.directories.len() as u64,
            files: self.files.len() as u64,
            chunks: self.chunks.len() as u64,
        });
        text
    }

    /// Only what the backup is: the first line.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn about_of(lines: &[u8]) -> Result<About, Damage> {
        let first = lines.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match serde_json::from_slice(first) {
            Ok(Line::About(about)) if about.format <= FORMAT => Ok(*about),
            Ok(Line::About(about)) => Err(Damage::Newer(u8::try_from(about.format).unwrap_or(u8::MAX))),
            Ok(_) => Err(Damage::Meaning("its first line does not say what the backup is".into())),
            Err(error) => Err(Damage::Meaning(error.to_string())),
        }
    }

    /// Reads the lines back, and verifies that every run lies in its chunk and file.
    ///
    /// # Errors
    /// When it is no manifest, or not a whole one.
    pub fn from_lines(lines: &[u8]) -> Result<Self, Damage> {
        let about = Self::about_of(lines)?;
        let mut manifest = Self { about, directories: Vec::new(), files: Vec::new(), chunks: Vec::new() };
        let mut ended = false;
        for line in lines.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
            if ended {
                return Err(Damage::Longer);
            }
            match serde_json::from_slice(line).map_err(|error| Damage::Meaning(error.to_string()))? {
                Line::About(_) => return Err(Damage::Meaning("it says twice what the backup is".into())),
                Line::Directory(path, mode) => manifest.directories.push((path, mode)),
                Line::File(file) => manifest.files.push(file),
                Line::Chunk(bundle, index, offset, stored_len, raw_len, hash) => {
                    let hash = unhex(&hash).ok_or_else(|| Damage::Meaning("a chunk's hash is none".into()))?;
                    manifest.chunks.push(ChunkEntry { bundle, index, offset, stored_len, raw_len, hash });
                }
                Line::End { directories, files, chunks } => {
                    let counted = [manifest.directories.len(), manifest.files.len(), manifest.chunks.len()];
                    ended = counted.map(|count| count as u64) == [directories, files, chunks];
                }
            }
        }
        if !ended {
            return Err(Damage::Truncated);
        }
        manifest.coherent().map(|()| manifest)
    }

    fn coherent(&self) -> Result<(), Damage> {
        let odd = |path: &str| Err(Damage::Meaning(format!("the blocks of {path} are not where it says")));
        for file in &self.files {
            let blocks = crate::block::blocks_of(file.size);
            let mut next = 0;
            for run in &file.runs {
                let raw_len = self.chunks.get(run.chunk as usize).map_or(0, |chunk| u64::from(chunk.raw_len));
                let in_chunk = crate::block::blocks_of(raw_len);
                let end = u64::from(run.at) + u64::from(run.count);
                let after = u64::from(run.block) + u64::from(run.count);
                if end > in_chunk || after > blocks || u64::from(run.block) < next {
                    return odd(&file.path);
                }
                next = after;
            }
            let all: u64 = file.runs.iter().map(|run| u64::from(run.count)).sum();
            if self.about.kind == BackupKind::Full && all != blocks {
                return odd(&file.path);
            }
            if !is_inside(&file.path) {
                return Err(Damage::Meaning(format!("{} leads out of the data directory", file.path)));
            }
        }
        match self.directories.iter().find(|(path, _)| !is_inside(path)) {
            Some((path, _)) => Err(Damage::Meaning(format!("{path} leads out of the data directory"))),
            None => Ok(()),
        }
    }
}

/// Does the relative path stay where it begins?
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[at..at + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A small full backup; other tests build on it.
    pub(crate) fn example(label: &str) -> Manifest {
        let about = About {
            format: FORMAT_WITH_ALL_SUMS,
            label: label.into(),
            kind: BackupKind::Full,
            parent: None,
            system_identifier: 42,
            server_version: 150_018,
            timeline: 1,
            start_lsn: Lsn(0x200_0028),
            stop_lsn: Lsn(0x200_0100),
            started_at: Timestamp::from_second(1_700_000_000).unwrap(),
            stopped_at: Timestamp::from_second(1_700_000_010).unwrap(),
            origin: Origin::Primary,
            method: Method::Local,
            segment_size: 16 << 20,
            page_size: 8192,
            checksums: true,
            codec: Codec::Zstd(3),
            backup_label: "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n".into(),
            tablespace_map: None,
            tablespaces: Vec::new(),
            size: 3,
            stored: 51,
            own: 3,
            bad_pages: Vec::new(),
            bundles: 1,
            surus: "0.1.0".into(),
            next_xid: Some(1000),
            changes: None,
        };
        let file = FileEntry {
            path: "PG_VERSION".into(),
            size: 3,
            mode: 0o600,
            modified_ms: 0,
            crc32c: Some(7),
            runs: vec![Run { block: 0, count: 1, chunk: 0, at: 0 }],
        };
        let chunk = ChunkEntry { bundle: 0, index: 0, offset: 48, stored_len: 60, raw_len: 8192, hash: [9; 32] };
        Manifest { about, directories: vec![("base".into(), 0o700)], files: vec![file], chunks: vec![chunk] }
    }

    #[test]
    fn a_manifest_comes_back_and_half_of_one_does_not() {
        let manifest = example("a");
        let lines = manifest.to_lines();
        assert_eq!(Manifest::from_lines(&lines).unwrap(), manifest);
        assert_eq!(Manifest::about_of(&lines).unwrap(), manifest.about);
        let cut = lines.len() - 10;
        assert!(Manifest::from_lines(&lines[..cut]).is_err());
        let without_end = lines.iter().rposition(|byte| *byte == b'{').map(|at| &lines[..at - 8]).unwrap();
        assert!(Manifest::from_lines(without_end).is_err());
    }

    #[test]
    fn a_manifest_that_leads_elsewhere_is_refused() {
        for path in ["../etc/passwd", "/etc/passwd", "base/../../x", "a//b"] {
            let mut manifest = example("a");
            manifest.files[0].path = path.into();
            assert!(Manifest::from_lines(&manifest.to_lines()).is_err(), "{path}");
        }
        let mut manifest = example("a");
        manifest.files[0].runs[0].chunk = 5;
        assert!(Manifest::from_lines(&manifest.to_lines()).is_err());
    }
}
