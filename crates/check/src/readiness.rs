//! Readiness: the 14 items, from findings and from proofs that count. (Filled in by the assessment below.)

use crate::report::TargetReport;
use surus_core::readiness::{ITEMS, ItemState, Readiness, State};

/// What readiness needs to know of a target beyond its findings: facts in the words of the items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standing {}

/// Assesses a target. `proofs` are ledger numbers and proofs that count now.
pub fn assess(_report: &TargetReport, _proofs: &[(i64, surus_core::proof::Proof)]) -> Readiness {
    unknown("not assessed")
}

/// All items unknown for one reason.
pub fn unknown(why: &str) -> Readiness {
    let item = |item: &surus_core::readiness::Item| ItemState {
        id: item.id,
        title: item.title,
        state: State::Unknown,
        why: why.to_owned(),
        proofs: Vec::new(),
    };
    Readiness::of(ITEMS.iter().map(item).collect())
}
