//! Taking a change back by what was recorded before it.

use super::{
    act::{self, Previous},
    error::{FixError, Stop},
};
use std::collections::BTreeSet;
use surus_core::{
    clock::{self, Stopwatch},
    proof::{Outcome, Proof, ProofStep},
};
use surus_pg::Target;
use surus_store::{Entry, Filter, Store};

/// A change that was taken back.
#[derive(Debug, Clone, PartialEq)]
pub struct TakenBack {
    /// The change's number in the ledger.
    pub number: i64,
    /// What the change was.
    pub subject: String,
    /// What was done to take it back.
    pub by: String,
    pub after_restart: bool,
}

/// A change in the ledger that can still be taken back.
#[derive(Debug, Clone)]
pub struct Undoable {
    pub entry: Entry,
    /// The server's connection string, without password.
    pub server: String,
    previous: Previous,
}

/// The newest change that can be taken back, or the one with this number.
///
/// # Errors
/// When there is none, or the entry is no change, was not carried out, or was taken back already.
pub fn undoable(store: &Store, number: Option<i64>) -> Result<Undoable, FixError> {
    let all = store.entries(&Filter::default())?;
    let settled = settled(&all);
    let Some(number) = number else {
        let newest =
            all.iter().rev().filter(|entry| !settled.contains(&entry.number)).find_map(|entry| read(entry).ok());
        return newest.ok_or(FixError::NotUndoable {
            number: 0,
            why: "does not exist: nothing that can be taken back is recorded".into(),
        });
    };
    let entry = store.entry(number)?;
    if settled.contains(&number) {
        return Err(FixError::NotUndoable {
            number,
            why: "was taken back already, or is the beginning of a later entry".into(),
        });
    }
    read(&entry).map_err(|why| FixError::NotUndoable { number, why })
}

/// Entries that need no way back any more: taken back, or begun and continued by a later entry.
fn settled(all: &[Entry]) -> BTreeSet<i64> {
    let number = |entry: &Entry, name: &str| entry.proof.undo.as_ref()?.get(name)?.as_i64();
    let begun = all.iter().filter_map(|entry| number(entry, "begun"));
    let undone =
        all.iter().filter(|entry| entry.proof.outcome == Outcome::Passed).filter_map(|entry| number(entry, "of"));
    begun.chain(undone).collect()
}

fn read(entry: &Entry) -> Result<Undoable, String> {
    if !matches!(entry.proof.kind.as_str(), "change" | "change-begun") || entry.proof.outcome != Outcome::Passed {
        return Err(format!(
            "is no change that was carried out (it is a {} that {:?})",
            entry.proof.kind, entry.proof.outcome
        ));
    }
    let undo = entry.proof.undo.as_ref().ok_or("has no way back recorded")?;
    let server = undo.get("server").and_then(|server| server.as_str()).unwrap_or_default().to_owned();
    let previous = undo.get("previous").cloned().unwrap_or_default();
    match serde_json::from_value(previous) {
        Ok(Previous::Nothing { why }) => Err(format!("cannot be taken back: {why}")),
        Ok(previous) => Ok(Undoable { entry: entry.clone(), server, previous }),
        Err(error) => Err(format!("has an unreadable way back: {error}")),
    }
}

impl Undoable {
    /// What will be done, in words or SQL.
    pub fn plan(&self) -> String {
        match &self.previous {
            Previous::Setting { name, previous } => act::alter_system(name, previous.as_deref()),
            Previous::Sql { sql, .. } => sql.clone(),
            Previous::Hba { file, .. } => format!("put back {file} as it was"),
            Previous::Nothing { why } => why.clone(),
        }
    }
}

/// Takes a change back and records that.
///
/// # Errors
/// When the server cannot be reached, or is not as surus left it.
pub async fn take_back(undoable: &Undoable, target: &Target, store: &Store) -> Result<TakenBack, FixError> {
    let watch = Stopwatch::start();
    let started_at = clock::now();
    let outcome = reverse(&undoable.previous, target).await;
    let by = undoable.plan();
    let result = match &outcome {
        Ok(_) => "done".to_owned(),
        Err(FixError::TakeBack(why)) => why.clone(),
        Err(error) => error.to_string(),
    };
    let was = &undoable.entry.proof;
    store.append(&Proof {
        kind: "undo".into(),
        subject: was.subject.clone(),
        started_at,
        finished_at: clock::now(),
        outcome: if outcome.is_ok() { Outcome::Passed } else { Outcome::Failed },
        steps: vec![ProofStep { what: by.clone(), result, duration_ms: watch.elapsed_ms() }],
        log_excerpt: String::new(),
        undo: Some(serde_json::json!({ "of": undoable.entry.number })),
        ..was.clone()
    })?;
    let after_restart = outcome?;
    Ok(TakenBack { number: undoable.entry.number, subject: was.subject.clone(), by, after_restart })
}

/// Acts; tells whether the effect waits for a restart.
async fn reverse(previous: &Previous, target: &Target) -> Result<bool, FixError> {
    let failed = |stop: Stop| FixError::TakeBack(stop.text());
    match previous {
        Previous::Setting { name, previous } => {
            let session = act::session(target, None).await?;
            let effect = act::set(&session, name, previous.as_deref()).await.map_err(failed)?;
            Ok(effect == act::Effect::AfterRestart)
        }
        Previous::Sql { database, sql } => {
            let session = act::session(target, database.as_deref()).await?;
            let alone = sql.to_ascii_uppercase().contains("CONCURRENTLY");
            act::run(&session, sql, !alone).await.map_err(failed)?;
            Ok(false)
        }
        Previous::Hba { file, previous, written } => {
            let session = act::session(target, None).await?;
            act::write_hba(&session, file, written, previous).await.map_err(failed)?;
            Ok(false)
        }
        Previous::Nothing { why } => Err(FixError::TakeBack(why.clone())),
    }
}
