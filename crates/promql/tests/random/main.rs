//! Random queries over random series.

mod against_prometheus;
mod invariants;
mod notation;
mod queries;
mod samples;
