//! Why the store could not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;
use surus_core::code::{self, Code};

/// The store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no such file; nothing was ever recorded there.
    #[error("{path} does not exist: nothing was recorded there yet")]
    Missing { path: PathBuf },
    /// The file is there or could be made, but not by us or not now.
    #[error("{path} was not opened: {why}")]
    Open { path: PathBuf, why: String },
    /// Nothing was recorded.
    #[error("nothing was recorded in {path}: {why}")]
    Write { path: PathBuf, why: String },
    /// The file's bytes are not what SQLite or surus wrote.
    #[error("{path} is damaged: {why}")]
    Damaged { path: PathBuf, why: String },
    /// An entry does not follow from the one before it.
    #[error("the ledger's chain is broken at entry {number}: {why}")]
    Chain { number: i64, why: String },
    /// A newer surus wrote the file.
    #[error("{path} has format {found}; this surus knows formats up to {known} and left it alone")]
    Version { path: PathBuf, found: i64, known: i64 },
    /// No entry has this number.
    #[error("the ledger has no entry {number}")]
    NotFound { number: i64 },
    /// The export could not be written.
    #[error("the ledger was not exported: {why}")]
    Export { why: String },
    /// What was given to verify is not an export of a ledger.
    #[error("nothing was verified, for this is no ledger export that can be read: {why}")]
    NotAnExport { why: String },
    /// What was given is not kept; nothing of it was.
    #[error("not stored: {why}")]
    Refused { why: String },
    /// The answer would be larger than the store gives.
    #[error("not read: {why}")]
    TooMuch { why: String },
    /// The proof cannot be written so that it reads back the same: a bug in whoever made it.
    #[error("the proof was not recorded: {why}")]
    NotRecordable { why: String },
}

/// Why a file is not opened that another surus has open for writing.
pub(crate) const TAKEN: &str = "another surus writes to it";

impl StoreError {
    /// Has another surus the file open for writing? It can be asked to write then.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Open { why, .. } if why == TAKEN)
    }

    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            Self::Missing { .. } | Self::Open { .. } => code::STORE_OPEN,
            Self::Write { .. } => code::STORE_WRITE,
            Self::Damaged { .. } => code::STORE_DAMAGED,
            Self::Chain { .. } => code::STORE_CHAIN,
            Self::Version { .. } => code::STORE_VERSION,
            Self::NotFound { .. } => code::STORE_NOT_FOUND,
            Self::Export { .. } => code::OUTPUT_WRITE,
            Self::NotAnExport { .. } => code::STORE_DAMAGED,
            Self::Refused { .. } => code::STORE_REFUSED,
            Self::TooMuch { .. } => code::STORE_TOO_MUCH,
            Self::NotRecordable { .. } => code::BUG,
        }
    }

    pub(crate) fn open(path: &Path, why: impl ToString) -> Self {
        Self::Open { path: path.to_owned(), why: why.to_string() }
    }

    pub(crate) fn damaged(path: &Path, why: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), why: why.to_string() }
    }

    pub(crate) fn chain(number: i64, why: impl ToString) -> Self {
        Self::Chain { number, why: why.to_string() }
    }

    /// What an error while making the file means.
    pub(crate) fn from_io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::Write { path: path.to_owned(), why: error.to_string() }
            }
            _ => Self::open(path, error),
        }
    }

    /// What SQLite's error means. An error that no healthy file can cause counts as damage: a flipped bit in the stored
    /// schema shows as a missing column, one in a value as a wrong type.
    pub(crate) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let why = error.to_string();
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::Open { path, why },
            Some(ErrorCode::DiskFull | ErrorCode::ReadOnly | ErrorCode::OutOfMemory) => Self::Write { path, why },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Write { path, why: format!("another process kept it busy ({why})") }
            }
            Some(ErrorCode::SystemIoFailure) => match error.sqlite_extended_error_code() {
                Some(
                    ffi::SQLITE_IOERR_READ
                    | ffi::SQLITE_IOERR_SHORT_READ
                    | ffi::SQLITE_IOERR_CORRUPTFS
                    | ffi::SQLITE_IOERR_DATA,
                ) => Self::Damaged { path, why },
                _ => Self::Write { path, why },
            },
            Some(ErrorCode::TooBig) => Self::NotRecordable { why },
            _ => Self::Damaged { path, why },
        }
    }
}
