//! Carrying out a plan: one step at a time, recorded before and after.

use super::{
    FixPlan, Numbered,
    act::{self, Effect, Patience, Place, Previous},
    error::{FixError, Stop},
    hba, setting, statement,
};
use surus_core::{
    clock::{self, Stopwatch},
    monitor::Monitor,
    plan::{Action, Interruption, Undo},
    proof::{Outcome, Proof, ProofStep},
};
use surus_pg::{Session, Target, hba_file::Edit};
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
    pub patience: Patience,
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Done {
    pub number: usize,
    pub title: String,
    /// The ledger's number; `surus undo` takes it.
    pub ledger: i64,
    /// It takes effect only after a restart.
    pub after_restart: bool,
    pub can_be_undone: bool,
    /// What the server said about it.
    pub warnings: Vec<String>,
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
    let number = numbered.number;
    let session = act::session(scene.target, numbered.database.as_deref()).await?;
    if session.in_recovery() {
        return Err(FixError::Standby);
    }
    let ready = Ready::of(&session, numbered).await.map_err(|stop| stop.before_acting().at(number, 0))?;
    let previous = ready.way_back(numbered);
    let begun = scene.store.append(&entry(scene, numbered, "change-begun", &previous))?;
    let (started_at, watch) = (clock::now(), Stopwatch::start());
    let outcome = perform(scene, &session, numbered, &ready).await;
    let step = ProofStep { what: description(numbered), result: result_of(&outcome), duration_ms: watch.elapsed_ms() };
    let record = Proof {
        started_at,
        outcome: if outcome.is_ok() { Outcome::Passed } else { Outcome::Failed },
        steps: vec![step],
        undo: Some(serde_json::json!({
            "server": scene.reference, "previous": previous, "begun": begun.number,
            "unsure": matches!(outcome, Err(Stop::Unsure(_))),
        })),
        ..entry(scene, numbered, "change", &previous)
    };
    let recorded = scene.store.append(&record);
    let ledger = recorded.as_ref().map_or(begun.number, |entry| entry.number);
    let (effect, warnings) = outcome.map_err(|stop| stop.at(number, ledger))?;
    recorded.map_err(|source| FixError::Unrecorded { number, ledger, source })?;
    Ok(Done {
        number,
        title: description(numbered),
        ledger,
        after_restart: effect == Effect::AfterRestart || numbered.step.interrupts == Interruption::Restart,
        can_be_undone: !matches!(previous, Previous::Nothing { .. }),
        warnings,
    })
}

/// What was found out before a step, so that it can be taken and taken back.
enum Ready {
    /// The entry in postgresql.auto.conf.
    Setting(Option<String>),
    Hba(Edit),
    Sql,
}

impl Ready {
    async fn of(session: &Session, numbered: &Numbered) -> Result<Self, Stop> {
        match &numbered.step.action {
            Action::Setting { name, .. } | Action::ResetSetting { name } => {
                Ok(Ready::Setting(setting::ready(session, name).await?))
            }
            Action::HbaLine { line, old, new } => {
                Ok(Ready::Hba(hba::prepare(session, *line, old, new.as_deref()).await?))
            }
            Action::Sql { .. } => Ok(Ready::Sql),
            Action::Manual { .. } => Err(Stop::Surprise("a step for a person is not taken by surus".into())),
        }
    }

    fn way_back(&self, numbered: &Numbered) -> Previous {
        match (self, &numbered.step.action, &numbered.step.undo) {
            (Ready::Setting(entry), action, _) => {
                let (name, written) = setting_of(action);
                Previous::Setting {
                    name: name.to_owned(),
                    previous: entry.clone(),
                    written: written.map(str::to_owned),
                }
            }
            (Ready::Hba(edit), ..) => hba::way_back(edit),
            (Ready::Sql, _, Undo::Sql { sql }) => {
                Previous::Sql { database: numbered.database.clone(), sql: sql.clone() }
            }
            (Ready::Sql, _, Undo::Never { why }) => Previous::Nothing { why: why.clone() },
            (Ready::Sql, _, Undo::PreImage) => Previous::Nothing { why: "nothing was recorded".into() },
        }
    }
}

/// The setting that an action writes, and its value.
fn setting_of(action: &Action) -> (&str, Option<&str>) {
    match action {
        Action::Setting { name, value } => (name, Some(value)),
        Action::ResetSetting { name } => (name, None),
        _ => ("", None),
    }
}

/// Acts; tells when it takes effect and what the server warned of.
async fn perform(
    scene: Scene<'_>,
    session: &Session,
    numbered: &Numbered,
    ready: &Ready,
) -> Result<(Effect, Vec<String>), Stop> {
    match (&numbered.step.action, ready) {
        (Action::Sql { sql, transaction, .. }, _) => {
            let place = Place { session, target: scene.target, database: numbered.database.as_deref() };
            let warnings = statement::run(place, sql, *transaction, scene.patience).await?;
            Ok((Effect::InForce, warnings))
        }
        (action, Ready::Setting(entry)) => {
            let (name, value) = setting_of(action);
            let effect = setting::write(session, name, value, entry.as_deref()).await?;
            Ok((effect, Vec::new()))
        }
        (_, Ready::Hba(edit)) => {
            hba::write(session, scene.target, edit).await?;
            Ok((Effect::InForce, Vec::new()))
        }
        (_, Ready::Sql) => Err(Stop::Surprise("the step cannot be taken".into())),
    }
}

fn result_of(outcome: &Result<(Effect, Vec<String>), Stop>) -> String {
    match outcome {
        Ok((Effect::AfterRestart, _)) => "done; takes effect after a restart".into(),
        Ok((Effect::InForce, warnings)) if warnings.is_empty() => "done".into(),
        Ok((Effect::InForce, warnings)) => format!("done; the server warned: {}", warnings.join("; ")),
        Err(stop) => stop.text().to_owned(),
    }
}

/// What the step does, as the ledger and the terminal show it.
pub fn description(numbered: &Numbered) -> String {
    match &numbered.step.action {
        Action::Setting { name, value } => setting::alter_system(name, Some(value)),
        Action::ResetSetting { name } => setting::alter_system(name, None),
        Action::Sql { sql, .. } => sql.clone(),
        Action::HbaLine { line, old, new: Some(new) } => {
            format!("pg_hba.conf line {line}: \"{old}\" becomes \"{new}\"")
        }
        Action::HbaLine { line, old, new: None } => format!("pg_hba.conf line {line}: \"{old}\" is commented out"),
        Action::Manual { text } => text.clone(),
    }
}

fn entry(scene: Scene<'_>, numbered: &Numbered, kind: &str, previous: &Previous) -> Proof {
    let now = clock::now();
    Proof {
        kind: kind.into(),
        items: Vec::new(),
        cluster: scene.cluster.into(),
        subject: description(numbered),
        started_at: now,
        finished_at: now,
        outcome: Outcome::Passed,
        measured: Vec::new(),
        steps: Vec::new(),
        log_excerpt: format!("for {}", numbered.key),
        surus_version: env!("CARGO_PKG_VERSION").into(),
        expires_at: None,
        undo: Some(serde_json::json!({ "server": scene.reference, "previous": previous })),
    }
}
