//! The sample store against real files.

mod append;
mod clock;
mod durability;
mod fold;
mod golden;
mod measure;
mod pages;
mod series;
