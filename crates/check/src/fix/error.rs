//! Why fixing stopped.

use surus_core::code::{self, Code};
use surus_pg::{AskError, AskErrorKind, ConnectError, hba_file::HbaFileError};
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
    /// The connection broke in the middle of a step.
    #[error(
        "step {number} was interrupted and may have been done or not: {why}; the later steps were not taken; \
         if it was done, surus undo {ledger} takes it back"
    )]
    Unsure { number: usize, why: String, ledger: i64 },
    /// A step was done, and the ledger holds only its beginning.
    #[error("step {number} was done, but that could not be recorded: {source}; surus undo {ledger} takes it back")]
    Unrecorded { number: usize, ledger: i64, source: StoreError },
    #[error("it was not taken back: {0}")]
    TakeBack(String),
    /// The server is not as surus left it.
    #[error("it was not taken back: {0}")]
    TakeBackSurprise(String),
    #[error("ledger entry {number} {why}")]
    NotUndoable { number: i64, why: String },
    #[error("the ledger holds no change that can be taken back")]
    NothingToUndo,
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
            FixError::Step { .. } | FixError::Unsure { .. } | FixError::TakeBack(_) => code::FIX_STEP_FAILED,
            FixError::Surprise { .. } | FixError::TakeBackSurprise(_) => code::FIX_SURPRISE,
            FixError::NotUndoable { .. } | FixError::NothingToUndo => code::FIX_NOTHING_TO_UNDO,
            FixError::Store(error) | FixError::Unrecorded { source: error, .. } => error.code(),
        }
    }
}

/// Why a single act did not happen; the caller knows which step it was.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// It failed and changed nothing.
    Failed(String),
    /// The server is not as expected; nothing was changed, or it was put back.
    Surprise(String),
    /// The connection broke, or what was half done could not be put back: it is not known what is there now.
    Unsure(String),
}

impl From<AskError> for Stop {
    fn from(error: AskError) -> Self {
        let more = [error.detail, error.hint].into_iter().flatten();
        let text = more.fold(error.message, |text, more| format!("{text} ({more})"));
        if error.kind == AskErrorKind::Closed { Stop::Unsure(text) } else { Stop::Failed(text) }
    }
}

impl From<surus_pg::RowError> for Stop {
    fn from(error: surus_pg::RowError) -> Self {
        Stop::Surprise(format!("the server's answer is not understood: {error}"))
    }
}

impl From<HbaFileError> for Stop {
    fn from(error: HbaFileError) -> Self {
        match error {
            HbaFileError::Changed(why) => Stop::Surprise(why),
            HbaFileError::Unusable(why) => Stop::Failed(why),
        }
    }
}

impl Stop {
    /// Nothing had been begun yet, so a broken connection leaves nothing unclear.
    pub(super) fn before_acting(self) -> Self {
        match self {
            Stop::Unsure(why) => Stop::Failed(why),
            other => other,
        }
    }

    /// The same with more to say.
    pub(super) fn and(self, more: &str) -> Self {
        match self {
            Stop::Failed(why) => Stop::Failed(format!("{why}; {more}")),
            Stop::Surprise(why) => Stop::Surprise(format!("{why}; {more}")),
            Stop::Unsure(why) => Stop::Unsure(format!("{why}; {more}")),
        }
    }

    /// As the end of a step; `ledger` is the entry that takes it back.
    pub(super) fn at(self, number: usize, ledger: i64) -> FixError {
        match self {
            Stop::Failed(why) => FixError::Step { number, why },
            Stop::Surprise(why) => FixError::Surprise { number, why },
            Stop::Unsure(why) => FixError::Unsure { number, why, ledger },
        }
    }

    /// As the end of an undo.
    pub(super) fn taking_back(self) -> FixError {
        match self {
            Stop::Failed(why) | Stop::Unsure(why) => FixError::TakeBack(why),
            Stop::Surprise(why) => FixError::TakeBackSurprise(why),
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Stop::Failed(why) | Stop::Surprise(why) | Stop::Unsure(why) => why,
        }
    }
}
