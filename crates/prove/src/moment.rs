//! A look into the past: a copy of the cluster as it was at a moment, kept warm for the next question.
//!
//! Two commands that want the same moment use one copy: the first makes it under a lock of the moment's name, the
//! second waits for it and finds it running.

use crate::{
    copy::{self, Wish},
    engine::{Engine, Landed, Order},
    error::{ProveError, Result},
    keeper,
    scratch::{Hold, Place, Purpose, Scratch},
    superuser,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    time::Duration,
};
use surus_backup::{
    BackupError,
    restore::{
        start::Arrival,
        target::{Action, Goal, RecoveryTarget},
    },
};
use surus_core::{
    clock::{self, Stopwatch},
    code,
    monitor::Monitor,
};
use surus_pg::{ConnectError, Environment, Manners, Session, Target, server::running_pid};

/// What is wanted.
pub struct Wanted<'a> {
    pub engine: &'a dyn Engine,
    /// The cluster's system identifier.
    pub cluster: u64,
    pub target: RecoveryTarget,
    /// A warm copy of a moment that is so near to the target's does as well.
    pub near: Option<Duration>,
    /// This backup; none: the newest that leads to the target.
    pub backup: Option<String>,
    /// A copy that may be written to: nobody who only wants to look is given it.
    pub writable: bool,
    /// How long the copy stays after its last use.
    pub warm: Duration,
    pub jobs: usize,
    /// How long recovery may take.
    pub within: Duration,
    /// The command that begins a [`keeper`]; empty: none is begun.
    pub keeper: &'a [String],
}

/// What makes two copies the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    pub repository: String,
    pub cluster: u64,
    /// The moment, in words that say all of the target.
    pub target: String,
    pub backup: Option<String>,
    pub writable: bool,
}

/// What the mark of a warm copy says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Warm {
    pub key: Key,
    /// The backup that it was restored from.
    pub backup: String,
    pub major: u16,
    pub port: u16,
    pub socket_directory: String,
    pub warm_seconds: u64,
    /// The moment, where it was asked for by its time.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Where recovery stopped, in the server's words, and the last transaction's time.
    pub stopped: Option<String>,
    pub last_transaction: Option<String>,
    pub bytes: u64,
    pub restore_seconds: f64,
    pub recovery_seconds: f64,
    pub notes: Vec<String>,
}

/// A copy that runs and that nobody takes away.
#[derive(Debug)]
pub struct Moment {
    pub place: Place,
    pub warm: Warm,
    /// Was it made now?
    pub fresh: bool,
    hold: Hold,
}

impl Wanted<'_> {
    /// Its time, and how far from it a copy may be.
    fn around(&self) -> Option<(Timestamp, Duration)> {
        Some((time_of(&self.target)?, self.near?))
    }

    fn key(&self) -> Key {
        let target = &self.target;
        let side = if target.exclusive { "just before " } else { "" };
        Key {
            repository: format!("{} {}", self.engine.kind(), self.engine.address()),
            cluster: self.cluster,
            target: format!("{side}{} on timeline {:?}", target.goal, target.timeline),
            backup: self.backup.clone(),
            writable: self.writable,
        }
    }
}

impl Key {
    /// The same but for the moment.
    fn of_any_moment(&self) -> Self {
        Self { target: String::new(), ..self.clone() }
    }

    fn lock_name(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        format!("moment-{:016x}", hasher.finish())
    }
}

impl Moment {
    /// The warm copy of that moment, or a new one. Blocks.
    ///
    /// # Errors
    /// When the moment cannot be reached, there is no room, or the copy does not come up; nothing of it is left then.
    pub fn open(scratch: &Scratch, wanted: &Wanted<'_>, monitor: &dyn Monitor) -> Result<Self> {
        let key = wanted.key();
        let around = wanted.around();
        // Who takes a near one must wait for all that are being made by others who do.
        let locked = if around.is_some() { key.of_any_moment() } else { key.clone() };
        let lock = scratch.lock(&locked.lock_name(), || {
            monitor.note("another surus is making a copy of that moment; waiting for it");
        })?;
        let found = match find(scratch, &key, around)? {
            Some(found) => found,
            None => make(scratch, wanted, key, monitor)?,
        };
        drop(lock);
        Ok(found)
    }

    /// A new copy that nobody else is given, even one of the same moment. Blocks.
    ///
    /// # Errors
    /// As [`Moment::open`].
    pub fn alone(scratch: &Scratch, wanted: &Wanted<'_>, monitor: &dyn Monitor) -> Result<Self> {
        let mut key = wanted.key();
        key.target += &format!(", made by process {} at {}", std::process::id(), clock::now());
        make(scratch, wanted, key, monitor)
    }

    /// A role that may do everything in it: the one that its cluster was made with, as its files tell.
    pub fn superuser(&self) -> String {
        superuser::of_files(&self.place.data()).unwrap_or_else(|| "postgres".to_owned())
    }

    /// A connection string for its socket.
    pub fn dsn(&self, user: &str, database: &str) -> String {
        dsn(&self.warm.socket_directory, self.warm.port, user, database)
    }

    /// Opens a session in it.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn session(&self, user: &str, database: &str, manners: &Manners) -> Result<Session, ConnectError> {
        // The environment is about the user's own servers.
        let target = Target::parse_in(&self.dsn(user, database), &Environment::empty())?;
        target.connect(manners).await
    }

    /// Lets go of it: it stays that long from now on; not at all with a duration of zero.
    ///
    /// # Errors
    /// When its mark cannot be written, or it cannot be removed.
    pub fn release(mut self, warm: Duration) -> Result<Option<Timestamp>> {
        if warm.is_zero() {
            self.place.keep(Some(clock::now()))?;
            drop(self.hold);
            // Whoever else is using it lets go of it later.
            self.place.remove_if_over()?;
            return Ok(None);
        }
        let until = clock::now().saturating_add(warm).unwrap_or(Timestamp::MAX);
        // Somebody else may want it longer.
        let there = Place::open(self.place.dir().to_owned()).and_then(|place| place.mark.expires_at);
        let until = there.map_or(until, |there| there.max(until));
        self.place.keep(Some(until))?;
        drop(self.hold);
        Ok(Some(until))
    }
}

/// A connection string for a socket.
pub fn dsn(socket_directory: &str, port: u16, user: &str, database: &str) -> String {
    let quoted = |value: &str| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"));
    format!("host={} port={port} user={} dbname={}", quoted(socket_directory), quoted(user), quoted(database))
}

/// Every warm copy.
///
/// # Errors
/// As [`Scratch::places`].
pub fn list(scratch: &Scratch) -> Result<Vec<(Place, Warm)>> {
    let places = scratch.places()?.into_iter().filter(|place| place.mark.purpose == Purpose::Moment);
    Ok(places
        .filter_map(|place| serde_json::from_value(place.mark.detail.clone()).ok().map(|warm| (place, warm)))
        .collect())
}

/// How far the nearest warm copy is from the moment that is wanted, and its time, where it would answer but for that.
///
/// # Errors
/// As [`Scratch::places`].
pub fn nearest(scratch: &Scratch, wanted: &Wanted<'_>) -> Result<Option<(Timestamp, Duration)>> {
    let Some(time) = time_of(&wanted.target) else { return Ok(None) };
    let all = candidates(scratch, &wanted.key(), Some((time, Duration::MAX)))?;
    let running = all.into_iter().find(|(place, _)| running_pid(&place.data()).is_some());
    Ok(running.and_then(|(_, warm)| Some((warm.at?, distance(warm.at?, time)))))
}

/// The time that a target is, where its key says no more than that.
fn time_of(target: &RecoveryTarget) -> Option<Timestamp> {
    let Goal::Time(time) = target.goal else { return None };
    let plain = RecoveryTarget { goal: Goal::Time(time), ..RecoveryTarget::default() };
    (*target == plain).then_some(time)
}

fn distance(one: Timestamp, other: Timestamp) -> Duration {
    one.duration_since(other).unsigned_abs()
}

/// The copies of the moment, then those so near to it, the nearest first.
fn candidates(scratch: &Scratch, key: &Key, around: Option<(Timestamp, Duration)>) -> Result<Vec<(Place, Warm)>> {
    let fits = |warm: &Warm| {
        let near = |(time, within): (Timestamp, Duration)| warm.at.is_some_and(|at| distance(at, time) <= within);
        warm.key == *key || (warm.key.of_any_moment() == key.of_any_moment() && around.is_some_and(near))
    };
    let far = |warm: &Warm| match (warm.at, around) {
        (Some(at), Some((time, _))) => distance(at, time),
        _ => Duration::ZERO,
    };
    let mut all: Vec<_> = list(scratch)?.into_iter().filter(|(place, warm)| place.mark.lasts && fits(warm)).collect();
    all.sort_by_key(|(_, warm)| (warm.key != *key, far(warm)));
    Ok(all)
}

fn find(scratch: &Scratch, key: &Key, around: Option<(Timestamp, Duration)>) -> Result<Option<Moment>> {
    for (place, warm) in candidates(scratch, key, around)? {
        let Some(hold) = place.hold() else { continue };
        if running_pid(&place.data()).is_some() {
            return Ok(Some(Moment { place, warm, fresh: false, hold }));
        }
        // Its server has ended by itself, or with the machine.
        drop(hold);
        place.remove()?;
    }
    Ok(None)
}

fn make(scratch: &Scratch, wanted: &Wanted<'_>, key: Key, monitor: &dyn Monitor) -> Result<Moment> {
    let what = format!("cluster {} at {}", wanted.cluster, wanted.target.goal);
    let mut place = scratch.make(Purpose::Moment, &what, serde_json::Value::Null)?;
    match fill(&mut place, wanted, key, monitor) {
        Ok(moment) => Ok(moment),
        Err(error) => {
            // What cannot be removed now is swept later; the reason for all of it is what counts.
            let _ = place.remove();
            Err(explained(error, &wanted.target))
        }
    }
}

fn fill(place: &mut Place, wanted: &Wanted<'_>, key: Key, monitor: &dyn Monitor) -> Result<Moment> {
    keeper::begin(wanted.keeper, place)?;
    let watch = Stopwatch::start();
    let target = RecoveryTarget { action: Action::Promote, ..wanted.target.clone() };
    let order =
        Order { backup: wanted.backup.as_deref(), target: &target, place, jobs: wanted.jobs, pace: None, monitor };
    let landed = wanted.engine.restore(&order)?;
    let restore_seconds = watch.elapsed().as_secs_f64();
    let wish = Wish { action: Action::Promote, within: wanted.within, port: None, settings: Vec::new() };
    let started = copy::start(&landed, place, &wish, monitor)?;
    let hold = place.hold().ok_or_else(|| gone(place.dir()))?;
    let warm = warm_of(wanted, key, &landed, &started.arrival, restore_seconds, &started.notes);
    place.mark.detail = serde_json::to_value(&warm).unwrap_or_default();
    place.keep(Some(clock::now().saturating_add(wanted.warm).unwrap_or(Timestamp::MAX)))?;
    started.server.detach();
    Ok(Moment { place: place.clone(), warm, fresh: true, hold })
}

fn warm_of(
    wanted: &Wanted<'_>,
    key: Key,
    landed: &Landed,
    arrival: &Arrival,
    restore_seconds: f64,
    notes: &[String],
) -> Warm {
    Warm {
        // Who asked for one that nobody else is given has a key of his own.
        at: time_of(&wanted.target).filter(|_| key == wanted.key()),
        key,
        backup: landed.label.clone(),
        major: landed.major,
        port: arrival.port,
        socket_directory: arrival.socket_directory.clone(),
        warm_seconds: wanted.warm.as_secs(),
        stopped: arrival.stopped.clone(),
        last_transaction: arrival.time.clone(),
        bytes: landed.bytes,
        restore_seconds,
        recovery_seconds: arrival.seconds,
        notes: notes.to_vec(),
    }
}

fn gone(dir: &Path) -> ProveError {
    ProveError::refused(code::PROVE_SCRATCH, format!("{} was removed by somebody else", dir.display()))
}

/// PostgreSQL's refusal to stop at a time that nothing archived lies after, in the words of a user.
fn explained(error: ProveError, target: &RecoveryTarget) -> ProveError {
    let ProveError::Backup(BackupError::Refused { message, .. }) = &error else { return error };
    let Goal::Time(time) = target.goal else { return error };
    if !message.contains("recovery ended before configured recovery target was reached") {
        return error;
    }
    let last = message.lines().rev().find_map(|line| line.split_once("last completed transaction was at log time "));
    let until = last.map_or_else(
        || "no transaction after the backup is archived yet".to_owned(),
        |(_, at)| format!("the last archived transaction is of {}", at.trim()),
    );
    let text = format!(
        "no transaction after {time} is in the archive yet, so what was there then is not known; {until}. Ask for a \
         moment up to that one, or have the server archive what it has written: SELECT pg_switch_wal()"
    );
    ProveError::refused(code::RESTORE_TARGET, text)
}
