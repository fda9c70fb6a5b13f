//! Asking series questions: PromQL with the meaning that Prometheus 3 gives it, over any
//! [`surus_core::series::Source`].
//!
//! A query is parsed and compiled to a plan ([`Query`]). A plan is evaluated column by column: every node gives, for
//! each of its series, the values of all steps at once, so that samples are selected once and work on labels is done
//! once per series, not once per step.
//!
//! This room must not know where series come from, that answers travel over HTTP, or that PostgreSQL exists. No I/O.

mod aggregate;
mod annotations;
mod answer;
mod binary;
mod error;
mod evaluate;
mod format;
mod function;
mod grid;
mod histogram;
mod number;
mod options;
mod plan;
mod rows;
pub mod script;
mod selector;
mod window;

pub use answer::{Answer, Line, Sample, Value};
pub use error::{Kind, QueryError};
pub use format::format;
pub use number::{duration_ms, number_text};
pub use options::{Cancel, Options};
pub use plan::{Query, select_matchers};

use surus_core::series::Source;

/// Answers a query for one moment.
///
/// # Errors
/// When the query is not valid, cannot be evaluated over these series, or a limit was reached.
pub fn instant(source: &dyn Source, query: &str, at_ms: i64, options: &Options) -> Result<Answer, QueryError> {
    Query::parse(query)?.instant(source, at_ms, options)
}

/// Answers a query for every step from start to end, both included.
///
/// # Errors
/// As [`instant`]; also when start, end and step make no range, or more points than the limit.
pub fn range(
    source: &dyn Source,
    query: &str,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    options: &Options,
) -> Result<Answer, QueryError> {
    Query::parse(query)?.range(source, start_ms, end_ms, step_ms, options)
}
