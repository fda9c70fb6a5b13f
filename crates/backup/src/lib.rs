//! Backups, WAL and restores.
//!
//! A repository keeps base backups and WAL of clusters; this room puts them there, finds them again and brings them
//! back. Decisions (what a backup needs, what may expire, whether a moment can be reached) are pure functions over what
//! the repository says; reading and writing files stands around them. It must not know what a check, a page or a
//! schedule is, and it never prints.
//!
//! What can be trusted here: an object is complete and durable before anybody is told so, a backup exists only once its
//! manifest does, and an object that cannot be read is never taken for one that is not there.

pub mod block;
pub mod catalogue;
pub mod chain;
pub mod control;
pub mod error;
pub mod expire;
pub mod hook;
pub mod manifest;
pub mod pace;
pub mod protection;
pub mod repo;
pub mod restore;
pub mod schedule;
pub mod take;
pub mod verify;
pub mod wal;

pub use error::{BackupError, Result};
pub use repo::{Cluster, Repo};

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(_) => Err(BackupError::refused(surus_core::code::BUG, "a part of the work ended without a result")),
    }
}
