//! The ledger as commands use it: opened once, in the configured place.

use crate::{args::Global, config::Config, failure::Failure};
use std::path::PathBuf;
use surus_check::{readiness, report::TargetReport};
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

/// Appends the proofs of a target's run to the ledger and assesses its readiness with all that count.
///
/// A ledger that cannot be used never hides the findings: the proofs then do not count, the items say so, and the
/// reason is returned.
pub fn weigh(target: &mut TargetReport, store: Result<&Store, &Failure>) -> Option<String> {
    let outcome = store.map_err(Clone::clone).and_then(|store| {
        for proof in &target.proofs {
            store.append(proof)?;
        }
        counting(store, &readiness::cluster_name(target))
    });
    match outcome {
        Ok(proofs) => {
            target.readiness = readiness::assess(target, &proofs);
            None
        }
        Err(failure) => {
            let note = format!("proofs were not recorded and do not count: {}", failure.message);
            let proven = |id: &u8| target.proofs.iter().any(|proof| proof.items.contains(id));
            for item in target.readiness.items.iter_mut().filter(|item| proven(&item.id)) {
                item.why = format!("{}; {note}", item.why);
            }
            Some(format!("[{}]: {note}", failure.code.id))
        }
    }
}
