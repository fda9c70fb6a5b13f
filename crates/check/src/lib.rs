//! Checks: rules that inspect a target and return findings; and what follows from them.
//!
//! A check decides by a pure function over what was looked at; the runner looks. This room must not know how a
//! connection is made (that is `pg`), how proofs are kept (that is `store`), and it never prints.

mod access;
mod archiving;
mod backend;
mod bloat;
pub mod catalogue;
mod checkpoints;
pub mod fix;
mod index;
mod nodes;
pub mod options;
mod proving;
mod query_stats;
pub mod readiness;
pub mod report;
pub mod rule;
pub mod run;
pub mod scene;
mod server_log;
mod slots;
mod statements;
pub mod tune;
mod user_objects;
mod user_rows;
mod vacuum;
pub mod verdict;
mod wal_room;
mod widening;

#[cfg(test)]
pub(crate) mod testing;
