//! What is done with a restored copy of a cluster: a drill that proves a backup, an answer from the past, a clone to
//! work with, the rows that an accident took.
//!
//! A copy always lives in a scratch place of its own ([`scratch`]), comes there through an [`engine`] (surus's own
//! repository, or the restore command of another tool), and is started disarmed ([`copy`]): it can reach nobody, and
//! nobody but us reaches it. Whoever keeps the backups is only read. This room must not know how proofs are kept, what
//! a page or a schedule is; it never prints.

pub mod clone;
pub mod copy;
pub mod damage;
pub mod diff;
pub mod drill;
pub mod engine;
pub mod error;
pub mod foreign;
pub mod keeper;
pub mod limits;
pub mod mask;
pub mod moment;
pub mod repair;
pub mod scratch;
pub mod superuser;
pub mod watchdog;
pub mod window;

pub use error::{ProveError, Result};
