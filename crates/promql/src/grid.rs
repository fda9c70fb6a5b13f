//! The moments for which a node is evaluated.

/// Moments at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    pub start_ms: i64,
    /// More than zero, also when there is one moment.
    pub step_ms: i64,
    /// How many moments.
    pub steps: usize,
}

impl Grid {
    /// One moment.
    pub(crate) fn at(at_ms: i64) -> Self {
        Self { start_ms: at_ms, step_ms: 1, steps: 1 }
    }

    /// From start to end, both included as far as the step hits them.
    pub(crate) fn between(start_ms: i64, end_ms: i64, step_ms: i64) -> Self {
        let steps = if end_ms < start_ms { 0 } else { (end_ms - start_ms) / step_ms + 1 };
        Self { start_ms, step_ms, steps: usize::try_from(steps).unwrap_or(0) }
    }

    /// The only moment of a query for one moment, and the first of any.
    pub(crate) fn first(self) -> Self {
        Self { steps: self.steps.min(1), ..self }
    }

    /// The time of a step.
    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start_ms + self.step_ms * i64::try_from(step).unwrap_or(i64::MAX)
    }

    /// The time of the last step.
    pub(crate) fn end_ms(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }

    /// All times in seconds.
    pub(crate) fn seconds(&self) -> Vec<f64> {
        (0..self.steps).map(|step| self.time(step) as f64 / 1000.0).collect()
    }
}
