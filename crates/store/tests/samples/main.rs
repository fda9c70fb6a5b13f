//! The sample store against real files.

mod append;
mod fold;
mod series;
