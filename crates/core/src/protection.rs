//! What a repository holds for a cluster, as plain data: the word in which backups meet checks, readiness and pages.

use crate::lsn::Lsn;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A backup, as far as others need to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectedBackup {
    pub label: String,
    pub full: bool,
    /// The backup that it builds on, when it is not a full one.
    pub parent: Option<String>,
    pub timeline: u32,
    /// Where recovery begins, and where it must come to at least.
    pub start_lsn: Lsn,
    pub stop_lsn: Lsn,
    /// By the server's clock.
    pub started_at: Timestamp,
    pub stopped_at: Timestamp,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of blocks that it holds itself, before compression.
    pub own: u64,
    /// Bytes in the repository.
    pub stored: u64,
    /// When all of it was last read and found whole.
    pub verified_at: Option<Timestamp>,
    /// Why it cannot be restored; none when nothing speaks against it.
    pub trouble: Option<String>,
    /// Pages that do not fit their checksums.
    pub damaged_pages: u64,
}

/// WAL that is missing on a timeline, by the names of the first and last segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalGap {
    pub first: String,
    pub last: String,
    pub segments: u64,
}

/// A stretch of WAL, and time, that can be restored or cannot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stretch {
    pub from: Option<Lsn>,
    pub to: Option<Lsn>,
    /// As far as backups and archived files tell times.
    pub from_time: Option<Timestamp>,
    pub to_time: Option<Timestamp>,
    /// The backups that lead into it; none when it cannot be reached.
    pub backups: Vec<String>,
    /// Why it cannot be reached.
    pub why: Option<String>,
}

/// The moments of a timeline, from where it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moments {
    pub timeline: u32,
    /// The timeline that it began from, and where.
    pub parent: Option<u32>,
    pub switched_at: Option<Lsn>,
    /// In the order of their WAL.
    pub stretches: Vec<Stretch>,
}

/// What a repository holds for one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// The repository's address, without credentials.
    pub repository: String,
    /// Is it an object store, not a folder of this machine?
    pub off_site: bool,
    pub encrypted: bool,
    /// May others than the owner and his group read the folder? None for an object store.
    pub open_to_others: Option<bool>,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
    /// Oldest first.
    pub backups: Vec<ProtectedBackup>,
    /// Backups of which nothing can be said, by label, and why.
    pub unreadable: BTreeMap<String, String>,
    /// A backup that is being taken.
    pub in_progress: Option<String>,
    /// Gaps from the oldest backup on.
    pub gaps: Vec<WalGap>,
    /// The newest archived segment, and when it was written by the repository's clock.
    pub newest_segment: Option<String>,
    pub newest_segment_at: Option<Timestamp>,
    /// Stored bytes of WAL.
    pub wal_stored: u64,
    /// Free bytes where the repository is; none where the place does not say.
    pub free: Option<u64>,
    /// When it was looked at.
    pub looked_at: Timestamp,
}

impl Protection {
    /// The newest backup that can be restored.
    pub fn newest(&self) -> Option<&ProtectedBackup> {
        self.restorable().next_back()
    }

    /// The newest full backup that can be restored.
    pub fn newest_full(&self) -> Option<&ProtectedBackup> {
        self.restorable().rfind(|one| one.full)
    }

    /// Backups that nothing speaks against.
    pub fn restorable(&self) -> impl DoubleEndedIterator<Item = &ProtectedBackup> {
        self.backups.iter().filter(|one| one.trouble.is_none())
    }
}
