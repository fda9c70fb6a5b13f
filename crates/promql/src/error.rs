//! Why a query was not answered.

use std::fmt;
use surus_core::{
    code::{self, Code},
    series::SourceError,
};

/// The kinds that Prometheus's HTTP API tells apart (`errorType`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The query, or its times, are not valid.
    BadData,
    /// It is valid and cannot be evaluated over these series.
    Execution,
    /// It took too long.
    Timeout,
    /// The caller gave up.
    Cancelled,
}

impl Kind {
    /// As the HTTP API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadData => "bad_data",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Cancelled => "canceled",
        }
    }
}

/// A query that was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    pub kind: Kind,
    pub message: String,
}

impl QueryError {
    /// The query is not valid.
    pub fn bad(message: impl Into<String>) -> Self {
        Self { kind: Kind::BadData, message: message.into() }
    }

    /// The query cannot be evaluated.
    pub fn execution(message: impl Into<String>) -> Self {
        Self { kind: Kind::Execution, message: message.into() }
    }

    /// The code under which a user meets it.
    pub fn code(&self) -> Code {
        match self.kind {
            Kind::BadData => code::PROMQL_QUERY,
            Kind::Execution => code::PROMQL_EXECUTION,
            Kind::Timeout | Kind::Cancelled => code::PROMQL_TIMEOUT,
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}

impl From<SourceError> for QueryError {
    fn from(error: SourceError) -> Self {
        Self::execution(format!("expanding series: {error}"))
    }
}

/// Two series with the same labels where there may be one.
pub(crate) fn same_labels() -> QueryError {
    QueryError::execution("vector cannot contain metrics with the same labelset")
}
