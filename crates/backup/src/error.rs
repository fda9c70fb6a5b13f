//! What can go wrong with a repository, a backup, WAL or a restore: one enum for this room.

use crate::repo::{container::Damage, place::PlaceError};
use std::{io, path::Path, path::PathBuf};
use surus_core::code::{self, Code};
use surus_pg::{AskError, ConnectError, LocalError, RowError};

/// The result of everything in this room.
pub type Result<T, E = BackupError> = std::result::Result<T, E>;

/// Why something about backups was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The place where the repository is could not be used.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// An object is there and is not what was written.
    #[error("{name} in {place} is damaged: {damage}")]
    Damaged { place: String, name: String, damage: Damage },
    /// An object that others refer to is not there.
    #[error("{name} is missing in {place}, and {needed_by} needs it")]
    Missing { place: String, name: String, needed_by: String },
    /// A rule of this room says no; the code says which.
    #[error("{message}")]
    Refused { code: Code, message: String },
    /// A file or directory of the server, or of a restore.
    #[error("{doing} {}: {source}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl BackupError {
    /// A refusal with its code.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// For `map_err`: what was being done with which file.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Place(error) => error.code(),
            Self::Damaged { .. } | Self::Missing { .. } => code::REPO_DAMAGED,
            Self::Refused { code, .. } => *code,
            Self::File { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                code::BACKUP_NO_ROOM
            }
            Self::File { .. } => code::BACKUP_FILE,
            Self::Connect(error) => error.code,
            Self::Ask(error) => error.code(),
            Self::Row(_) => code::QUERY_UNEXPECTED,
            Self::Local(error) => error.code(),
        }
    }
}
