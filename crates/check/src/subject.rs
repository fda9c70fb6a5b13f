//! What several checks are about, or read the same way, so that each of them says only what is its own.

pub(crate) mod access;
pub(crate) mod archiving;
pub(crate) mod backend;
pub(crate) mod bloat;
pub(crate) mod checkpoints;
pub(crate) mod index;
pub(crate) mod nodes;
pub(crate) mod query_stats;
pub(crate) mod server_log;
pub(crate) mod slots;
pub(crate) mod statements;
pub(crate) mod user_objects;
pub(crate) mod user_rows;
pub(crate) mod vacuum;
pub(crate) mod wal_room;
pub(crate) mod widening;
