//! The restore drills of `surus serve`, and what the ledger says of them as series.
//!
//! A drill runs as a process of its own, as a backup does: it needs its own priority, and must not end with a restart
//! of the server that watches. When the next one is due is decided from the ledger, so that nothing is drilled twice
//! when surus starts anew, and a drill that somebody ran by hand counts.

use crate::{
    config::{BackupConfig, DrillConfig, RepositoryConfig},
    repository,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use surus_core::{clock, code, proof::Proof};
use surus_observe::Observatory;
use surus_prove::drill;
use surus_store::{
    Filter, Store,
    samples::{Event, SampleStore},
};
use tokio::{process::Command, sync::watch, task::JoinHandle};

/// How often is looked what is due.
const TICK: Duration = Duration::from_secs(15);
/// After a drill that could not be run.
const AGAIN_AFTER_MS: i64 = 15 * 60_000;
/// How often is looked whether the first backup is there.
const LOOK_EVERY_MS: i64 = 20_000;
/// Of the ledger, this much is looked through for the newest proofs.
const ENTRIES: u32 = 300;
/// Of what a drill says, this much is kept for the log.
const SAID: usize = 2000;

/// What is to be drilled.
#[derive(Debug, Clone)]
pub struct Plan {
    pub drills: Vec<DrillConfig>,
    pub backups: Vec<BackupConfig>,
    pub repositories: Vec<RepositoryConfig>,
    /// Every target's name.
    pub targets: Vec<String>,
    /// The configuration file; the processes read it, too.
    pub config: Option<PathBuf>,
    /// Where surus keeps its own files.
    pub data_dir: PathBuf,
}

/// The task that drills. Dropping it ends it; a drill under way goes on, and writes its proof.
#[derive(Debug)]
pub struct Drilling {
    plan: watch::Sender<Plan>,
    task: JoinHandle<()>,
}

impl Drilling {
    /// Begins.
    pub fn start(observatory: Arc<Observatory>, store: Arc<SampleStore>, ledger: PathBuf, plan: Plan) -> Self {
        let (plan, told) = watch::channel(plan);
        let worker = Worker { observatory, store, ledger, since: clock::now(), not_before_ms: BTreeMap::new() };
        Self { plan, task: tokio::spawn(worker.work(told)) }
    }

    /// From now on it goes by this plan.
    pub fn reload(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Begins no further drill.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Drilling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    observatory: Arc<Observatory>,
    store: Arc<SampleStore>,
    ledger: PathBuf,
    /// Since when surus watches.
    since: Timestamp,
    /// After a failure, by the drill's number.
    not_before_ms: BTreeMap<usize, i64>,
}

impl Worker {
    async fn work(mut self, mut told: watch::Receiver<Plan>) {
        loop {
            let plan = told.borrow_and_update().clone();
            for target in &plan.targets {
                self.show(target).await;
            }
            // One after the other: two at a time would only slow each other and the machine down.
            for number in 0..plan.drills.len() {
                self.turn(number, &plan).await;
            }
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// The newest proofs of a target become series.
    async fn show(&self, target: &str) -> Vec<Proof> {
        let Some(system) = self.system_of(target) else { return Vec::new() };
        let ledger = self.ledger.clone();
        let newest = tokio::task::spawn_blocking(move || newest(&ledger, &system)).await.unwrap_or_default();
        self.observatory.note_proofs(target, newest.clone());
        newest
    }

    async fn turn(&mut self, number: usize, plan: &Plan) {
        let drill = &plan.drills[number];
        if self.not_before_ms.get(&number).is_some_and(|moment| *moment > clock::now_ms()) {
            return;
        }
        let Some(system) = self.system_of(&drill.target) else { return };
        let proofs = self.show(&drill.target).await;
        // Drills from other places count for those.
        let last = proofs.iter().filter(|proof| proof.kind == drill::KIND).map(|proof| proof.finished_at).max();
        match drill.next(last, self.since) {
            Ok(Some(due)) if due <= clock::now() => {}
            Ok(_) => return,
            Err(why) => return self.failed(number, drill, &why),
        }
        if drill.arguments.is_empty() && !self.has_backup(drill, plan, &system).await {
            // Nobody is to be woken because the first backup is still being taken; that there is none is for the
            // checks to say.
            self.not_before_ms.insert(number, clock::now_ms() + LOOK_EVERY_MS);
            return;
        }
        tracing::info!(target = %drill.target, "a restore drill begins");
        match run(drill, plan, &system).await {
            Ok(told) => {
                let summary = told["summary"].as_str().unwrap_or_default().to_owned();
                let passed = told["outcome"] == "passed";
                if passed {
                    tracing::info!(target = %drill.target, "a restore drill passed: {summary}");
                } else {
                    let code = code::PROVE_FAILED.id;
                    tracing::error!(code, target = %drill.target, "a restore drill failed: {summary}");
                }
                let title = if passed { "A restore drill passed" } else { "A restore drill failed" };
                let detail = json!({ "summary": summary, "ledger": told["ledger"], "passed": passed });
                self.remember(&drill.target, title, detail).await;
                self.show(&drill.target).await;
            }
            Err(why) => {
                self.remember(&drill.target, "A restore drill could not be run", json!({ "why": why })).await;
                self.failed(number, drill, &why);
            }
        }
    }

    /// Is there a backup, or a trouble that the drill itself should tell of?
    async fn has_backup(&self, drill: &DrillConfig, plan: &Plan, system: &str) -> bool {
        let of_target = || plan.backups.iter().find(|one| one.target == drill.target).map(|one| &one.repository);
        let name = drill.repository.as_ref().or_else(of_target);
        let place = name.and_then(|name| plan.repositories.iter().find(|one| one.name == *name)).cloned();
        let (Some(place), Ok(system)) = (place, system.parse()) else { return true };
        let looked = tokio::task::spawn_blocking(move || match repository::open_configured(&place) {
            Ok(repo) => match surus_backup::catalogue::readable(&repo.cluster(system)) {
                Ok((good, damaged)) => !good.is_empty() || !damaged.is_empty(),
                Err(_) => true,
            },
            Err(failure) => failure.code != code::REPO_ABSENT,
        });
        looked.await.unwrap_or(true)
    }

    fn failed(&mut self, number: usize, drill: &DrillConfig, why: &str) {
        tracing::error!(code = code::PROVE_FAILED.id, target = %drill.target, "no restore drill: {why}");
        self.not_before_ms.insert(number, clock::now_ms() + AGAIN_AFTER_MS);
    }

    /// The system identifier of a target that is known; it need not be up for a drill.
    fn system_of(&self, name: &str) -> Option<String> {
        let target = self.observatory.targets().into_iter().find(|target| target.name == name)?;
        target.system_identifier.clone()
    }

    async fn remember(&self, target: &str, title: &str, detail: Value) {
        let (target, title) = (target.to_owned(), title.to_owned());
        let event = Event { at_ms: clock::now_ms(), target, kind: "drill".into(), title, detail, key: None };
        let store = self.store.clone();
        let written = tokio::task::spawn_blocking(move || store.append_event(&event)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(code = error.code().id, "an event was not remembered: {error}");
        }
    }
}

/// The newest proof of each kind and subject of a cluster; none where there is no ledger yet.
fn newest(ledger: &std::path::Path, cluster: &str) -> Vec<Proof> {
    let Ok(store) = Store::open_read_only(ledger) else { return Vec::new() };
    let filter = Filter { cluster: Some(cluster.to_owned()), limit: Some(ENTRIES), ..Filter::default() };
    // What is wrong with the ledger is told by those who write to it.
    let entries = store.entries(&filter).unwrap_or_default();
    let mut newest = BTreeMap::new();
    for proof in entries.into_iter().map(|entry| entry.proof).filter(|proof| !proof.items.is_empty()) {
        newest.insert((proof.kind.clone(), proof.subject.clone()), proof);
    }
    newest.into_values().collect()
}

/// Runs one as a process of its own; gives what it said about itself.
async fn run(drill: &DrillConfig, plan: &Plan, system: &str) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| format!("surus does not know where it is: {error}"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(config) = &plan.config {
        command.arg("--config").arg(config);
    }
    command.arg("--data-dir").arg(&plan.data_dir);
    command.args(["prove", "restore", &drill.target, "--format", "json", "--target", &drill.to]);
    if let Some(repository) = &drill.repository {
        command.args(["--repo", repository]);
    }
    if drill.arguments.is_empty() {
        command.args(["--cluster", system]);
    }
    let output = command.args(&drill.arguments).output().await.map_err(|error| format!("it did not start: {error}"))?;
    if matches!(output.status.code(), Some(0 | 1)) {
        return serde_json::from_slice(&output.stdout).map_err(|error| format!("it said something odd: {error}"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID).collect();
    Err(if said.is_empty() { output.status.to_string() } else { said })
}
