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
        let lock = scratch.lock(&key.lock_name(), || {
            monitor.note("another surus is making a copy of that moment; waiting for it");
        })?;
        let found = match find(scratch, &key)? {
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

fn find(scratch: &Scratch, key: &Key) -> Result<Option<Moment>> {
    for (place, warm) in list(scratch)? {
        if warm.key != *key || !place.mark.lasts {
            continue;
        }
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
    let order = Order { backup: wanted.backup.as_deref(), target: &target, place, jobs: wanted.jobs, monitor };
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
