//! The ledger: proofs and changes, newest first.

use super::Asking;
use crate::api::answer::ApiError;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use surus_store::{Entry, Filter, Store, StoreError};

/// Entries that are listed.
const ROWS: u32 = 200;

/// The ledger.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Proofs {
    /// Newest first.
    pub rows: Vec<Row>,
    /// Why there is nothing, if there is nothing.
    pub empty: Option<String>,
}

/// An entry.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Row {
    pub number: i64,
    pub kind: String,
    /// The readiness items that it speaks for.
    pub items: Vec<u8>,
    pub cluster: String,
    pub subject: String,
    pub finished_ms: i64,
    pub duration_ms: i64,
    /// `passed`, `failed` or as the entry has it.
    pub outcome: String,
    pub measured: Vec<Measured>,
    pub steps: Vec<Step>,
    pub log_excerpt: String,
    /// Until when it counts; none for changes.
    pub expires_ms: Option<i64>,
    /// Does it still count?
    pub counts: bool,
    pub hash: String,
}

/// Something that was measured.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Measured {
    pub name: String,
    pub value: f64,
    pub unit: String,
}

/// Something that was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Step {
    pub what: String,
    pub result: String,
    pub duration_ms: f64,
}

/// Looks at the ledger.
pub fn look(asking: &Asking<'_>) -> Result<Proofs, ApiError> {
    let kind = asking.scene.form.get("kind").map(str::to_owned);
    let filter = Filter { kind, limit: Some(ROWS), ..Filter::default() };
    let entries = match Store::open_read_only(&asking.site.ledger) {
        Ok(store) => store.entries(&filter)?,
        Err(StoreError::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let now = Timestamp::from_millisecond(asking.scene.now_ms).unwrap_or_default();
    let rows: Vec<Row> = entries.into_iter().rev().map(|entry| row(entry, now)).collect();
    let empty = rows.is_empty().then(|| {
        "Nothing was proven or changed yet. surus check --prove makes the proofs that need no second server; surus fix --apply records each change.".to_owned()
    });
    Ok(Proofs { rows, empty })
}

fn row(entry: Entry, now: Timestamp) -> Row {
    let proof = entry.proof;
    let outcome = serde_json::to_value(proof.outcome).ok();
    Row {
        number: entry.number,
        counts: proof.counts_at(now),
        outcome: outcome.as_ref().and_then(serde_json::Value::as_str).unwrap_or("unknown").to_owned(),
        kind: proof.kind,
        items: proof.items,
        cluster: proof.cluster,
        subject: proof.subject,
        finished_ms: proof.finished_at.as_millisecond(),
        duration_ms: proof.finished_at.as_millisecond() - proof.started_at.as_millisecond(),
        measured: proof
            .measured
            .into_iter()
            .map(|one| Measured { name: one.name, value: one.value, unit: one.unit })
            .collect(),
        steps: proof
            .steps
            .into_iter()
            .map(|one| Step { what: one.what, result: one.result, duration_ms: one.duration_ms })
            .collect(),
        log_excerpt: proof.log_excerpt,
        expires_ms: proof.expires_at.map(|at| at.as_millisecond()),
        hash: entry.hash,
    }
}
