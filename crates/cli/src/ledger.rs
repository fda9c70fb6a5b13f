//! The ledger as commands use it: opened once, in the configured place.

use crate::{args::Global, config::Config, failure::Failure};
use std::path::PathBuf;
use surus_core::clock;
use surus_core::proof::Proof;
use surus_store::{Store, StoreError};

/// Where the file is: the flag, the configuration, or the user's default.
pub fn path(global: &Global, config: &Config) -> Result<PathBuf, Failure> {
    match global.data_dir.as_ref().or(config.data_dir.as_ref()) {
        Some(directory) => Ok(surus_store::path_in(directory)),
        None => Ok(surus_store::default_path()?),
    }
}

/// Opens it for reading and writing, creating it when it is not there.
pub fn open(global: &Global, config: &Config) -> Result<Store, Failure> {
    Ok(Store::open(&path(global, config)?)?)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The proofs that count now for a cluster, with their ledger numbers.
pub fn counting(store: &Store, cluster: &str) -> Result<Vec<(i64, Proof)>, Failure> {
    let entries = store.counting_proofs(cluster, clock::now())?;
    Ok(entries.into_iter().map(|entry| (entry.number, entry.proof)).collect())
}
