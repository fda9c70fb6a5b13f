//! Why something is not there.

use serde::Serialize;
use surus_core::code::{self, Code};
use surus_pg::{AskError, ConnectError, FactsError, RowError};

/// The reason for a missing answer, for people: what was not seen and why, and what to run next where that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    /// The stable code of an error; none when nothing is wrong, as with an extension that is not installed.
    pub code: Option<&'static str>,
    pub text: String,
    pub next: Option<&'static str>,
}

impl Why {
    /// Nothing is wrong, it is only not there.
    pub fn absent(text: impl Into<String>) -> Self {
        Self { code: None, text: text.into(), next: None }
    }

    /// An error of the table of codes.
    pub fn error(code: Code, text: impl Into<String>) -> Self {
        Self { code: Some(code.id), text: text.into(), next: Some(code.next) }
    }
}

impl From<&ConnectError> for Why {
    fn from(error: &ConnectError) -> Self {
        Self::error(error.code, error.message.clone())
    }
}

impl From<&AskError> for Why {
    fn from(error: &AskError) -> Self {
        let state = error.sqlstate.as_ref().map(|state| format!(" (SQLSTATE {state})")).unwrap_or_default();
        Self::error(error.code(), format!("{}{state}", error.message))
    }
}

impl From<&FactsError> for Why {
    fn from(error: &FactsError) -> Self {
        Self::error(error.code(), error.to_string())
    }
}

impl From<&RowError> for Why {
    fn from(error: &RowError) -> Self {
        Self::error(code::QUERY_UNEXPECTED, error.to_string())
    }
}
