//! Who keeps the backups: surus's own repository, or another tool whose restore command brings them back.
//!
//! An engine only ever reads what it keeps. It says which backups there are and brings one of them into a scratch
//! place, as a data directory that PostgreSQL recovers by itself; what is done with it then is the same for all.

mod surus;

pub use surus::Surus;

use crate::{error::Result, scratch::Place};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};
use surus_backup::restore::target::RecoveryTarget;
use surus_core::{lsn::Lsn, monitor::Monitor, protection::WalGap};

/// Which tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Surus,
    Pgbackrest,
    Barman,
    WalG,
    /// A directory or tar files that pg_basebackup made.
    Basebackup,
    /// What pg_dump or pg_dumpall made.
    Dump,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Surus => "surus",
            Self::Pgbackrest => "pgBackRest",
            Self::Barman => "Barman",
            Self::WalG => "WAL-G",
            Self::Basebackup => "pg_basebackup",
            Self::Dump => "pg_dump",
        })
    }
}

/// A backup, as far as a drill needs to know it. What a tool does not say is none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    pub label: String,
    pub full: bool,
    pub timeline: Option<u32>,
    pub started_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub start_lsn: Option<Lsn>,
    pub stop_lsn: Option<Lsn>,
    /// Bytes of all files when restored.
    pub size: Option<u64>,
    /// Why it cannot be restored; none when nothing speaks against it.
    pub trouble: Option<String>,
}

/// Everything an engine keeps of one cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Survey {
    pub system_identifier: Option<u64>,
    /// The server's major.
    pub major: Option<u16>,
    /// Oldest first.
    pub backups: Vec<Held>,
    /// WAL that is missing from the oldest backup on.
    pub gaps: Vec<WalGap>,
    /// The newest archived segment, and when it came.
    pub newest_segment: Option<String>,
    pub newest_segment_at: Option<Timestamp>,
    /// What could not be seen or is odd.
    pub notes: Vec<String>,
}

/// What is to be restored, and how.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// None: the newest that leads to the target.
    pub backup: Option<&'a str>,
    pub target: &'a RecoveryTarget,
    pub place: &'a Place,
    /// Processes or threads.
    pub jobs: usize,
    pub monitor: &'a dyn Monitor,
}

/// What lies in the place now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Landed {
    /// The data directory, owned by the account that the server runs as.
    pub data: PathBuf,
    pub label: String,
    pub major: u16,
    pub bytes: u64,
    /// Will the server replay WAL and promote? Not after a dump was loaded.
    pub recovers: bool,
    /// What was run, for the runbook: words of a shell, without secrets.
    pub commands: Vec<String>,
    /// What a reader of the proof should know.
    pub notes: Vec<String>,
}

/// One tool with one repository.
pub trait Engine: Send + Sync + fmt::Debug {
    /// Which tool.
    fn kind(&self) -> Kind;
    /// Where the backups are, without credentials.
    fn address(&self) -> String;
    /// Are they on another machine or in an object store? None when that cannot be known.
    fn off_site(&self) -> Option<bool>;
    /// What is there.
    ///
    /// # Errors
    /// When the tool does not answer, or what it says cannot be understood.
    fn survey(&self) -> Result<Survey>;
    /// Brings a backup into the place. Blocks.
    ///
    /// # Errors
    /// With what the tool said; nothing can be started in the place then.
    fn restore(&self, order: &Order<'_>) -> Result<Landed>;
}
