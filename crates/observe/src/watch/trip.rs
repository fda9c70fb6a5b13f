//! The second session: through the other databases for details, and through all of them for what is read seldom.

use super::{
    Watch,
    catalog::{Peek, Peeked},
    entering,
    sampling::{Brought, EXTENSION, Errand},
};
use crate::{
    asking::{self, Failed, Place, Ran},
    collector::{Collector, Scope, Tier},
    gate::{self, Extensions},
    why::Why,
};
use std::{sync::Arc, time::Duration};
use surus_core::clock;
use surus_pg::{Facts, Target};
use tokio::{sync::mpsc, task::JoinHandle};

/// What the target is missing while somebody else has the second session.
const SECOND: &str = "second session";

/// A trip under way.
pub(super) struct Trip {
    task: JoinHandle<()>,
    seen: mpsc::Receiver<Seen>,
    /// Nobody wants to know any more what it sees.
    broken_off: bool,
    /// The slow tier is part of it.
    slow: bool,
}

/// What to run in a database.
struct Stop {
    database: Arc<str>,
    tasks: Vec<Task>,
    errand: Option<Errand>,
    peek: Option<Peek>,
}

struct Task {
    collector: &'static Collector,
    at_ms: i64,
}

/// What a database said.
pub(super) struct Seen {
    pub database: Arc<str>,
    pub rans: Vec<Ran>,
    /// None when the database was not entered.
    pub extensions: Option<Extensions>,
    pub brought: Option<Brought>,
    pub peeked: Option<Peeked>,
    /// The scheduled time of the detail cycle, when it was one.
    pub detail_ms: Option<i64>,
}

impl Trip {
    /// Lets it end after the query that it is at. It counts until its session is closed.
    pub(super) fn break_off(&mut self) {
        self.broken_off = true;
        self.seen.close();
    }

    /// As [`Trip::break_off`], and waits for the end; not for ever.
    pub(super) async fn end(mut self, patience: Duration) {
        self.break_off();
        if tokio::time::timeout(patience, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }

    async fn next(&mut self) -> Option<Seen> {
        while let Some(seen) = self.seen.recv().await {
            if !self.broken_off {
                return Some(seen);
            }
        }
        // The session is closed when the task has ended, and not before.
        let _ended = (&mut self.task).await;
        None
    }
}

/// What the trip says next, none when it has ended. Without a trip it waits for ever.
pub(super) async fn next(trip: &mut Option<Trip>) -> Option<Seen> {
    match trip {
        Some(running) => running.next().await,
        None => std::future::pending().await,
    }
}

struct Traveller {
    target: Target,
    facts: Arc<Facts>,
    statement_timeout: Duration,
    connect_timeout: Duration,
}

impl Watch {
    /// Begins a trip for what is due, unless the last one is still under way or somebody else has the second session.
    pub(super) fn set_out(&mut self, detail_ms: Option<i64>, slow_ms: Option<i64>) {
        let Some(known) = &self.known else { return };
        let facts = known.facts.clone();
        if self.trip.is_some() {
            self.skipped += 1;
            // The next turn of the slow tier would be long in coming.
            self.slow_missed |= slow_ms.is_some();
            return;
        }
        let held = match self.beside.second.try_take("trips through the databases") {
            Ok(held) => held,
            Err(why) => {
                self.skipped += 1;
                self.slow_missed |= slow_ms.is_some();
                self.missing.insert(SECOND, why);
                return;
            }
        };
        self.missing.remove(SECOND);
        if slow_ms.is_none() && std::mem::take(&mut self.slow_missed) {
            self.grids.slow.hasten(clock::now_ms());
        }
        let stops = self.stops(&facts, detail_ms, slow_ms);
        if stops.is_empty() {
            return;
        }
        let traveller = Traveller {
            target: self.target.clone(),
            facts,
            statement_timeout: self.settings.statement_timeout,
            connect_timeout: self.settings.connect_timeout,
        };
        let (tell, seen) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            for stop in stops {
                let seen = traveller.visit(stop, detail_ms, || tell.is_closed()).await;
                if tell.send(seen).await.is_err() {
                    break;
                }
            }
            drop(held);
        });
        self.trip = Some(Trip { task, seen, broken_off: false, slow: slow_ms.is_some() });
    }

    fn stops(&mut self, facts: &Arc<Facts>, detail_ms: Option<i64>, slow_ms: Option<i64>) -> Vec<Stop> {
        let own = facts.database.as_str();
        let mut stops = Vec::new();
        for database in self.databases(facts) {
            let mut tasks = Vec::new();
            for collector in self.settings.collectors {
                let at_ms = match (collector.tier, collector.scope) {
                    (Tier::Slow, Scope::Instance) if *database == *own => slow_ms,
                    (Tier::Slow, Scope::Database) => slow_ms,
                    (_, Scope::Database) if *database != *own => detail_ms,
                    _ => None,
                };
                let Some(at_ms) = at_ms else { continue };
                let place = (collector.scope == Scope::Database).then_some(&database);
                if self.runs.of(collector, place).allowed(at_ms) {
                    tasks.push(Task { collector, at_ms });
                }
            }
            let errand = self.errand_in(&database);
            let peek = detail_ms.filter(|_| *database != *own).and_then(|at_ms| self.peek(&database, at_ms));
            if !tasks.is_empty() || errand.is_some() || peek.is_some() {
                stops.push(Stop { database, tasks, errand, peek });
            }
        }
        stops
    }

    /// What else is to be done in a database: statements are read where the extension is, if that is not here.
    fn errand_in(&mut self, database: &Arc<str>) -> Option<Errand> {
        self.extensions.get(database).filter(|all| all.contains_key(EXTENSION))?;
        let at_ms = self.errand.take()?;
        Some(Errand { at_ms, wanted: std::mem::take(&mut self.wanted), at_most: self.settings.statements_at_most })
    }

    /// A database has answered, or the trip has ended.
    pub(super) async fn came_by(&mut self, seen: Option<Seen>) {
        let Some(seen) = seen else {
            if self.trip.take().is_some_and(|trip| trip.slow) {
                self.write_slow_once();
            }
            if std::mem::take(&mut self.slow_missed) {
                self.grids.slow.hasten(clock::now_ms());
            }
            self.show();
            return;
        };
        let collectors = self.settings.collectors;
        for ran in seen.rans {
            let Some(collector) = collectors.iter().find(|collector| collector.name == ran.collector) else { continue };
            let database = ran.database.clone();
            // That this session ended says nothing about the first one, which will notice for itself.
            let _closed = self.runs.of(collector, database.as_ref()).note(ran);
        }
        if let Some(extensions) = seen.extensions {
            self.extensions_of(&seen.database, extensions);
        }
        if let Some(brought) = seen.brought {
            self.statements_came(brought).await;
        }
        if let Some(peeked) = seen.peeked {
            let _closed = self.peeked(&seen.database, peeked);
        }
        if let Some(at_ms) = seen.detail_ms {
            self.write_detail_of(&seen.database, at_ms);
        }
        self.show();
    }
}

impl Traveller {
    /// Opens a session, runs everything, closes it.
    async fn visit(&self, stop: Stop, detail_ms: Option<i64>, broken_off: impl Fn() -> bool) -> Seen {
        let Stop { database, tasks, errand, peek } = stop;
        let target = self.target.with_database(&database);
        let opening = entering::open(&target, self.statement_timeout);
        let opened = tokio::time::timeout(self.connect_timeout, opening).await.unwrap_or_else(|_| {
            let text =
                format!("{} did not let surus in within {} s", target.label(), self.connect_timeout.as_secs_f64());
            Err(Why::error(surus_core::code::CONNECT_TIMEOUT, text))
        });
        let session = match opened {
            Ok(session) => session,
            Err(why) => return not_seen(database, &tasks, detail_ms, &why),
        };
        let extensions = match entering::extensions(&session, self.statement_timeout).await {
            Ok(extensions) => extensions,
            Err(why) => return not_seen(database, &tasks, detail_ms, &why),
        };
        let place = Place {
            session: &session,
            facts: &self.facts,
            database: &database,
            statement_timeout: self.statement_timeout,
        };
        let mut rans = Vec::with_capacity(tasks.len());
        for task in tasks.iter().take_while(|_| !broken_off()) {
            rans.push(one(&place, task, &database, &extensions).await);
        }
        let brought = match errand {
            Some(errand) if !broken_off() => Some(errand.run(&session, self.statement_timeout).await),
            _ => None,
        };
        let peeked = match peek {
            Some(peek) if !broken_off() => Some(peek.run(&session, self.statement_timeout).await),
            _ => None,
        };
        // Two sessions are the limit, and the next database takes one.
        session.close().await;
        Seen { database, rans, extensions: Some(extensions), brought, peeked, detail_ms }
    }
}

async fn one(place: &Place<'_>, task: &Task, database: &Arc<str>, extensions: &Extensions) -> Ran {
    let of_database = (task.collector.scope == Scope::Database).then(|| database.clone());
    match gate::open(task.collector, place.facts, extensions) {
        Ok(sql) => asking::run(place, task.collector, &sql, task.at_ms, of_database).await,
        Err(why) => not_run(task, of_database, Failed::Absent(why)),
    }
}

fn not_run(task: &Task, database: Option<Arc<str>>, failed: Failed) -> Ran {
    let Task { collector, at_ms } = *task;
    Ran { collector: collector.name, database, at_ms, took: Duration::ZERO, rows: 0, told: Err(failed) }
}

fn not_seen(database: Arc<str>, tasks: &[Task], detail_ms: Option<i64>, why: &Why) -> Seen {
    let of = |task: &Task| (task.collector.scope == Scope::Database).then(|| database.clone());
    let rans = tasks.iter().map(|task| not_run(task, of(task), Failed::Refused(why.clone()))).collect();
    Seen { database, rans, extensions: None, brought: None, peeked: None, detail_ms }
}
