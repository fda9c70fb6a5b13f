//! How a query is to be evaluated, and how far it may go.

use crate::error::{Kind, QueryError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use surus_core::clock::Deadline;

/// Tells a running query to give up. Cheap to clone; every clone is the same flag.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag that nobody has raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up every query that holds a clone, soon.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Meaning and limits of an evaluation; the defaults are Prometheus's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a sample stands for its series.
    pub lookback: Duration,
    /// The step of a subquery that names none (`[1h:]`).
    pub subquery_step: Duration,
    /// The most samples that a query may hold at once.
    pub max_samples: usize,
    /// The most points that a series of a range query may have.
    pub max_points: usize,
    /// The longest that a query may take.
    pub timeout: Option<Duration>,
    /// Raised by a caller who no longer waits.
    pub cancel: Option<Cancel>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            subquery_step: Duration::from_secs(60),
            max_samples: 50_000_000,
            max_points: 11_000,
            timeout: Some(Duration::from_secs(120)),
            cancel: None,
        }
    }
}

/// Watches the limits of one evaluation.
pub(crate) struct Watch {
    deadline: Option<Deadline>,
    timeout: Duration,
    cancel: Option<Cancel>,
    max_samples: usize,
    held: usize,
}

impl Watch {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            deadline: options.timeout.map(Deadline::after),
            timeout: options.timeout.unwrap_or_default(),
            cancel: options.cancel.clone(),
            max_samples: options.max_samples,
            held: 0,
        }
    }

    /// May the evaluation go on?
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.as_ref().is_some_and(Cancel::raised) {
            return Err(QueryError { kind: Kind::Cancelled, message: "the query was cancelled".to_owned() });
        }
        if self.deadline.is_some_and(|deadline| deadline.passed()) {
            let message = format!("the query took longer than {:?}", self.timeout);
            return Err(QueryError { kind: Kind::Timeout, message });
        }
        Ok(())
    }

    /// Takes note of samples that are now held.
    pub(crate) fn hold(&mut self, samples: usize) -> Result<(), QueryError> {
        self.held = self.held.saturating_add(samples);
        if self.held > self.max_samples {
            let most = self.max_samples;
            return Err(QueryError::execution(format!(
                "query processing would load too many samples (more than {most})"
            )));
        }
        Ok(())
    }

    /// Takes note of samples that are no longer held.
    pub(crate) fn release(&mut self, samples: usize) {
        self.held = self.held.saturating_sub(samples);
    }
}
