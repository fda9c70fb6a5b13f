//! The checks of `surus serve`: when each target's turn is, and what becomes of the reports.
//!
//! A run has the place of the second session with its target, so there are never more than two: the one that watches,
//! and one for the checks. Targets take turns, [`SIDE_BY_SIDE`] at a time.

use crate::{config::RepositoryConfig, failure::Failure, ledger, protection};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use surus_check::{
    options::{CheckConfig, Options},
    report::TargetReport,
    reports::{Checked, NoReport, Reports, turns},
    run::{self, Given},
};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    finding::Severity,
};
use surus_observe::{Observatory, Why, own};
use surus_pg::Facts;
use surus_store::{
    Store,
    samples::{Event, SampleStore},
};
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// Targets that are looked at at one time.
const SIDE_BY_SIDE: usize = 2;
/// After this a run asks nothing more.
const RUN_WITHIN: Duration = Duration::from_secs(100);
/// After this it is broken off.
const BROKEN_OFF_AFTER: Duration = Duration::from_secs(120);
/// What a run that was broken off may still have under way on the server ends by itself within this (its
/// `statement_timeout`, and some).
const DIES_DOWN: Duration = Duration::from_secs(6);
/// How long to wait for the second session.
const PATIENCE: Duration = Duration::from_secs(150);
/// After a run that came to nothing.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How often is looked whose turn it is.
const TICK: Duration = Duration::from_secs(1);
/// Findings of one run that become events of their own.
const EVENTS_AT_MOST: usize = 20;

/// What is to be checked, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// None: never.
    pub every: Option<Duration>,
    pub config: CheckConfig,
    /// Where backups are: the checks look at what they hold.
    pub repositories: Vec<RepositoryConfig>,
    /// Names of targets.
    pub targets: Vec<String>,
}

/// The task that runs the checks. Dropping it ends it.
#[derive(Debug)]
pub struct Checking {
    plan: watch::Sender<Plan>,
    task: JoinHandle<()>,
}

impl Checking {
    /// Begins: every target's first turn is as soon as it is up.
    pub fn start(
        observatory: Arc<Observatory>,
        store: Arc<SampleStore>,
        ledger: PathBuf,
        reports: Arc<Reports>,
        plan: Plan,
    ) -> Self {
        let (plan, told) = watch::channel(plan);
        let worker = Worker { observatory, store, ledger, reports, targets: BTreeMap::new() };
        Self { plan, task: tokio::spawn(worker.work(told)) }
    }

    /// From now on it goes by this plan.
    pub fn reload(&self, plan: Plan) {
        self.plan.send_replace(plan);
    }

    /// Breaks off what runs.
    pub fn stop(&self) {
        self.task.abort();
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a target.
#[derive(Default)]
struct Known {
    due_ms: i64,
    facts: Option<Facts>,
    /// Its last look, not yet compared with the other nodes of its cluster.
    look: Option<Checked>,
    /// As it stood when its findings were last told apart.
    told: Option<Arc<Checked>>,
}

struct Worker {
    observatory: Arc<Observatory>,
    store: Arc<SampleStore>,
    ledger: PathBuf,
    reports: Arc<Reports>,
    targets: BTreeMap<String, Known>,
}

/// What a run brought.
struct Brought {
    name: String,
    outcome: Result<(Checked, Facts), NoReport>,
}

impl Worker {
    async fn work(mut self, mut told: watch::Receiver<Plan>) {
        loop {
            let plan = told.borrow_and_update().clone();
            self.reports.set_off(plan.every.is_none());
            let names: BTreeSet<String> = plan.targets.iter().cloned().collect();
            self.reports.keep_only(&names);
            self.targets.retain(|name, _| names.contains(name));
            if let Some(every) = plan.every {
                let due = self.due(&names);
                if !due.is_empty() {
                    self.round(due, every, &plan).await;
                }
            }
            tokio::select! {
                changed = told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Whose turn it is, among those that are up. Of those that are not, the reason is kept.
    fn due(&mut self, names: &BTreeSet<String>) -> Vec<String> {
        let now_ms = clock::now_ms();
        let mut due = Vec::new();
        for target in self.observatory.targets().iter().filter(|target| names.contains(&target.name)) {
            if self.targets.entry(target.name.clone()).or_default().due_ms > now_ms {
                continue;
            }
            match &target.trouble {
                _ if target.up => due.push(target.name.clone()),
                Some(why) => self.reports.failed(&target.name, failed(why, now_ms)),
                None => {}
            }
        }
        due
    }

    /// One run of each of these targets. What checks know of other nodes comes first.
    async fn round(&mut self, due: Vec<String>, every: Duration, plan: &Plan) {
        let configured = plan.repositories.clone();
        let repositories = tokio::task::spawn_blocking(move || protection::look(&configured, None)).await;
        let options = Options {
            config: plan.config.clone(),
            time_limit: RUN_WITHIN,
            one_session: true,
            repositories: repositories.unwrap_or_default(),
            ..Options::default()
        };
        if self.targets.len() > 1 {
            self.gather(&due, &options).await;
        }
        let known: Arc<Vec<(String, Facts)>> = Arc::new(
            self.targets.iter().filter_map(|(name, known)| Some((name.clone(), known.facts.clone()?))).collect(),
        );
        let mut waiting = due.clone().into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < SIDE_BY_SIDE
                && let Some(name) = waiting.next()
            {
                running.spawn(look(self.observatory.clone(), name, known.clone(), options.clone()));
            }
            let Some(brought) = running.join_next().await else { break };
            match brought {
                Ok(brought) => self.brought(brought, every).await,
                Err(error) => tracing::error!(code = code::BUG.id, "a run of the checks broke off: {error}"),
            }
        }
        for name in due {
            self.tell_changes(&name).await;
        }
    }

    /// The facts of targets that were not looked at yet: nodes of one cluster are judged by each other's.
    async fn gather(&mut self, due: &[String], options: &Options) {
        let strangers = due.iter().filter(|name| self.targets.get(*name).is_none_or(|known| known.facts.is_none()));
        let mut waiting: Vec<String> = strangers.cloned().collect();
        let mut running = JoinSet::new();
        loop {
            while running.len() < SIDE_BY_SIDE
                && let Some(name) = waiting.pop()
            {
                let (observatory, options) = (self.observatory.clone(), options.clone());
                running.spawn(async move {
                    // What goes wrong here goes wrong again with the run, which says it.
                    let place = observatory.second_place(&name, "the checks", PATIENCE).await.ok()?;
                    let given = Given { name: name.clone(), target: Ok(place.target().clone()) };
                    let facts = run::facts_of(given, &options).await.ok()?;
                    drop(place);
                    Some((name, facts))
                });
            }
            let Some(gathered) = running.join_next().await else { return };
            if let Ok(Some((name, facts))) = gathered {
                self.targets.entry(name).or_default().facts = Some(facts);
            }
        }
    }

    async fn brought(&mut self, Brought { name, outcome }: Brought, every: Duration) {
        let after = |span: Duration| clock::now_ms() + i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 2);
        let known = self.targets.entry(name.clone()).or_default();
        match outcome {
            Ok((checked, facts)) => {
                known.due_ms = after(every);
                tracing::info!(
                    target = %name,
                    findings = checked.report.findings.len(),
                    unknown = checked.report.unknown.len(),
                    seconds = (checked.duration_ms / 100.0).round() / 10.0,
                    "checked"
                );
                (known.facts, known.look) = (Some(facts), Some(checked));
                self.publish(&name).await;
            }
            Err(why) => {
                known.due_ms = after(AGAIN_AFTER.min(every));
                if let NoReport::Failed { code, text, .. } = &why {
                    tracing::warn!(target = %name, code, "not checked: {text}");
                }
                self.reports.failed(&name, why);
            }
        }
    }

    /// Compares a new look with those at the other nodes of its cluster, records its proofs, and shows all of them.
    async fn publish(&mut self, name: &str) {
        let look = |known: &Known| known.look.clone();
        let Some(new) = self.targets.get(name).and_then(look) else { return };
        let cluster = new.report.cluster.clone();
        let mut nodes: Vec<(String, Checked)> = vec![(name.to_owned(), new)];
        for (other, known) in self.targets.iter_mut().filter(|(other, _)| *other != name) {
            if let Some(look) = known.look.as_mut().filter(|look| cluster.is_some() && look.report.cluster == cluster) {
                // They were recorded when it was new.
                look.report.proofs.clear();
                nodes.push((other.clone(), look.clone()));
            }
        }
        let mut settled: Vec<TargetReport> = nodes.iter().map(|(_, checked)| checked.report.clone()).collect();
        run::settle(&mut settled);
        let path = self.ledger.clone();
        let weighed = tokio::task::spawn_blocking(move || {
            let store = Store::open(&path).map_err(Failure::from);
            for report in &mut settled {
                if let Some(note) = ledger::weigh(report, store.as_ref()) {
                    tracing::error!(target = %report.name, "{note}");
                }
            }
            settled
        });
        let Ok(settled) = weighed.await else { return };
        for ((name, Checked { at_ms, duration_ms, .. }), report) in nodes.into_iter().zip(settled) {
            let count = |severity: Severity| {
                (severity.word(), report.findings.iter().filter(|finding| finding.severity == severity).count() as u64)
            };
            let findings = [Severity::Crit, Severity::Warn, Severity::Info].map(count).to_vec();
            let took = Duration::from_secs_f64(duration_ms.max(0.0) / 1000.0);
            self.observatory.note_checked(&name, own::Checked { at_ms, took, findings });
            self.reports.put(&name, Checked { at_ms, duration_ms, report });
        }
    }

    /// Findings that came and went since the run before become events; those of the first run do not.
    async fn tell_changes(&mut self, name: &str) {
        let (Some(now), Some(known)) = (self.reports.get(name), self.targets.get_mut(name)) else { return };
        let Some(before) = known.told.replace(now.clone()) else { return };
        let turns = turns(&before.report, &now.report);
        let event = |title: String, detail| Event {
            at_ms: now.at_ms,
            target: name.to_owned(),
            kind: "finding".to_owned(),
            title,
            detail,
            key: None,
        };
        let one = |turn: &surus_check::reports::Turn<'_>| {
            let (finding, what) = (turn.finding, if turn.appeared { "Found" } else { "No longer found" });
            let detail = json!({
                "id": finding.id, "key": finding.key, "severity": finding.severity.word(), "subject": finding.object,
                "database": finding.database, "appeared": turn.appeared,
            });
            event(format!("{what}: {}", finding.title), detail)
        };
        let mut events: Vec<Event> = turns.iter().take(EVENTS_AT_MOST).map(one).collect();
        if let Some(more) = turns.len().checked_sub(EVENTS_AT_MOST).filter(|more| *more > 0) {
            events.push(event(format!("{more} further findings came or went"), json!({ "count": more })));
        }
        let store = self.store.clone();
        let written = tokio::task::spawn_blocking(move || {
            for event in events {
                if let Err(error) = store.append_event(&event) {
                    tracing::error!(code = error.code().id, "an event was not remembered: {error}");
                }
            }
        });
        if let Err(error) = written.await {
            tracing::error!(code = code::BUG.id, "events were not remembered: {error}");
        }
    }
}

/// One run of one target.
async fn look(
    observatory: Arc<Observatory>,
    name: String,
    known: Arc<Vec<(String, Facts)>>,
    options: Options,
) -> Brought {
    let place = match observatory.second_place(&name, "the checks", PATIENCE).await {
        Ok(place) => place,
        Err(why) => return Brought { name, outcome: Err(failed(&why, clock::now_ms())) },
    };
    let (at_ms, watch) = (clock::now_ms(), Stopwatch::start());
    let given = Given { name: name.clone(), target: Ok(place.target().clone()) };
    let looked = tokio::time::timeout(BROKEN_OFF_AFTER, run::run_one(given, &known, &options)).await;
    let outcome = match looked {
        Ok(run::Looked { report, facts: Some(facts) }) => {
            Ok((Checked { at_ms, duration_ms: watch.elapsed_ms(), report }, facts))
        }
        Ok(run::Looked { report, facts: None }) => Err(match report.error {
            Some(error) => {
                NoReport::Failed { at_ms, code: Some(error.code), text: error.message, next: Some(error.next) }
            }
            None => failed(&Why::error(code::BUG, "the server was not reached, for no reason"), at_ms),
        }),
        Err(_) => {
            tokio::time::sleep(DIES_DOWN).await;
            let text = format!("the checks were broken off after {} s", BROKEN_OFF_AFTER.as_secs());
            Err(failed(&Why::error(code::QUERY_TIMEOUT, text), at_ms))
        }
    };
    drop(place);
    Brought { name, outcome }
}

fn failed(why: &Why, at_ms: i64) -> NoReport {
    NoReport::Failed { at_ms, code: why.code, text: why.text.clone(), next: why.next }
}
