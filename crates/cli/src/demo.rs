//! `surus demo`: a primary and a standby of its own, with an application that works and misbehaves on them.
//!
//! Start reading in `command/demo.rs`, which is the order of events; each file here is one part of the stage.

pub mod certificates;
pub mod drill;
pub mod link;
pub mod live;
pub mod load;
pub mod loss;
pub mod misdeeds;
pub mod pages;
pub mod planted;
pub mod remedy;
pub mod repository;
pub mod schema;
pub mod servers;
pub mod show;
pub mod site;
pub mod stop;
