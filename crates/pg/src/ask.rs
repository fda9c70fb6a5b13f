//! Why a query was not answered.

use crate::connect::refusal::Said;
use surus_core::code::{self, Code};

/// The class of a failed query; what a caller may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskErrorKind {
    /// The role may not (SQLSTATE 42501).
    Privilege,
    /// A lock was not to be had within `lock_timeout` (55P03) or a deadlock was broken (40P01).
    Locked,
    /// `statement_timeout` or a cancel (57014).
    Timeout,
    /// A relation, column, function or type is not there (class 42).
    Undefined,
    /// The object is not in a state that allows it (class 55 without locks).
    ObjectState,
    /// The connection is gone.
    Closed,
    /// Any other error of the server.
    Server,
}

/// A query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AskError {
    pub kind: AskErrorKind,
    /// The server's five-character code, when it was the server that refused.
    pub sqlstate: Option<String>,
    /// The server's primary message.
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl AskError {
    /// The stable code for users.
    pub fn code(&self) -> Code {
        match self.kind {
            AskErrorKind::Privilege => code::QUERY_PRIVILEGE,
            AskErrorKind::Locked => code::QUERY_LOCKED,
            AskErrorKind::Timeout => code::QUERY_TIMEOUT,
            AskErrorKind::Closed => code::CONNECT_CLOSED,
            AskErrorKind::Undefined | AskErrorKind::ObjectState | AskErrorKind::Server => code::QUERY_FAILED,
        }
    }
}

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(server) = error.as_db_error() else {
            let message =
                if error.is_closed() { "the server closed the connection".to_owned() } else { with_cause(&error) };
            return Self { kind: AskErrorKind::Closed, sqlstate: None, message, detail: None, hint: None };
        };
        Said::from(server).into()
    }
}

impl From<Said> for AskError {
    fn from(said: Said) -> Self {
        Self {
            kind: kind_of(&said.sqlstate),
            sqlstate: Some(said.sqlstate),
            message: said.message,
            detail: said.detail,
            hint: said.hint,
        }
    }
}

/// Classifies a SQLSTATE. Source: PostgreSQL documentation, appendix A.
fn kind_of(sqlstate: &str) -> AskErrorKind {
    match sqlstate {
        "42501" => AskErrorKind::Privilege,
        "55P03" | "40P01" => AskErrorKind::Locked,
        "57014" => AskErrorKind::Timeout,
        "42P01" | "42703" | "42883" | "42704" | "3F000" => AskErrorKind::Undefined,
        "57P01" | "57P02" | "57P03" => AskErrorKind::Closed,
        state if state.starts_with("55") => AskErrorKind::ObjectState,
        state if state.starts_with("08") => AskErrorKind::Closed,
        _ => AskErrorKind::Server,
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
