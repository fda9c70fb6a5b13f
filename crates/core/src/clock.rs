//! The only clock. Times are UTC inside surus; zones belong to the edge.

use jiff::Timestamp;
use std::time::{Duration, Instant};

/// Now, in UTC.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> i64 {
    now().as_millisecond()
}

/// Measures elapsed time on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A stopwatch that runs from now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Milliseconds since the start, with microsecond resolution.
    pub fn elapsed_ms(&self) -> f64 {
        (self.elapsed().as_micros() as f64) / 1000.0
    }
}

/// A point on the monotonic clock after which work must stop.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline `after` from now.
    pub fn after(after: Duration) -> Self {
        Self(Instant::now() + after)
    }

    /// What is left; zero when the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Has it passed?
    pub fn passed(&self) -> bool {
        self.remaining().is_zero()
    }
}
