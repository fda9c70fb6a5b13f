//! The sample store: what was measured, when, of which target; and what belongs to it (active sessions, query
//! statistics, events, what waits to be sent on). One SQLite file of its own beside the ledger's, so that retention
//! never touches a proof. The exact format is in `docs/format/samples.md`.
//!
//! A cycle of a stream (a target's group) arrives as one row: fresh. Later [`SampleStore::maintain`] regroups such rows
//! into chunks, one series and up to 720 cycles each, which take less than a byte per sample.

mod aggregate;
mod append;
mod block;
mod bytes;
mod clock;
mod codec;
mod fold;
mod index;
mod long;
mod maintain;
mod outbox;
mod read;
mod record;
mod retain;
mod row;
mod scan;
mod sessions;
mod story;
mod table;

pub use outbox::{Outbox, Parcel, QueueState};
pub use record::{Activity, QueryDelta, QueryDeltas, SessionSample};
pub use scan::{Grain, Look, QueryDeltaRef, Scanned, SessionRef, Text};
pub use story::{Event, EventError, Plan};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use surus_core::series::Labels;

use crate::error::TAKEN;
use crate::schema::Schema;
use crate::{Result, StoreError, file};
use append::Stream;
use index::Index;

type SeriesId = u32;
type StreamId = u32;

/// The file of the samples; its mark is `surs` in ASCII.
const SAMPLES: Schema = Schema {
    application_id: 0x7375_7273,
    migrations: &[include_str!("schema/1_samples.sql")],
    // Incremental vacuum, so that the file shrinks when retention has made room.
    before: &[("page_size", 4096), ("auto_vacuum", 2)],
    always: &[("wal_autocheckpoint", 4000), ("journal_size_limit", 16 << 20)],
    synchronous: "NORMAL",
};

/// How much is kept, and what is too much. Every limit is there to protect the machine from a target gone wild.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long samples are kept as they came.
    pub keep: Duration,
    /// How long aggregates over 5 minutes are kept.
    pub keep_medium: Duration,
    /// How long aggregates over 1 hour, events, query texts and plans are kept.
    pub keep_long: Duration,
    /// How large the file may become, with all that is in it, what waits to be sent too; the oldest samples go first.
    pub max_bytes: Option<u64>,
    /// Series of one target that may be alive at the same time.
    pub max_series_per_target: usize,
    /// Labels of one series.
    pub max_labels: usize,
    /// Bytes of one label's value; a name may have 256.
    pub max_label_bytes: usize,
    /// Series of one answer.
    pub max_selected_series: usize,
    /// Samples of one answer.
    pub max_selected_samples: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self {
            keep: days(15),
            keep_medium: days(90),
            keep_long: days(400),
            max_bytes: None,
            max_series_per_target: 200_000,
            max_labels: 64,
            max_label_bytes: 4096,
            max_selected_series: 100_000,
            max_selected_samples: 50_000_000,
        }
    }
}

/// All series of one cycle of a target's group, under one timestamp.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    pub target: &'a str,
    /// What is collected in one go; a series belongs to one group.
    pub group: &'a str,
    /// The time for which the cycle was planned.
    pub at_ms: i64,
    /// The distance of cycles.
    pub every_ms: i64,
    pub points: &'a [(Labels, f64)],
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Samples that are stored now.
    pub samples: usize,
    /// Of these, the first ones of their series.
    pub new_series: usize,
    /// Series that were there in the cycle before and are not in this one; they have a stale marker now.
    pub ended: usize,
    /// Points that were left out: the same series twice, or labels beyond the limits.
    pub refused: usize,
}

/// What [`SampleStore::maintain`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Fresh rows that became chunks.
    pub folded_rows: usize,
    /// Chunks that were made of them.
    pub chunks: usize,
    /// Chunks of aggregates that were made.
    pub aggregates: usize,
    /// Blocks and rows that were too old, or had to make room.
    pub expired: usize,
    /// Series that had nothing left.
    pub forgotten_series: usize,
    /// How large the file is now.
    pub file_bytes: u64,
}

/// The sample store. May be shared between threads: one writes at a time, readers do not wait. All calls block; they
/// are not for an async task.
#[derive(Debug)]
pub struct SampleStore {
    path: PathBuf,
    settings: Settings,
    writer: Mutex<Writer>,
    index: RwLock<Index>,
    readers: Mutex<Vec<Connection>>,
    /// Held while folding and forgetting: one does that at a time.
    maintaining: Mutex<()>,
    /// Held as long as the store is open: two writers would not know of each other's series.
    _lock: Option<std::fs::File>,
}

/// What only the writer needs.
#[derive(Debug)]
struct Writer {
    connection: Connection,
    targets: HashMap<String, Target>,
    next_stream: StreamId,
    next_layout: i64,
}

#[derive(Debug)]
struct Target {
    id: u32,
    streams: HashMap<String, Stream>,
}

/// Connections that wait for the next reader.
const IDLE_READERS: usize = 4;

impl SampleStore {
    /// Opens the file for reading and writing; makes it (mode 0600) and its directory (0700) when they are not there.
    ///
    /// # Errors
    /// When it cannot be opened or is damaged, or when another process has it open for writing.
    pub fn open(path: &Path, settings: Settings) -> Result<Self> {
        let connection = file::open(path, &SAMPLES)?;
        let lock = lock(path)?;
        let index = Index::load(path, &connection)?;
        let writer = append::load(path, connection, &index)?;
        Ok(Self {
            path: path.to_owned(),
            settings,
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            readers: Mutex::default(),
            maintaining: Mutex::default(),
            _lock: Some(lock),
        })
    }

    /// Opens the file for reading only, as it is now; whoever writes to it goes on meanwhile. Series that are new after
    /// that are not seen.
    ///
    /// # Errors
    /// When it is not there, cannot be opened or is damaged.
    pub fn open_read_only(path: &Path, settings: Settings) -> Result<Self> {
        let connection = file::open_read_only(path, &SAMPLES)?;
        let index = Index::load(path, &connection)?;
        let writer = append::load(path, connection, &index)?;
        Ok(Self {
            path: path.to_owned(),
            settings,
            writer: Mutex::new(writer),
            index: RwLock::new(index),
            readers: Mutex::default(),
            maintaining: Mutex::default(),
            _lock: None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many series have samples.
    pub fn series_count(&self) -> usize {
        self.index().len()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // What a thread that panicked had begun was rolled back; memory is changed only after a commit.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sqlite(&self, error: rusqlite::Error) -> StoreError {
        StoreError::from_sqlite(&self.path, error)
    }

    /// Writes all or nothing. The work is given the id of the target, where one is named; a new one gets one.
    fn writing<T>(
        &self,
        writer: &mut Writer,
        target: Option<&str>,
        work: impl FnOnce(&Connection, u32) -> Result<T>,
    ) -> Result<T> {
        let known = target.and_then(|name| writer.targets.get(name)).map(|target| target.id);
        let new = target.filter(|_| known.is_none()).map(|name| (name, writer.next_target()));
        let transaction = Transaction::new_unchecked(&writer.connection, TransactionBehavior::Immediate)
            .map_err(|error| self.sqlite(error))?;
        if let Some((name, id)) = new {
            let sql = "INSERT INTO target (id, name) VALUES (?1, ?2)";
            transaction.execute(sql, params![id, name]).map_err(|error| self.sqlite(error))?;
        }
        let result = work(&transaction, known.or(new.map(|(_, id)| id)).unwrap_or_default())?;
        transaction.commit().map_err(|error| self.sqlite(error))?;
        if let Some((name, id)) = new {
            writer.targets.insert(name.to_owned(), Target { id, streams: HashMap::new() });
        }
        Ok(result)
    }

    /// Lets a reader work on one state of the file, however long it takes and whatever is written meanwhile.
    fn reading<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let waiting = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match waiting {
            Some(connection) => connection,
            None => file::open_read_only(&self.path, &SAMPLES)?,
        };
        let transaction = connection.unchecked_transaction().map_err(|error| self.sqlite(error))?;
        let result = work(&transaction);
        drop(transaction);
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_ok() && readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        result
    }
}

/// Takes the lock that keeps other writers away. In a file of its own: closing any handle of SQLite's file would give
/// up SQLite's locks on it (<https://sqlite.org/howtocorrupt.html>, section 2.2).
fn lock(path: &Path) -> Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push("-lock");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside);
    let file = file.map_err(|error| StoreError::from_io(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StoreError::open(path, TAKEN)),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::from_io(path, &error)),
    }
}

/// The file of the samples in a data directory.
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join("samples.db")
}

/// What is wrong with bytes that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Damage(&'static str);

impl Damage {
    fn of(self, path: &Path, what: &str) -> StoreError {
        StoreError::damaged(path, format!("{what}: {}", self.0))
    }
}
