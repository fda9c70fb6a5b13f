//! A proof: an experiment that was run, what it measured, and until when it counts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an experiment showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not hold.
    Failed,
}

/// A measured value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

impl Measure {
    /// A measured value with its unit.
    pub fn new(name: impl Into<String>, value: f64, unit: impl Into<String>) -> Self {
        Self { name: name.into(), value, unit: unit.into() }
    }
}

/// One thing that was done during the experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProofStep {
    /// What was done.
    pub what: String,
    /// What came of it.
    pub result: String,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
}

/// An experiment that was run. The store adds number, previous hash and hash when it appends it to the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// What kind of experiment, e.g. `tls`, `passwords`, `replication-marker`, or `change` for a change surus made.
    pub kind: String,
    /// The readiness items that it speaks for (1 to 14); empty for changes.
    pub items: Vec<u8>,
    /// The cluster: its system identifier, or its address when that could not be read.
    pub cluster: String,
    /// What it was about, e.g. the target's name or the changed setting.
    pub subject: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub outcome: Outcome,
    pub measured: Vec<Measure>,
    pub steps: Vec<ProofStep>,
    /// The few lines of log or output that support it.
    pub log_excerpt: String,
    /// The surus that ran it.
    pub surus_version: String,
    /// Until when it counts; absent for changes, which do not expire.
    pub expires_at: Option<Timestamp>,
    /// For changes: what is needed to take it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<serde_json::Value>,
}

impl Proof {
    /// Does it count at `now`: passed and not expired?
    pub fn counts_at(&self, now: Timestamp) -> bool {
        self.outcome == Outcome::Passed && self.expires_at.is_some_and(|end| now < end)
    }
}
