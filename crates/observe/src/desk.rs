//! Where every target hands over what shall be remembered. It never waits for the store.

use std::sync::Arc;
use surus_core::series::Labels;

/// All series of one group of one target at one moment.
#[derive(Debug)]
pub(crate) struct Batch {
    pub target: Arc<str>,
    pub group: Arc<str>,
    pub at_ms: i64,
    pub every_ms: i64,
    pub points: Vec<(Labels, f64)>,
}

/// Takes what is handed over.
#[derive(Debug, Clone)]
pub(crate) struct Desk {}

impl Desk {
    pub(crate) fn open() -> Self {
        Self {}
    }

    pub(crate) fn batch(&self, batch: Batch) {
        tracing::trace!(target = %batch.target, group = %batch.group, at_ms = batch.at_ms, every_ms = batch.every_ms, points = batch.points.len(), "a cycle");
    }
}
