//! Why fixing stopped.

use surus_core::code::{self, Code};
use surus_pg::{AskError, ConnectError};
use surus_store::StoreError;

/// Fixing stopped; the message says what was not done and why.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    #[error("no current finding matches \"{0}\"; nothing was planned")]
    UnknownFinding(String),
    #[error("this is a standby and cannot be changed; nothing was done")]
    Standby,
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A step failed and changed nothing.
    #[error("step {number} was not done: {why}; the later steps were not taken")]
    Step { number: usize, why: String },
    /// The server is not as the plan saw it.
    #[error("step {number} stopped: {why}; the later steps were not taken")]
    Surprise { number: usize, why: String },
    #[error("it was not taken back: {0}")]
    TakeBack(String),
    #[error("ledger entry {number} {why}")]
    NotUndoable { number: i64, why: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FixError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self {
            FixError::UnknownFinding(_) => code::FIX_UNKNOWN_FINDING,
            FixError::Standby => code::FIX_STANDBY,
            FixError::Connect(error) => error.code,
            FixError::Step { .. } | FixError::TakeBack(_) => code::FIX_STEP_FAILED,
            FixError::Surprise { .. } => code::FIX_SURPRISE,
            FixError::NotUndoable { .. } => code::FIX_NOTHING_TO_UNDO,
            FixError::Store(error) => error.code(),
        }
    }
}

/// Why a single act did not happen; the caller knows which step it was.
#[derive(Debug)]
pub(super) enum Stop {
    /// It failed and changed nothing.
    Failed(String),
    /// The server is not as expected.
    Surprise(String),
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        let hint = error.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        Stop::Failed(format!("{}{hint}", error.message))
    }
}

impl Stop {
    pub(super) fn at(self, number: usize) -> FixError {
        match self {
            Stop::Failed(why) => FixError::Step { number, why },
            Stop::Surprise(why) => FixError::Surprise { number, why },
        }
    }

    pub(super) fn text(self) -> String {
        match self {
            Stop::Failed(why) | Stop::Surprise(why) => why,
        }
    }
}
