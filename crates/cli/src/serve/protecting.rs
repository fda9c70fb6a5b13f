//! The backups of `surus serve`: when each is due, and what becomes of it.
//!
//! A backup runs as a process of its own: it may need much memory and time, and it must not end with a restart of the
//! server that watches. What is due is decided from what the repository holds, so that nothing is taken twice when
//! surus starts anew, and what was missed meanwhile is caught up.

use crate::{
    config::{BackupConfig, RepositoryConfig},
    repository,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::Stdio, sync::Arc, time::Duration};
use surus_backup::{catalogue, expire, manifest::BackupKind, schedule::LastBackups};
use surus_core::{clock, code};
use surus_observe::Observatory;
use surus_store::samples::{Event, SampleStore};
use tokio::{process::Command, sync::watch, task::JoinHandle};

/// How often is looked what is due.
const TICK: Duration = Duration::from_secs(30);
/// After a backup that failed, the next try.
const AGAIN_AFTER_MS: i64 = 15 * 60_000;
/// Of what a backup says, this much is kept for the log.
const SAID: usize = 2000;

/// What is to be protected.
#[derive(Debug, Clone)]
pub struct Plan {
    pub backups: Vec<BackupConfig>,
    pub repositories: Vec<RepositoryConfig>,
    /// The configuration file; the processes that take backups read it, too.
    pub config: Option<PathBuf>,
}

/// The task that takes backups. Dropping it ends it; a backup that is being taken goes on.
#[derive(Debug)]
pub struct Protecting {
    plan: watch::Sender<Plan>,
    task: JoinHandle<()>,
}

impl Protecting {
    /// Begins: what is due is taken at once.
    pub fn start(observatory: Arc<Observatory>, store: Arc<SampleStore>, plan: Plan) -> Self {
        let (plan, told) = watch::channel(plan);
        let worker = Worker { observatory, store, not_before: BTreeMap::new() };
        Self { plan, task: tokio::spawn(worker.work(told)) }
    }

    /// From now on it goes by this plan.
    pub fn reload(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Takes no further backup.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Protecting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    observatory: Arc<Observatory>,
    store: Arc<SampleStore>,
    /// After a failure: when each may be tried again.
    not_before: BTreeMap<(String, String), i64>,
}

impl Worker {
    async fn work(mut self, mut told: watch::Receiver<Plan>) {
        loop {
            let plan = told.borrow_and_update().clone();
            // One after the other: two backups at a time would only slow each other and the servers down.
            for backup in &plan.backups {
                self.turn(backup, &plan).await;
            }
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn turn(&mut self, backup: &BackupConfig, plan: &Plan) {
        let key = (backup.target.clone(), backup.repository.clone());
        if self.not_before.get(&key).is_some_and(|at| *at > clock::now_ms()) {
            return;
        }
        let Some(system) = self.system_of(&backup.target) else { return };
        let due = match self.due(backup, plan, system).await {
            Ok(due) => due,
            Err(why) => return self.failed(key, &why),
        };
        let Some(kind) = due else { return };
        tracing::info!(target = %backup.target, repository = %backup.repository, ?kind, "a backup begins");
        match run(backup, plan, kind).await {
            Ok(taken) => {
                self.not_before.remove(&key);
                let label = taken["backup"]["label"].as_str().unwrap_or_default().to_owned();
                tracing::info!(target = %backup.target, backup = %label, "a backup is complete");
                self.remember(&backup.target, format!("Backup {label} is complete"), taken).await;
                self.expire(backup, plan, system).await;
            }
            Err(why) => {
                let detail = json!({ "repository": backup.repository, "why": why });
                self.remember(&backup.target, "A backup failed".into(), detail).await;
                self.failed(key, &why);
            }
        }
    }

    fn failed(&mut self, key: (String, String), why: &str) {
        tracing::error!(code = code::BACKUP_ABORTED.id, target = %key.0, repository = %key.1, "no backup: {why}");
        self.not_before.insert(key, clock::now_ms() + AGAIN_AFTER_MS);
    }

    /// The system identifier of a target that is up.
    fn system_of(&self, name: &str) -> Option<u64> {
        let target = self.observatory.targets().into_iter().find(|target| target.name == name && target.up)?;
        target.system_identifier.as_deref()?.parse().ok()
    }

    async fn due(&self, backup: &BackupConfig, plan: &Plan, system: u64) -> Result<Option<BackupKind>, String> {
        let schedule = backup.schedule()?;
        let Some(place) = plan.repositories.iter().find(|one| one.name == backup.repository).cloned() else {
            return Err(format!("there is no repository {}", backup.repository));
        };
        let last = tokio::task::spawn_blocking(move || last_backups(&place, system)).await;
        let last = last.map_err(|_| "looking at the repository ended without a result".to_owned())??;
        Ok(schedule.due(last, clock::now()))
    }

    async fn expire(&self, backup: &BackupConfig, plan: &Plan, system: u64) {
        let Some(retention) = backup.retention() else { return };
        let Some(place) = plan.repositories.iter().find(|one| one.name == backup.repository).cloned() else { return };
        let expired = tokio::task::spawn_blocking(move || {
            let repo = repository::open_configured(&place)?;
            let cluster = repo.cluster(system);
            let (catalogue, plan) = expire::decide(&cluster, retention)?;
            Ok(expire::carry_out(&cluster, &catalogue, &plan, &surus_core::monitor::Silent)?)
        });
        match expired.await {
            Ok(Ok(expired)) => tracing::info!(
                target = %backup.target, backups = expired.backups.len(), segments = expired.segments, "expired"
            ),
            Ok(Err(failure)) => {
                let failure: crate::failure::Failure = failure;
                tracing::error!(code = failure.code.id, target = %backup.target, "nothing expired: {}", failure.message);
            }
            Err(_) => tracing::error!(code = code::BUG.id, "expiring ended without a result"),
        }
    }

    async fn remember(&self, target: &str, title: String, detail: Value) {
        let event = Event {
            at_ms: clock::now_ms(),
            target: target.to_owned(),
            kind: "backup".into(),
            title,
            detail,
            key: None,
        };
        let store = self.store.clone();
        let written = tokio::task::spawn_blocking(move || store.append_event(&event)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(code = error.code().id, "an event was not remembered: {error}");
        }
    }
}

/// When the last backups that count began; a repository that is not made yet has none.
fn last_backups(place: &RepositoryConfig, system: u64) -> Result<LastBackups, String> {
    let repo = match repository::open_configured(place) {
        Err(failure) if failure.code == code::REPO_ABSENT => return Ok(LastBackups::default()),
        other => other.map_err(|failure| failure.message)?,
    };
    let all = catalogue::backups(&repo.cluster(system)).map_err(|error| error.to_string())?;
    let newest =
        |full: bool| all.iter().filter(|one| !full || one.about.parent.is_none()).map(|one| one.about.started_at).max();
    Ok(LastBackups { full: newest(true), any: newest(false) })
}

/// Takes one as a process of its own; gives what it said about itself.
async fn run(backup: &BackupConfig, plan: &Plan, kind: BackupKind) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|error| format!("surus does not know where it is: {error}"))?;
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(config) = &plan.config {
        command.arg("--config").arg(config);
    }
    command.args(["backup", "run", "--format", "json", "--repo", &backup.repository]);
    command.arg(if kind == BackupKind::Full { "--full" } else { "--incremental" });
    let throttle = backup.throttle.map(|size| format!("{}kB", size.0.div_ceil(1024)));
    let jobs = backup.jobs.map(|jobs| jobs.to_string());
    let options = [
        ("--compress", &backup.compress),
        ("--jobs", &jobs),
        ("--throttle", &throttle),
        ("--before", &backup.before),
        ("--after", &backup.after),
    ];
    for (flag, value) in options {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    // By its name: a connection string may hold a password, and everybody can read a command line.
    let output = command.arg(&backup.target).output().await.map_err(|error| format!("it did not start: {error}"))?;
    if matches!(output.status.code(), Some(0 | 1)) {
        return serde_json::from_slice(&output.stdout).map_err(|error| format!("it said something odd: {error}"));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.trim().chars().take(SAID).collect();
    Err(if said.is_empty() { output.status.to_string() } else { said })
}
