//! The names that others know: what surus speaks beside what the real exporter speaks, and what rules ask for.

mod conformance;
mod exporter;
mod rules;
mod spoken;
