//! One target: a task that keeps a session with it, runs what is due, and shows and hands over what it learned.
//!
//! A long-lived session in the database of the connection string takes the activity samples, the counters and the
//! details. A second one is opened for a trip through the other databases and for the slow tier, and closed at its
//! end: there are never more than two. What is due while the cycle before is still running is skipped and counted.

mod catalog;
mod collecting;
mod entering;
mod heartbeat;
mod noticing;
mod runs;
mod sampling;
mod showing;
mod trip;

use crate::{
    activity::Average,
    blocking::Blocking,
    desk::Desk,
    gate::Extensions,
    own::{Checked, Protected},
    schedule::Grid,
    schema,
    second::Second,
    settings::{Settings, Watched},
    snapshot::{Answer, TargetNow},
    statements::{Book, Shape},
    vacuums::Vacuums,
    why::Why,
    writing::Writing,
};
pub(crate) use entering::open as enter_politely;
use entering::{Entered, Known};
use runs::Runs;
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};
use surus_core::{clock, proof::Proof};
use surus_pg::{Session, Target};
use tokio::{sync::watch, task::JoinHandle};
use trip::Trip;

/// Where a target's newest state is shown.
#[derive(Debug)]
pub(crate) struct Shown(RwLock<Arc<TargetNow>>);

impl Shown {
    pub(crate) fn new(now: TargetNow) -> Self {
        Self(RwLock::new(Arc::new(now)))
    }

    pub(crate) fn get(&self) -> Arc<TargetNow> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, now: TargetNow) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
    }
}

/// What happens on a target beside watching it: who has the second session, and what the checks cost. It outlives the
/// task that watches.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub second: Second,
    checked: Mutex<Option<Checked>>,
    /// By the repository's name.
    protected: Mutex<Vec<Protected>>,
    /// The newest of each kind and subject.
    proofs: Mutex<Vec<Proof>>,
}

impl Beside {
    pub(crate) fn note_checked(&self, checked: Checked) {
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
    }

    pub(crate) fn note_protected(&self, protected: Protected) {
        let mut all = self.protected.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.repository != protected.repository);
        all.push(protected);
        all.sort_by(|one, other| one.repository.cmp(&other.repository));
    }

    pub(crate) fn note_proofs(&self, proofs: Vec<Proof>) {
        *self.proofs.lock().unwrap_or_else(PoisonError::into_inner) = proofs;
    }

    fn proofs(&self) -> Vec<Proof> {
        self.proofs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn protected(&self) -> Vec<Protected> {
        self.protected.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn checked(&self) -> Option<Checked> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// When what is due.
struct Grids {
    activity: Grid,
    statements: Grid,
    counters: Grid,
    detail: Grid,
    slow: Grid,
    repeat: Grid,
    /// Where one is wished for.
    heartbeat: Option<Grid>,
}

impl Grids {
    fn new(settings: &Settings, watched: &Watched, now_ms: i64) -> Self {
        let grid = |every: Duration| Grid::new(every, &watched.name, now_ms);
        Self {
            activity: grid(settings.activity),
            statements: grid(settings.statements),
            counters: grid(settings.counters),
            detail: grid(settings.detail),
            slow: grid(settings.slow),
            repeat: grid(settings.repeat),
            heartbeat: watched.heartbeat.map(grid),
        }
    }

    /// What needs a session is due as soon as there is one.
    fn hasten(&mut self, now_ms: i64) {
        self.counters.hasten(now_ms);
        self.detail.hasten(now_ms);
        self.slow.hasten(now_ms);
        self.statements.hasten(now_ms);
    }
}

/// Is the target there?
struct Standing {
    up: bool,
    since_ms: i64,
    trouble: Option<Why>,
    /// Attempts to connect that failed in a row.
    attempts: u32,
    retry_at_ms: i64,
}

pub(crate) struct Watch {
    watched: Watched,
    target: Target,
    settings: Arc<Settings>,
    shown: Arc<Shown>,
    beside: Arc<Beside>,
    writing: Writing,
    grids: Grids,
    standing: Standing,
    session: Option<Session>,
    known: Option<Known>,
    connecting: Option<JoinHandle<Result<Entered, Why>>>,
    trip: Option<Trip>,
    /// The slow tier was due while the trip before was under way.
    slow_missed: bool,
    runs: Runs,
    heart: heartbeat::Heart,
    skipped: u64,
    /// Cycles of the counters' tier so far, also those that found nobody.
    cycles: u64,
    /// `up`, `pg_up` and `surus_*` of the last cycle.
    own: Option<Arc<Answer>>,
    /// What the target as a whole is missing, by what it is about.
    missing: BTreeMap<&'static str, Why>,
    /// It was reached once.
    known_before: bool,
    average: Average,
    blocking: Blocking,
    vacuums: Vacuums,
    /// What tables there were, by database.
    schemas: BTreeMap<Arc<str>, schema::Book>,
    book: Book,
    shape: Option<Shape>,
    /// Statements are to be read in another database, for the cycle of this time.
    errand: Option<i64>,
    /// Statements whose texts shall be brought from there.
    wanted: Vec<i64>,
    /// Statements whose text is known.
    texts: HashSet<i64>,
    /// Extensions by database.
    extensions: BTreeMap<Arc<str>, Extensions>,
    /// Since when statistics are counted, by what they are of.
    resets: BTreeMap<String, String>,
}

impl Watch {
    pub(crate) fn new(
        watched: Watched,
        target: Target,
        settings: Arc<Settings>,
        desk: Desk,
        shown: Arc<Shown>,
        beside: Arc<Beside>,
    ) -> Self {
        let now_ms = clock::now_ms();
        Self {
            writing: Writing::new(desk, &watched),
            grids: Grids::new(&settings, &watched, now_ms),
            runs: Runs::new(&settings),
            watched,
            target,
            settings,
            shown,
            beside,
            standing: Standing { up: false, since_ms: now_ms, trouble: None, attempts: 0, retry_at_ms: now_ms },
            session: None,
            known: None,
            connecting: None,
            trip: None,
            slow_missed: false,
            heart: heartbeat::Heart::default(),
            skipped: 0,
            cycles: 0,
            own: None,
            missing: BTreeMap::new(),
            known_before: false,
            average: Average::default(),
            blocking: Blocking::default(),
            vacuums: Vacuums::default(),
            schemas: BTreeMap::new(),
            book: Book::default(),
            shape: None,
            errand: None,
            wanted: Vec::new(),
            texts: HashSet::new(),
            extensions: BTreeMap::new(),
            resets: BTreeMap::new(),
        }
    }

    /// Watches until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            self.all_that_is_due(&stop).await;
            let pause = self.pause();
            tokio::select! {
                _ = stop.changed() => {}
                entered = joined(&mut self.connecting) => self.entered(entered),
                seen = trip::next(&mut self.trip) => self.came_by(seen).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.leave().await;
    }

    /// Runs what is due now, the most frequent first.
    async fn all_that_is_due(&mut self, stop: &watch::Receiver<bool>) {
        self.connect_if_due();
        self.activity_if_due().await;
        if let Some(due) = self.grids.counters.take(clock::now_ms()) {
            self.skipped += due.skipped;
            self.counters(due.at_ms).await;
        }
        if self.session.is_none() || *stop.borrow() {
            return;
        }
        let now_ms = clock::now_ms();
        let detail = self.grids.detail.take(now_ms);
        let slow = self.grids.slow.take(now_ms);
        if detail.is_some() || slow.is_some() {
            self.skipped += detail.map_or(0, |due| due.skipped) + slow.map_or(0, |due| due.skipped);
            self.set_out(detail.map(|due| due.at_ms), slow.map(|due| due.at_ms));
        }
        if let Some(due) = detail {
            self.look_around(due.at_ms).await;
            self.peek_here(due.at_ms).await;
            self.detail(due.at_ms).await;
        }
        if let Some(due) = slow {
            self.look_again(due.at_ms).await;
        }
        if let Some(due) = self.grids.statements.take(clock::now_ms()) {
            self.skipped += due.skipped;
            self.statements(due.at_ms).await;
        }
        if let Some(due) = self.grids.repeat.take(clock::now_ms()) {
            self.write_slow(due.at_ms);
        }
    }

    /// How long nothing is due.
    fn pause(&self) -> Duration {
        let mut next = self.grids.counters.next_ms();
        if self.session.is_some() {
            for grid in
                [&self.grids.activity, &self.grids.statements, &self.grids.detail, &self.grids.slow, &self.grids.repeat]
            {
                next = next.min(grid.next_ms());
            }
            next = self.grids.heartbeat.iter().fold(next, |next, grid| next.min(grid.next_ms()));
        } else if self.connecting.is_none() {
            next = next.min(self.standing.retry_at_ms);
        }
        Duration::from_millis((next - clock::now_ms()).clamp(1, 60_000).unsigned_abs())
    }

    async fn leave(mut self) {
        if let Some(connecting) = self.connecting.take() {
            connecting.abort();
        }
        if let Some(trip) = self.trip.take() {
            trip.end(self.settings.statement_timeout).await;
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        self.writing.leave(clock::now_ms());
    }
}

/// The result of a task that may not be there; then it waits for ever.
async fn joined<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task {
        Some(running) => {
            let result = running.await;
            *task = None;
            result.ok()
        }
        None => std::future::pending().await,
    }
}
