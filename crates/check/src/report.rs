//! The report of a run: what was found, what could not be seen, and every query that was asked.

pub mod html;
pub mod markdown;
pub mod page;

use jiff::Timestamp;
use serde::Serialize;
use surus_core::{
    finding::{Finding, Reason},
    proof::Proof,
    readiness::Readiness,
};

/// The stable contract of `surus check --format json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of surus.
    pub surus: &'static str,
    pub started_at: Timestamp,
    pub duration_ms: f64,
    pub targets: Vec<TargetReport>,
}

/// What was seen of one target.
#[derive(Debug, Clone, Serialize)]
pub struct TargetReport {
    pub name: String,
    /// The server's version; absent when it could not be reached.
    pub version: Option<String>,
    /// `primary` or `standby`; absent when it could not be reached.
    pub role: Option<&'static str>,
    /// The cluster's system identifier, where it could be read.
    pub cluster: Option<String>,
    /// Why the target could not be looked at, with its code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<TargetError>,
    pub readiness: Readiness,
    /// Worst first.
    pub findings: Vec<Finding>,
    pub unknown: Vec<Unknown>,
    /// Ids of the checks that looked and found nothing.
    pub ok: Vec<&'static str>,
    /// Ids of the checks whose question does not arise here, with the reason.
    pub not_applicable: Vec<NotApplicable>,
    /// Findings that the configuration suppresses.
    pub suppressed: Vec<Suppressed>,
    /// On a standby: findings about the contents of databases that its primary's report has too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_primary_too: Vec<String>,
    pub queries: Vec<Query>,
    /// Experiments made during the run; the caller appends them to the ledger.
    #[serde(skip)]
    pub proofs: Vec<Proof>,
    /// What readiness needs to know beyond the findings.
    #[serde(skip)]
    pub standing: Option<crate::readiness::Standing>,
}

impl TargetReport {
    /// A report that says nothing yet.
    pub fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: None,
            role: None,
            cluster: None,
            error: None,
            readiness: crate::readiness::unknown("not assessed"),
            findings: Vec::new(),
            unknown: Vec::new(),
            ok: Vec::new(),
            not_applicable: Vec::new(),
            suppressed: Vec::new(),
            on_primary_too: Vec::new(),
            queries: Vec::new(),
            proofs: Vec::new(),
            standing: None,
        }
    }
}

/// A target that could not be looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TargetError {
    pub code: &'static str,
    pub message: String,
    /// What to do next.
    pub next: &'static str,
    #[serde(skip)]
    pub exit: i32,
}

/// A check, or a part of one, that could not look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Unknown {
    pub id: &'static str,
    /// The part that could not be seen; empty for all of it.
    pub object: String,
    /// The databases in which it could not look, for checks of that scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    #[serde(flatten)]
    pub reason: Reason,
}

/// A check whose question does not arise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NotApplicable {
    pub id: &'static str,
    pub why: String,
}

/// A finding that the configuration suppresses, with the reason given there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Suppressed {
    pub key: String,
    pub reason: String,
}

/// A query that was asked on the target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Query {
    /// The check that asked, or `facts`.
    pub id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    pub sql: String,
    pub duration_ms: f64,
    pub rows: usize,
    pub bytes: u64,
}
