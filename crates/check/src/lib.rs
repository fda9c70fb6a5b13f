//! Checks: rules that inspect a target and return findings; and what follows from them.
//!
//! A check decides by a pure function over what was looked at; the runner looks. This room must not know how a
//! connection is made (that is `pg`), how proofs are kept (that is `store`), and it never prints.

pub mod catalogue;
pub mod fix;
pub mod options;
mod proving;
pub mod readiness;
pub mod report;
pub mod reports;
pub mod rule;
pub mod run;
pub mod scene;
mod subject;
pub mod tune;
pub mod verdict;

#[cfg(test)]
pub(crate) mod testing;

// What several checks are about is named by itself in them: `crate::index`, `crate::vacuum`.
use subject::{
    access, archiving, backend, bloat, checkpoints, index, nodes, query_stats, server_log, slots, statements,
    user_objects, user_rows, vacuum, wal_room, widening,
};
