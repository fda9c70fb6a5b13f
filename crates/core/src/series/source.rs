//! Where series are read from.

use super::{Labels, Matcher, MetricKind};
use std::sync::Arc;

/// A stretch of time in milliseconds since 1970: after `after_ms`, up to and with `until_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub after_ms: i64,
    pub until_ms: i64,
}

impl Window {
    /// Is this moment inside?
    pub fn holds(&self, at_ms: i64) -> bool {
        self.after_ms < at_ms && at_ms <= self.until_ms
    }
}

/// What the samples are wanted for, so that a source may read less: all of it may be ignored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hints<'a> {
    /// Distance of the points that are asked for; 0 for a single one.
    pub step_ms: i64,
    /// Length of the range selector, or of the look-back for an instant selector.
    pub range_ms: i64,
    /// The function that takes the range, e.g. `rate` or `max_over_time`.
    pub function: Option<&'a str>,
}

/// One series with the samples of a window, in the order of their times; columns of equal length. Times may be shared
/// with other series. Values that end the series ([`super::is_stale`]) are among them.
#[derive(Debug, Clone)]
pub struct Series {
    pub labels: Labels,
    pub at_ms: Arc<[i64]>,
    pub values: Vec<f64>,
}

/// What is known about a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    pub metric: String,
    pub kind: MetricKind,
    pub help: String,
}

/// Nothing was read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SourceError {
    /// The answer would be larger than the source gives.
    #[error("{0}")]
    TooMuch(String),
    /// What holds the series failed.
    #[error("{0}")]
    Failed(String),
}

/// Series that can be asked for. Calls may read from disk: not for an async task.
pub trait Source: Send + Sync {
    /// The series that fulfil all conditions and have samples in the window, in the order of their labels.
    ///
    /// # Errors
    /// When it is too much, or could not be read; never a part in place of the whole.
    fn select(&self, matchers: &[Matcher], window: Window, hints: Hints<'_>) -> Result<Vec<Series>, SourceError>;

    /// The label sets of the series that fulfil all conditions and may have samples in the window, sorted.
    ///
    /// # Errors
    /// As [`Source::select`].
    fn series(&self, matchers: &[Matcher], window: Window) -> Result<Vec<Labels>, SourceError>;

    /// What is known about the metrics, by name; all of them without one.
    ///
    /// # Errors
    /// As [`Source::select`].
    fn metadata(&self, metric: Option<&str>) -> Result<Vec<Metadata>, SourceError>;
}
