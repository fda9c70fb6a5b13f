//! The catalogue: every collector, one file each. Adding one touches two places, its file and this table.

use crate::collector::Collector;

/// Every collector, in the order in which they run.
pub const ALL: &[&Collector] = &[];
