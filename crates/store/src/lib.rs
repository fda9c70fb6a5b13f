//! What surus remembers, in SQLite files.
//!
//! One holds the ledger: the append-only hash chain of the proofs that surus ran and the changes that it made.
//! An acknowledged entry survives a killed process and a power cut. The exact format is in `docs/format/ledger.md`.
//! The other one, beside it, holds what was measured: see [`samples`] and `docs/format/samples.md`.
//!
//! This is the only room that touches SQLite. It must not know what a proof is about: it stores, chains and verifies.

mod chain;
mod error;
mod export;
mod file;
mod ledger;
mod location;
pub mod samples;
mod schema;
mod verify;

pub use chain::GENESIS;
pub use error::StoreError;
pub use export::verify_export;
pub use file::Store;
pub use ledger::{Entry, Filter};
pub use location::{default_path, path_in};
pub use verify::{BadEntry, ChainReport};

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;
