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
use surus_backup::{
    Cluster, catalogue, expire,
    manifest::{About, BackupKind},
    protection,
    schedule::{LastBackups, is_believed},
};
use surus_core::{
    clock::{self, Deadline},
    code,
    protection::{Moments, Protection, Stretch},
};
use surus_observe::{Observatory, own::Protected};
use surus_prove::{
    engine::{Engine, Surus},
    window,
};
use surus_store::samples::{Event, SampleStore};
use tokio::{process::Command, sync::watch, task::JoinHandle};

/// How often is looked what is due.
const TICK: Duration = Duration::from_secs(5);
/// After a backup that failed, the next try.
const AGAIN_AFTER: Duration = Duration::from_secs(15 * 60);
/// How often a repository is looked at whole, in a bucket and in a folder: that lists all its WAL.
const LOOK_EVERY_MS: u64 = 5 * 60_000;
const LOOK_HERE_EVERY_MS: u64 = 60_000;
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
        let worker = Worker { observatory, store, known: BTreeMap::new() };
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
    /// By target and repository.
    known: BTreeMap<(String, String), Known>,
}

/// What is known of a target's backups in a repository.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// After a failure: when it may be tried again. By the monotonic clock: the other one may be set back.
    not_before: Option<Deadline>,
    last: LastBackups,
    looked_ms: i64,
}

impl Known {
    fn is_stale(&self, plan: &Plan, repository: &str) -> bool {
        let here = plan.repositories.iter().any(|one| one.name == repository && !one.place.contains("://"));
        clock::now_ms().abs_diff(self.looked_ms) > if here { LOOK_HERE_EVERY_MS } else { LOOK_EVERY_MS }
    }
}

impl Worker {
    async fn work(mut self, mut told: watch::Receiver<Plan>) {
        loop {
            let plan = told.borrow_and_update().clone();
            // One after the other: two backups at a time would only slow each other and the servers down.
            for backup in &plan.backups {
                self.turn(backup, &plan).await;
            }
            self.look_at_others(&plan).await;
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    async fn turn(&mut self, backup: &BackupConfig, plan: &Plan) {
        let key = (backup.target.clone(), backup.repository.clone());
        let known = self.known.entry(key.clone()).or_default();
        if known.not_before.is_some_and(|again| !again.passed()) {
            return;
        }
        let stale = known.is_stale(plan, &backup.repository);
        let due = |last| backup.schedule().map(|schedule| schedule.due(last, clock::now()));
        // As long as what is known says that nothing is due, a bucket is not asked every half minute.
        if !stale && due(known.last) == Ok(None) {
            return;
        }
        let Some(system) = self.system_of(&backup.target) else { return };
        match self.look(&key, plan, system).await {
            Ok(last) => self.known.insert(key.clone(), Known { last, looked_ms: clock::now_ms(), not_before: None }),
            Err(why) => return self.failed(key, &why),
        };
        let last = self.known.get(&key).map_or_else(LastBackups::default, |known| known.last);
        let kind = match due(last) {
            Ok(Some(kind)) => kind,
            Ok(None) => return,
            Err(why) => return self.failed(key, &why),
        };
        tracing::info!(target = %backup.target, repository = %backup.repository, ?kind, "a backup begins");
        match run(backup, plan, kind).await {
            Ok(taken) => {
                let label = taken["backup"]["label"].as_str().unwrap_or_default().to_owned();
                tracing::info!(target = %backup.target, backup = %label, "a backup is complete");
                self.remember(&backup.target, format!("Backup {label} is complete"), taken).await;
                self.expire(backup, plan, system).await;
                // What it left is looked at with the next tick.
                self.known.remove(&key);
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
        let known = self.known.entry(key).or_default();
        known.not_before = Some(Deadline::after(AGAIN_AFTER));
    }

    /// The system identifier of a target that is up.
    fn system_of(&self, name: &str) -> Option<u64> {
        let target = self.observatory.targets().into_iter().find(|target| target.name == name && target.up)?;
        target.system_identifier.as_deref()?.parse().ok()
    }

    /// Looks at repositories that surus takes no backups into: somebody else may.
    async fn look_at_others(&mut self, plan: &Plan) {
        let targets: Vec<String> = self.observatory.targets().iter().map(|target| target.name.clone()).collect();
        for target in targets {
            let Some(system) = self.system_of(&target) else { continue };
            for place in &plan.repositories {
                let key = (target.clone(), place.name.clone());
                let own = |backup: &BackupConfig| backup.target == key.0 && backup.repository == key.1;
                let known = self.known.get(&key).copied().unwrap_or_default();
                if plan.backups.iter().any(own) || !known.is_stale(plan, &place.name) {
                    continue;
                }
                let looked = self.look(&key, plan, system).await;
                if let Err(why) = &looked
                    && known.looked_ms == 0
                {
                    tracing::warn!(target = %key.0, repository = %key.1, "a repository cannot be read: {why}");
                }
                let last = looked.unwrap_or_default();
                self.known.insert(key, Known { last, looked_ms: clock::now_ms(), not_before: None });
            }
        }
    }

    /// Looks at what the repository holds: it becomes series, and says when the last backups began.
    async fn look(&self, key: &(String, String), plan: &Plan, system: u64) -> Result<LastBackups, String> {
        let (target, repository) = key.clone();
        let Some(place) = plan.repositories.iter().find(|one| one.name == repository).cloned() else {
            return Err(format!("there is no repository {repository}"));
        };
        let looked = tokio::task::spawn_blocking(move || look(&place, system)).await;
        let looked = looked.unwrap_or_else(|_| Err("looking at the repository ended without a result".to_owned()));
        let (last, protected) = match looked {
            Ok(Some(Seen { last, held: Ok((holds, moments)) })) => {
                (Ok(last), Protected { repository, holds: Some(holds), why: None, moments })
            }
            // Something is damaged: it is told, and further backups are taken.
            Ok(Some(Seen { last, held: Err(why) })) => {
                (Ok(last), Protected { repository, holds: None, why: Some(why), moments: Vec::new() })
            }
            Ok(None) => {
                let why = Some("nothing is there yet: the first backup makes the repository".to_owned());
                (Ok(LastBackups::default()), Protected { repository, holds: None, why, moments: Vec::new() })
            }
            Err(why) => (Err(why.clone()), Protected { repository, holds: None, why: Some(why), moments: Vec::new() }),
        };
        self.observatory.note_protected(&target, protected);
        last
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

/// What a look at a repository showed.
struct Seen {
    /// When the last backups that count began.
    last: LastBackups,
    /// What it holds; or what in it is damaged.
    held: Result<(Protection, Vec<Moments>), String>,
}

/// Looks; a repository that is not made yet holds nothing.
fn look(place: &RepositoryConfig, system: u64) -> Result<Option<Seen>, String> {
    let repo = match repository::open_configured(place) {
        Err(failure) if failure.code == code::REPO_ABSENT => return Ok(None),
        other => other.map_err(|failure| failure.message)?,
    };
    let cluster = repo.cluster(system);
    let said = |error: surus_backup::BackupError| error.to_string();
    let (all, _) = catalogue::readable(&cluster).map_err(said)?;
    let now = clock::now();
    let newest = |full: bool| {
        let counts = |one: &&About| (!full || one.parent.is_none()) && is_believed(one.started_at, now);
        all.iter().filter(counts).map(|one| one.started_at).max()
    };
    let last = LastBackups { full: newest(true), any: newest(false) };
    let held = match protection::look(&cluster) {
        Err(error) if error.code() == code::REPO_DAMAGED => Err(error.to_string()),
        other => {
            let holds = other.map_err(said)?;
            let moments = if holds.backups.is_empty() { Vec::new() } else { moments(cluster)? };
            Ok((holds, moments))
        }
    };
    Ok(Some(Seen { last, held }))
}

/// Which moments can be restored, as `surus prove window` says it.
fn moments(cluster: Cluster) -> Result<Vec<Moments>, String> {
    // Nothing is restored, so nothing is fetched either.
    let engine = Surus::new(cluster, Vec::new());
    let said = |error: surus_prove::ProveError| error.to_string();
    let window = window::look(&engine.survey().map_err(said)?, &engine.archive().map_err(said)?);
    let stretch = |one: window::Stretch| Stretch {
        from: one.from,
        to: one.to,
        from_time: one.from_time,
        to_time: one.to_time,
        backups: one.backups,
        why: one.why,
    };
    let line = |line: window::Line| Moments {
        timeline: line.timeline,
        parent: line.parent,
        switched_at: line.switched_at,
        stretches: line.stretches.into_iter().map(stretch).collect(),
    };
    Ok(window.lines.into_iter().map(line).collect())
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
