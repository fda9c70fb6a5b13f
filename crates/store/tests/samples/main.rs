//! The sample store against real files.

mod append;
mod durability;
mod fold;
mod golden;
mod measure;
mod series;
