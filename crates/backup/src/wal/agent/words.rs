//! What a command and the agent say to each other: a line of JSON each, and while the agent works, a line `wait` every
//! second.

use crate::{error::BackupError, repo::container::Hash, wal::fetch::Spooled};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use surus_core::code::{self, Code};

/// The line that says that the agent is at work.
pub const WAIT: &str = "wait";
/// No line is longer.
pub const LONGEST: u64 = 64 << 10;

/// The name of the file that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub name: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The file is durable in the archive.
    Archived,
    /// It was not done, for a reason that the command would meet too.
    Refused { code: String, text: String },
    /// The segment lies ready here, verified; BLAKE3 as [`crate::block::hash_of`].
    Ready { path: PathBuf, hash: Hash },
    /// The agent cannot say: the command does it itself.
    Pass,
}

/// Why something ahead was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub code: Code,
    pub text: String,
}

impl From<BackupError> for Trouble {
    fn from(error: BackupError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

impl From<Trouble> for Answer {
    fn from(trouble: Trouble) -> Self {
        Self::Refused { code: trouble.code.id.to_owned(), text: trouble.text }
    }
}

impl From<Spooled> for Answer {
    fn from(spooled: Spooled) -> Self {
        Self::Ready { path: spooled.path, hash: spooled.hash }
    }
}

/// The error that an agent's refusal stands for.
pub fn refusal(id: &str, text: String) -> BackupError {
    BackupError::refused(code::find(id).copied().unwrap_or(code::WAL_AGENT), text)
}
