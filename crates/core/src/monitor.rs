//! Progress without printing: libraries tell a [`Monitor`], whoever wired them decides how it looks.

/// Receives progress. Implementations must be cheap; they are called from inside loops.
pub trait Monitor: Send + Sync {
    /// A task with a known or unknown number of units begins.
    fn begin(&self, task: &str, units: Option<u64>);
    /// `done` units of the task are done so far.
    fn advance(&self, task: &str, done: u64);
    /// The task ended; `note` is a short result.
    fn end(&self, task: &str, note: &str);
    /// Something worth a line.
    fn note(&self, text: &str);
}

/// Says nothing.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn end(&self, _: &str, _: &str) {}
    fn note(&self, _: &str) {}
}
