//! Carrying out a plan: one step at a time, recorded before and after.

use super::{
    FixPlan, Numbered,
    act::{self, Effect, Previous},
    error::{FixError, Stop},
};
use surus_core::{
    clock::{self, Stopwatch},
    monitor::Monitor,
    plan::{Action, Interruption, Undo},
    proof::{Outcome, Proof, ProofStep},
};
use surus_pg::{Session, Target};
use surus_store::Store;

/// Where and in whose name changes are made.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub target: &'a Target,
    /// How the ledger names the cluster.
    pub cluster: &'a str,
    /// A connection string without password, by which the way back finds the server again.
    pub reference: &'a str,
    pub store: &'a Store,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub number: usize,
    pub title: String,
    /// The ledger's number; `surus undo` takes it.
    pub ledger: i64,
    /// It takes effect only after a restart.
    pub after_restart: bool,
    pub can_be_undone: bool,
}

/// What a run did: the steps taken, and what stopped it, if anything.
#[derive(Debug, Default)]
pub struct Applied {
    pub done: Vec<Done>,
    pub stopped: Option<FixError>,
}

/// Carries out the plan's steps in order and stops at the first that fails or surprises.
///
/// Before each act the ledger gets what takes it back (`change-begun`), after it what came of it (`change`): a surus
/// that is killed in between leaves the way back.
pub async fn apply(scene: Scene<'_>, plan: &FixPlan, monitor: &dyn Monitor) -> Applied {
    let mut applied = Applied::default();
    monitor.begin("fixing", Some(plan.steps.len() as u64));
    for step in &plan.steps {
        match take(scene, step).await {
            Ok(done) => applied.done.push(done),
            Err(error) => {
                applied.stopped = Some(error);
                break;
            }
        }
        monitor.advance("fixing", step.number as u64);
    }
    monitor.end("fixing", "");
    applied
}

async fn take(scene: Scene<'_>, numbered: &Numbered) -> Result<Done, FixError> {
    let session = act::session(scene.target, numbered.database.as_deref()).await?;
    let at = |stop: Stop| stop.at(numbered.number);
    if is_standby(&session).await.map_err(at)? {
        return Err(FixError::Standby);
    }
    let previous = previous(&session, numbered).await.map_err(at)?;
    let begun = scene.store.append(&entry(scene, numbered, "change-begun", Outcome::Passed, &previous, Vec::new()))?;
    let watch = Stopwatch::start();
    let outcome = perform(&session, numbered, &previous).await;
    let step = ProofStep {
        what: description(numbered),
        result: match &outcome {
            Ok((Effect::InForce, _)) => "done".into(),
            Ok((Effect::AfterRestart, _)) => "done; takes effect after a restart".into(),
            Err(Stop::Failed(why) | Stop::Surprise(why)) => why.clone(),
        },
        duration_ms: watch.elapsed_ms(),
    };
    let (verdict, previous) = match &outcome {
        Ok((_, final_previous)) => (Outcome::Passed, final_previous.clone()),
        Err(_) => (Outcome::Failed, previous),
    };
    let mut record = entry(scene, numbered, "change", verdict, &previous, vec![step]);
    if let Some(undo) = record.undo.as_mut().and_then(|undo| undo.as_object_mut()) {
        undo.insert("begun".into(), begun.number.into());
    }
    let ledger = scene.store.append(&record)?;
    let (effect, _) = outcome.map_err(|stop| stop.at(numbered.number))?;
    Ok(Done {
        number: numbered.number,
        title: description(numbered),
        ledger: ledger.number,
        after_restart: effect == Effect::AfterRestart || numbered.step.interrupts == Interruption::Restart,
        can_be_undone: !matches!(previous, Previous::Nothing { .. }),
    })
}

async fn is_standby(session: &Session) -> Result<bool, Stop> {
    let rows = session.ask("SELECT pg_catalog.pg_is_in_recovery() AS standby").await?;
    rows.first().and_then(|row| row.bool("standby")).map_err(|error| Stop::Surprise(error.to_string()))
}

/// What will take the step back, known before it is taken.
async fn previous(session: &Session, numbered: &Numbered) -> Result<Previous, Stop> {
    match &numbered.step.action {
        Action::Setting { name, .. } | Action::ResetSetting { name } => {
            Ok(Previous::Setting { name: name.clone(), previous: act::setting_entry(session, name).await? })
        }
        Action::HbaLine { line, old, new } => {
            let file = hba_path(session).await?;
            let (previous, written) =
                surus_pg::hba_file::with_line(&file, *line, old, new.as_deref()).map_err(Stop::Surprise)?;
            Ok(Previous::Hba { file, previous, written })
        }
        Action::Sql { .. } => Ok(match &numbered.step.undo {
            Undo::Sql { sql } => Previous::Sql { database: numbered.database.clone(), sql: sql.clone() },
            Undo::Never { why } => Previous::Nothing { why: why.clone() },
            Undo::PreImage => Previous::Nothing { why: "nothing was recorded".into() },
        }),
        Action::Manual { .. } => Err(Stop::Surprise("a step for a person is not taken by surus".into())),
    }
}

async fn hba_path(session: &Session) -> Result<String, Stop> {
    let rows = session.ask("SELECT pg_catalog.current_setting('hba_file') AS file").await?;
    rows.first().and_then(|row| row.text("file")).map_err(|error| Stop::Surprise(error.to_string()))
}

/// Acts; returns the effect and what takes it back.
async fn perform(session: &Session, numbered: &Numbered, previous: &Previous) -> Result<(Effect, Previous), Stop> {
    let effect = match (&numbered.step.action, previous) {
        (Action::Setting { name, value }, _) => act::set(session, name, Some(value)).await?,
        (Action::ResetSetting { name }, _) => act::set(session, name, None).await?,
        (Action::HbaLine { .. }, Previous::Hba { file, previous, written }) => {
            act::write_hba(session, file, previous, written).await?;
            Effect::InForce
        }
        (Action::Sql { sql, transaction, .. }, _) => {
            act::run(session, sql, *transaction).await?;
            Effect::InForce
        }
        (Action::HbaLine { .. } | Action::Manual { .. }, _) => {
            return Err(Stop::Surprise("the step cannot be taken".into()));
        }
    };
    Ok((effect, previous.clone()))
}

/// What the step does, as the ledger and the terminal show it.
pub fn description(numbered: &Numbered) -> String {
    match &numbered.step.action {
        Action::Setting { name, value } => act::alter_system(name, Some(value)),
        Action::ResetSetting { name } => act::alter_system(name, None),
        Action::Sql { sql, .. } => sql.clone(),
        Action::HbaLine { line, old, new: Some(new) } => {
            format!("pg_hba.conf line {line}: \"{old}\" becomes \"{new}\"")
        }
        Action::HbaLine { line, old, new: None } => format!("pg_hba.conf line {line}: \"{old}\" is commented out"),
        Action::Manual { text } => text.clone(),
    }
}

fn entry(
    scene: Scene<'_>,
    numbered: &Numbered,
    kind: &str,
    outcome: Outcome,
    previous: &Previous,
    steps: Vec<ProofStep>,
) -> Proof {
    let now = clock::now();
    Proof {
        kind: kind.into(),
        items: Vec::new(),
        cluster: scene.cluster.into(),
        subject: description(numbered),
        started_at: now,
        finished_at: now,
        outcome,
        measured: Vec::new(),
        steps,
        log_excerpt: format!("for {}", numbered.key),
        surus_version: env!("CARGO_PKG_VERSION").into(),
        expires_at: None,
        undo: Some(serde_json::json!({ "server": scene.reference, "previous": previous })),
    }
}
