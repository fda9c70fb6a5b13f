//! What the ledger holds for a target, as series: the newest proof of each kind and subject.

use super::{Family, gauge};
use crate::collector::Page;
use jiff::Timestamp;
use surus_core::{
    proof::{Outcome, Proof},
    series::Told,
};

pub(super) static LAST: Family =
    gauge("surus_proof_last_timestamp_seconds", "When the newest proof of the kind ended.");
pub(super) static PASSED: Family =
    gauge("surus_proof_passed", "1 if the newest proof of the kind held, 0 if it failed.");
pub(super) static EXPIRES: Family =
    gauge("surus_proof_expires_timestamp_seconds", "Until when the newest proof of the kind counts, if it held.");
pub(super) static DURATION: Family =
    gauge("surus_proof_duration_seconds", "How long the newest proof of the kind took.");
pub(super) static RTO: Family = gauge(
    "surus_proof_rto_seconds",
    "From the start of the restore until the recovered server answered, in the newest drill that came so far.",
);
pub(super) static RPO: Family =
    gauge("surus_proof_rpo_seconds", "How much the newest drill would have lost; without a heartbeat an upper bound.");

/// Every family that [`tell`] fills.
pub static FAMILIES: &[&Family] = &[&LAST, &PASSED, &EXPIRES, &DURATION, &RTO, &RPO];

/// The labels of one of these families.
pub fn labels(family: &Family) -> Option<&'static [&'static str]> {
    FAMILIES.iter().any(|one| one.name == family.name).then_some(&["kind", "subject"][..])
}

/// Tells of proofs: the newest of each kind and subject.
pub(crate) fn tell(proofs: &[Proof]) -> Vec<Told> {
    let mut page = Page::default();
    let seconds = |at: Timestamp| at.as_millisecond() as f64 / 1000.0;
    for proof in proofs {
        let labels = [("kind", proof.kind.as_str()), ("subject", proof.subject.as_str())];
        let passed = proof.outcome == Outcome::Passed;
        page.tell(&LAST, labels, seconds(proof.finished_at));
        page.tell(&PASSED, labels, f64::from(u8::from(passed)));
        if let Some(end) = proof.expires_at.filter(|_| passed) {
            page.tell(&EXPIRES, labels, seconds(end));
        }
        page.tell(&DURATION, labels, seconds(proof.finished_at) - seconds(proof.started_at));
        for (family, name) in [(&RTO, "rto"), (&RPO, "rpo")] {
            if let Some(measure) = proof.measured.iter().find(|measure| measure.name == name) {
                page.tell(family, labels, measure.value);
            }
        }
    }
    page.into_told()
}
