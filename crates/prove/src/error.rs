//! What can go wrong around a restored copy.

use std::{io, path::Path, path::PathBuf};
use surus_backup::BackupError;
use surus_core::code::{self, Code};
use surus_pg::{AskError, ConnectError, LocalError, RowError};

/// The result of everything in this room.
pub type Result<T, E = ProveError> = std::result::Result<T, E>;

/// Why something was not done with a copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// A rule of this room says no, or what was restored is not what it should be; the code says which.
    #[error("{message}")]
    Refused { code: Code, message: String },
    /// A program of another backup tool ended with an error.
    #[error("{program} failed ({status}): {output}")]
    Tool { program: String, status: String, output: String },
    /// A file or directory of ours.
    #[error("{doing} {}: {source}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Local(#[from] LocalError),
}

impl ProveError {
    /// A refusal with its code.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::Refused { code, message: message.into() }
    }

    /// For `map_err`: what was being done with which file.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { doing, path, source }
    }

    /// For `map_err`: what somebody named cannot be opened.
    pub fn named(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::of_others(doing, path, code::ENGINE_PATH)
    }

    /// For `map_err`: a file that belongs to a backup cannot be read.
    pub fn input(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        Self::of_others(doing, path, code::ENGINE_DAMAGED)
    }

    fn of_others(doing: &'static str, path: &Path, code: Code) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |error| {
            let shut = error.kind() == io::ErrorKind::PermissionDenied;
            let code = if shut { code::ENGINE_ACCESS } else { code };
            Self::refused(code, format!("{doing} {}: {error}", path.display()))
        }
    }

    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } => *code,
            Self::Tool { .. } => code::PROVE_TOOL,
            Self::File { .. } => code::PROVE_SCRATCH,
            Self::Backup(error) => error.code(),
            Self::Connect(error) => error.code,
            Self::Ask(error) => error.code(),
            Self::Row(_) => code::QUERY_UNEXPECTED,
            Self::Local(error) => error.code(),
        }
    }
}
