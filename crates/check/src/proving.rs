//! Experiments that a check can make by itself. Each returns a proof when it could be made, passed or failed, and
//! nothing when it could not: then the item stays as the settings show it.

pub(crate) mod autovacuum;
pub(crate) mod backup;
pub(crate) mod encryption;
pub(crate) mod marker;
pub(crate) mod passwords;
pub(crate) mod statements;

use crate::report::TargetReport;
use jiff::{SignedDuration, Timestamp};
use surus_core::{
    clock::{self, Stopwatch},
    proof::{Measure, Outcome, Proof, ProofStep},
    readiness::ITEMS,
};

/// A proof in the making: steps are noted as they happen.
pub(crate) struct Experiment {
    kind: &'static str,
    item: u8,
    started_at: Timestamp,
    watch: Stopwatch,
    steps: Vec<ProofStep>,
    measured: Vec<Measure>,
}

impl Experiment {
    /// Begins an experiment for a readiness item.
    pub fn begin(kind: &'static str, item: u8) -> Self {
        Self {
            kind,
            item,
            started_at: clock::now(),
            watch: Stopwatch::start(),
            steps: Vec::new(),
            measured: Vec::new(),
        }
    }

    /// Notes a step that ends now and began when the last one ended.
    pub fn step(&mut self, what: impl Into<String>, result: impl Into<String>) {
        let before: f64 = self.steps.iter().map(|step| step.duration_ms).sum();
        let duration_ms = (self.watch.elapsed_ms() - before).max(0.0);
        self.steps.push(ProofStep { what: what.into(), result: result.into(), duration_ms });
    }

    /// Notes a measured value.
    pub fn measure(&mut self, name: &str, value: f64, unit: &str) {
        self.measured.push(Measure::new(name, value, unit));
    }

    /// The proof: it counts as long as its readiness item says.
    pub fn end(self, outcome: Outcome, cluster: &str, subject: &str) -> Proof {
        let days = ITEMS.iter().find(|item| item.id == self.item).map_or(1, |item| item.life_days);
        let finished_at = clock::now();
        Proof {
            kind: self.kind.into(),
            items: vec![self.item],
            cluster: cluster.into(),
            subject: subject.into(),
            started_at: self.started_at,
            finished_at,
            outcome,
            measured: self.measured,
            steps: self.steps,
            log_excerpt: String::new(),
            surus_version: env!("CARGO_PKG_VERSION").into(),
            expires_at: Some(finished_at + SignedDuration::from_hours(24 * i64::from(days))),
            undo: None,
        }
    }
}

/// No common password fits, but a login role that a password rule applies to has none, or the checks were blind: then
/// the experiment alone proves nothing.
pub(crate) fn settle_passwords(report: &mut TargetReport) {
    const COMPANIONS: &[&str] = &["sec.no_password", "sec.md5"];
    let bad = report.findings.iter().find(|finding| COMPANIONS.contains(&finding.id.as_str()));
    let title = bad.map(|finding| finding.title.clone());
    let seen = COMPANIONS.iter().all(|id| report.ok.contains(id)) || title.is_some();
    report.proofs.retain(|proof| proof.kind != "passwords" || seen || proof.outcome == Outcome::Failed);
    if let (Some(title), Some(proof)) = (title, report.proofs.iter_mut().find(|proof| proof.kind == "passwords")) {
        proof.outcome = Outcome::Failed;
        proof.steps.push(ProofStep {
            what: "look for roles without a SCRAM verifier".into(),
            result: title,
            duration_ms: 0.0,
        });
    }
}
