//! The ledger: proofs and changes, newest first; what restore drills measured over time; and whether the chain holds.

use super::Asking;
use crate::api::answer::ApiError;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use surus_store::{Entry, Filter, Store, StoreError};

/// Entries that are listed.
const ROWS: u32 = 200;
/// Drills that are plotted.
const DRILLS: u32 = 100;
/// Entries that are gone through for what one can filter by.
const SEEN: u32 = 2000;
/// The kind of restore drills.
pub const RESTORE: &str = "restore";

/// The ledger.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Proofs {
    /// Newest first.
    pub rows: Vec<Row>,
    /// Why there is nothing, if there is nothing.
    pub empty: Option<String>,
    /// Restore drills, oldest first: the last hundred.
    pub drills: Vec<Drill>,
    /// Every kind and every cluster that the newest entries have.
    pub kinds: Vec<String>,
    pub clusters: Vec<String>,
    /// Is every entry what it was when it was written?
    pub chain: Chain,
}

/// Whether the hash chain holds.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Chain {
    /// How many hold, from the first on.
    pub entries: u64,
    pub intact: bool,
    /// What is wrong, or could not be seen.
    pub trouble: Option<String>,
}

/// What a restore drill measured.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Drill {
    pub number: i64,
    pub finished_ms: i64,
    pub passed: bool,
    pub rto_s: Option<f64>,
    pub rpo_s: Option<f64>,
    pub subject: String,
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
    let form = &asking.scene.form;
    let wanted = |name: &str| form.get(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let item = wanted("item").map(|text| text.parse::<u8>()).transpose();
    let item = item.map_err(|_| ApiError::parameter("item", "is the number of a readiness item, 1 to 14"))?;
    let filter =
        Filter { kind: wanted("kind"), cluster: wanted("cluster"), item, limit: Some(ROWS), ..Filter::default() };
    let nothing = |why: &str, chain: Chain| Proofs {
        rows: Vec::new(),
        empty: Some(why.to_owned()),
        drills: Vec::new(),
        kinds: Vec::new(),
        clusters: Vec::new(),
        chain,
    };
    let Some(store) = opened(asking)? else {
        return Ok(nothing(NOTHING, Chain { entries: 0, intact: true, trouble: None }));
    };
    let chain = chain(&store);
    if !chain.intact {
        // Entries of a chain that does not hold are not believed, so none is shown.
        return Ok(nothing("No entry is shown, because the chain does not hold: surus proof verify says more.", chain));
    }
    let now = Timestamp::from_millisecond(asking.scene.now_ms).unwrap_or_default();
    let rows: Vec<Row> = store.entries(&filter)?.into_iter().rev().map(|entry| row(entry, now)).collect();
    let of_drills = Filter {
        kind: Some(RESTORE.to_owned()),
        cluster: filter.cluster.clone(),
        limit: Some(DRILLS),
        ..Filter::default()
    };
    let drills = store.entries(&of_drills)?;
    let seen = store.entries(&Filter { limit: Some(SEEN), ..Filter::default() })?;
    let all = |of: fn(&Entry) -> &str| -> Vec<String> {
        seen.iter().map(of).collect::<BTreeSet<_>>().into_iter().map(str::to_owned).collect()
    };
    let empty = rows.is_empty().then(|| match seen.is_empty() {
        true => NOTHING.to_owned(),
        false => "No entry is like that.".to_owned(),
    });
    Ok(Proofs {
        rows,
        empty,
        drills: told_once(drills.iter().map(drill).collect()),
        kinds: all(|entry| &entry.proof.kind),
        clusters: all(|entry| &entry.proof.cluster),
        chain,
    })
}

const NOTHING: &str = "Nothing was proven or changed yet. surus check --prove makes the proofs that need no second server; \
                       surus prove restore restores a backup; surus fix --apply records each change.";

/// The ledger; none before its first entry.
pub(super) fn opened(asking: &Asking<'_>) -> Result<Option<Store>, ApiError> {
    match Store::open_read_only(&asking.site.ledger) {
        Ok(store) => Ok(Some(store)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn chain(store: &Store) -> Chain {
    match store.verify_chain() {
        Ok(report) => Chain {
            entries: report.entries,
            intact: report.is_intact(),
            trouble: report.first_bad.as_ref().map(|bad| format!("entry {}: {}", bad.number, bad.why)),
        },
        Err(error) => Chain { entries: 0, intact: false, trouble: Some(error.to_string()) },
    }
}

fn measured(entry: &Entry, name: &str) -> Option<f64> {
    entry.proof.measured.iter().find(|one| one.name == name).map(|one| one.value)
}

fn drill(entry: &Entry) -> Drill {
    Drill {
        number: entry.number,
        finished_ms: entry.proof.finished_at.as_millisecond(),
        passed: entry.proof.outcome == surus_core::proof::Outcome::Passed,
        rto_s: measured(entry, "rto"),
        rpo_s: measured(entry, "rpo"),
        subject: entry.proof.subject.clone(),
    }
}

/// A drill of an off-site repository has two entries, for two readiness items: it is shown once.
fn told_once(mut drills: Vec<Drill>) -> Vec<Drill> {
    drills.dedup_by(|later, earlier| later.finished_ms == earlier.finished_ms && later.rto_s == earlier.rto_s);
    drills
}

pub(super) fn row(entry: Entry, now: Timestamp) -> Row {
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
