//! The ledger as commands use it: opened once, in the configured place.

use crate::{args::Global, config::Config, failure::Failure};
use jiff::Timestamp;
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

/// The proofs that count at a moment for a cluster, with their ledger numbers.
pub fn counting(store: &Store, cluster: &str, now: Timestamp) -> Result<Vec<(i64, Proof)>, Failure> {
    let entries = store.counting_proofs(cluster, now)?;
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
        counting(store, &readiness::cluster_name(target), clock::now())
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

#[cfg(test)]
mod tests {
    use super::*;
    use surus_check::readiness::Standing;
    use surus_core::proof::Outcome;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What a drill that ended then leaves, for the item that counts so many days.
    fn drilled(item: u8, days: i64, ended: Timestamp, outcome: Outcome) -> Proof {
        Proof {
            kind: "restore".into(),
            items: vec![item],
            cluster: "7".into(),
            subject: format!("surus at s3://b, item {item}"),
            started_at: ended,
            finished_at: ended,
            outcome,
            measured: vec![],
            steps: vec![],
            log_excerpt: String::new(),
            surus_version: "0".into(),
            expires_at: ended.checked_add(jiff::SignedDuration::from_hours(24 * days)).ok(),
            undo: None,
        }
    }

    #[test]
    fn the_score_rises_with_a_drill_and_falls_again_when_its_proof_expires_or_the_next_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&surus_store::path_in(dir.path())).unwrap();
        let target = TargetReport { standing: Some(Standing::default()), ..TargetReport::empty("main") };
        let score = |now: &str| readiness::assess(&target, &counting(&store, "7", at(now)).unwrap()).score;
        let before = score("2026-01-01T00:00:00Z");
        let ended = at("2026-01-01T12:00:00Z");
        for (item, days) in [(5, 7), (14, 90)] {
            store.append(&drilled(item, days, ended, Outcome::Passed)).unwrap();
        }
        let both = score("2026-01-02T00:00:00Z");
        let off_site_only = score("2026-01-08T12:00:01Z");
        assert!(both > off_site_only && off_site_only > before, "{before} {off_site_only} {both}");
        assert_eq!(score("2026-01-08T11:59:59Z"), both, "it counts to its end");
        assert_eq!(score("2026-04-02T00:00:00Z"), before, "everything has expired");
        store.append(&drilled(5, 7, at("2026-01-03T00:00:00Z"), Outcome::Failed)).unwrap();
        assert_eq!(score("2026-01-03T00:00:01Z"), off_site_only, "a newer drill that failed takes it away");
    }
}
