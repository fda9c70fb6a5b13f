//! Watching: what is read from a target, how often, and what became of it.
//!
//! A collector is one file of `collectors/`: it declares its families and its query, and turns rows into points. It
//! never decides when it runs. The engine decides when, over at most two sessions per server, keeps the newest answer
//! of each collector for `/metrics`, and hands every cycle to the store. This room must not know what a rule or a page
//! is.
//!
//! Start reading at [`Observatory`], then `watch.rs`.

pub mod activity;
mod asking;
pub mod blocking;
mod breaker;
pub mod changes;
pub mod collector;
pub mod collectors;
mod desk;
pub mod exposition;
mod gate;
pub mod host;
mod house;
pub mod lineage;
pub mod live;
mod observatory;
pub mod own;
pub mod process;
pub mod remote_write;
mod schedule;
pub mod schema;
mod second;
mod settings;
pub mod snapshot;
pub mod statements;
pub mod vacuums;
mod visits;
mod watch;
mod why;
mod writing;

pub use observatory::Observatory;
pub use second::{Place, Visit};
pub use settings::{Settings, Watched};
pub use snapshot::{Answer, CollectorNow, Snapshot, State, TargetNow};
pub use visits::Door;
pub use why::Why;
