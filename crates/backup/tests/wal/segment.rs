//! Segments as a server would write them: a true first page, and content of one's own.

use std::{fs, path::Path};
use surus_backup::{Cluster, Repo, wal::name::Segment};

pub const SIZE: u64 = 1 << 20;
pub const SYSTEM: u64 = 7_412_000_000_000_000_001;

pub fn numbered(number: u64) -> Segment {
    Segment { timeline: 1, number, size: SIZE }
}

/// The bytes of a segment; `seed` makes its content differ.
pub fn bytes(segment: Segment, system: u64, seed: u8) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..segment.size).map(|at| (at / 97) as u8 ^ seed).collect();
    bytes[0..2].copy_from_slice(&0xD110_u16.to_le_bytes());
    bytes[2..4].copy_from_slice(&2_u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&segment.timeline.to_le_bytes());
    bytes[8..16].copy_from_slice(&segment.start().0.to_le_bytes());
    bytes[16..24].fill(0);
    bytes[24..32].copy_from_slice(&system.to_le_bytes());
    bytes[32..36].copy_from_slice(&(segment.size as u32).to_le_bytes());
    bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
    bytes
}

/// A repository in a folder of its own.
pub struct Archive {
    pub dir: tempfile::TempDir,
    pub repo: Repo,
}

impl Archive {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        Self { dir, repo }
    }

    pub fn cluster(&self) -> Cluster {
        self.repo.cluster(SYSTEM)
    }

    /// A directory beside the repository.
    pub fn folder(&self, name: &str) -> std::path::PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// How many files of WAL are in it.
    pub fn count(&self) -> usize {
        self.repo.place().list(&self.cluster().names.wal_folder(None)).unwrap().len()
    }
}

/// Puts a segment into a pg_wal, and says that it is ready.
pub fn ready(pg_wal: &Path, segment: Segment, seed: u8) {
    fs::create_dir_all(pg_wal.join("archive_status")).unwrap();
    fs::write(pg_wal.join(segment.to_string()), bytes(segment, SYSTEM, seed)).unwrap();
    fs::write(pg_wal.join(format!("archive_status/{segment}.ready")), "").unwrap();
}
