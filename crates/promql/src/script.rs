//! Scripts that test an evaluator, in the format of Prometheus's `promqltest`: `load`, `clear`, `eval instant`,
//! `eval range`, with what is expected below (prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules has
//! the notation of values).
//!
//! What needs native histograms, or is experimental in Prometheus and not supported here, is skipped with its reason.
//! As Prometheus's own runner does, an instant query is also run with every selector held by `@` at that moment, at
//! several other moments, and each of these as the middle of a range query.

mod compare;
mod expect;
mod memory;
mod read;
mod run;
mod series;

pub use memory::Memory;
pub use read::{ScriptError, read};
pub use run::{Case, Report, run};
pub use series::{Described, Item, described};

use expect::Expectation;

/// One command of a script.
#[derive(Debug, Clone)]
pub enum Command {
    /// Forget all series.
    Clear,
    /// Samples from time 0, one per step.
    Load {
        step_ms: i64,
        /// Also make native histograms of classic ones.
        with_native: bool,
        series: Vec<Described>,
    },
    /// Ask, and compare.
    Eval(Box<Eval>),
}

/// A query with what is expected of it.
#[derive(Debug, Clone)]
pub struct Eval {
    /// Counted from 1.
    pub line: usize,
    pub query: String,
    /// For one moment, or a range.
    pub times: Times,
    expected: Expectation,
}

/// For which moments a query is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    At(i64),
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}
