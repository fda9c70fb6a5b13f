//! Taking a change back by what was recorded before it.

use super::{
    act::{self, Effect, Patience, Place, Previous},
    error::{FixError, Stop},
    hba, setting, statement,
};
use std::collections::BTreeMap;
use surus_core::{
    clock::{self, Stopwatch},
    proof::{Outcome, Proof, ProofStep},
};
use surus_pg::{Session, Target};
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
            all.iter().rev().filter(|entry| !settled.contains_key(&entry.number)).find_map(|entry| read(entry).ok());
        return newest.ok_or(FixError::NothingToUndo);
    };
    let entry = store.entry(number)?;
    if let Some(by) = settled.get(&number) {
        return Err(FixError::NotUndoable { number, why: by.to_string() });
    }
    read(&entry).map_err(|why| FixError::NotUndoable { number, why })
}

/// Entries that need no way back any more, and why: taken back, or begun and continued by a later entry.
fn settled(all: &[Entry]) -> BTreeMap<i64, String> {
    let number = |entry: &Entry, name: &str| entry.proof.undo.as_ref()?.get(name)?.as_i64();
    let mut settled = BTreeMap::new();
    for entry in all {
        if let Some(begun) = number(entry, "begun") {
            settled.insert(
                begun,
                format!("is the beginning of a change that entry {} completes; give that number", entry.number),
            );
        }
        if let (Some(of), Outcome::Passed) = (number(entry, "of"), entry.proof.outcome) {
            settled.insert(of, format!("was taken back already, see entry {}", entry.number));
        }
    }
    settled
}

fn read(entry: &Entry) -> Result<Undoable, String> {
    let kind = entry.proof.kind.as_str();
    if !matches!(kind, "change" | "change-begun") {
        return Err(format!("is no change but of kind {kind}"));
    }
    let undo = entry.proof.undo.as_ref().ok_or("has no way back recorded")?;
    let unsure = undo.get("unsure").and_then(|unsure| unsure.as_bool()).unwrap_or(false);
    if entry.proof.outcome == Outcome::Failed && !unsure {
        return Err("is a change that failed and left nothing to take back".into());
    }
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
            Previous::Setting { name, previous, .. } => setting::alter_system(name, previous.as_deref()),
            Previous::Sql { sql, .. } => sql.clone(),
            Previous::Hba { file, line, previous, .. } => format!("line {line} of {file} becomes \"{previous}\" again"),
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
    let outcome = reverse(undoable, target).await;
    let by = undoable.plan();
    let result = match &outcome {
        Ok(Effect::InForce) => "done".to_owned(),
        Ok(Effect::AfterRestart) => "done; takes effect after a restart".to_owned(),
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
    let after_restart = outcome? == Effect::AfterRestart;
    Ok(TakenBack { number: undoable.entry.number, subject: was.subject.clone(), by, after_restart })
}

async fn reverse(undoable: &Undoable, target: &Target) -> Result<Effect, FixError> {
    let database = match &undoable.previous {
        Previous::Sql { database, .. } => database.as_deref(),
        _ => None,
    };
    let session = act::session(target, database).await?;
    if session.in_recovery() {
        return Err(FixError::Standby);
    }
    let back = async {
        is_the_same_cluster(&session, &undoable.entry.proof.cluster).await?;
        put_back(&undoable.previous, Place { session: &session, target, database }).await
    };
    back.await.map_err(Stop::taking_back)
}

async fn put_back(previous: &Previous, place: Place<'_>) -> Result<Effect, Stop> {
    match previous {
        Previous::Setting { name, previous, written } => {
            setting::put_back(place.session, name, previous.as_deref(), written.as_deref()).await
        }
        Previous::Sql { sql, .. } => {
            statement::run(place, sql, !statement::runs_alone(sql), Patience::default()).await?;
            Ok(Effect::InForce)
        }
        Previous::Hba { file, line, previous, written } => {
            hba::put_back(place, file, *line, written, previous).await?;
            Ok(Effect::InForce)
        }
        Previous::Nothing { why } => Err(Stop::Failed(why.clone())),
    }
}

/// A connection string may lead somewhere else by now. Where the server does not tell its identity to the role,
/// there is nothing to compare.
async fn is_the_same_cluster(session: &Session, cluster: &str) -> Result<(), Stop> {
    let sql = "SELECT system_identifier AS id FROM pg_catalog.pg_control_system()";
    let now = match session.ask(sql).await {
        Ok(rows) => rows.first()?.text("id")?,
        Err(_) => return Ok(()),
    };
    let known_by_identifier = !cluster.is_empty() && cluster.bytes().all(|byte| byte.is_ascii_digit());
    if known_by_identifier && now != cluster {
        return Err(Stop::Surprise(format!(
            "the change was made on the cluster with system identifier {cluster}, and this is {now}"
        )));
    }
    Ok(())
}
