//! What waits to be sent to another store: a queue on disk, bounded.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::SampleStore;
use super::bytes::checksum;
use crate::{Result, StoreError};

/// Something to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub id: i64,
    /// The time of what is in it.
    pub at_ms: i64,
    /// How many samples are in it.
    pub samples: u64,
    /// As it was pushed.
    pub body: Vec<u8>,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueState {
    /// What waits.
    pub parcels: u64,
    pub bytes: u64,
    pub samples: u64,
    /// The time of the oldest that waits.
    pub oldest_ms: Option<i64>,
    /// What was thrown away, since the queue was first used, because it was full or damaged.
    pub dropped_parcels: u64,
    pub dropped_samples: u64,
}

/// One queue of the store's, by name.
#[derive(Debug, Clone, Copy)]
pub struct Outbox<'a> {
    store: &'a SampleStore,
    name: &'a str,
    max_bytes: u64,
}

impl SampleStore {
    /// A queue, by name: one for each receiver. It never holds more than so many bytes of bodies.
    pub fn outbox<'a>(&'a self, name: &'a str, max_bytes: u64) -> Outbox<'a> {
        Outbox { store: self, name, max_bytes }
    }
}

impl Outbox<'_> {
    /// Puts something at the end. Where there is no room, the oldest is thrown away and counted.
    ///
    /// # Errors
    /// When it is larger than the whole queue may be (it is counted as dropped), or could not be written.
    pub fn push(&self, at_ms: i64, samples: u64, body: &[u8]) -> Result<()> {
        let bytes = body.len() as u64;
        let fits = bytes <= self.max_bytes;
        self.writing(|connection, state| {
            if !fits {
                state.dropped_parcels += 1;
                state.dropped_samples += samples;
                return Ok(());
            }
            while state.bytes + bytes > self.max_bytes {
                let oldest = self.oldest(connection)?;
                let Some((id, samples, bytes)) = oldest else { break };
                self.remove(connection, state, id, samples, bytes)?;
                state.dropped_parcels += 1;
                state.dropped_samples += samples;
            }
            let sum = checksum(body, &[at_ms]);
            connection
                .prepare_cached(
                    "INSERT INTO outbox (queue, at_ms, samples, bytes, sum, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![self.name, at_ms, number(samples), number(bytes), sum, body])?;
            state.parcels += 1;
            state.samples += samples;
            state.bytes += bytes;
            Ok(())
        })?;
        if fits {
            return Ok(());
        }
        let why = format!("{bytes} bytes for {}, whose queue holds {} at most", self.name, self.max_bytes);
        Err(StoreError::Refused { why })
    }

    /// What is to be sent next; it stays until it is [`Outbox::done`]. One whose bytes have changed on disk is thrown
    /// away and counted.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn next(&self) -> Result<Option<Parcel>> {
        loop {
            let found = self.store.reading(|connection| {
                connection
                    .prepare_cached(
                        "SELECT id, at_ms, samples, sum, body FROM outbox WHERE queue = ?1 ORDER BY id LIMIT 1",
                    )
                    .and_then(|mut statement| {
                        let parcel = |row: &rusqlite::Row<'_>| {
                            let samples: i64 = row.get(2)?;
                            let parcel = Parcel {
                                id: row.get(0)?,
                                at_ms: row.get(1)?,
                                samples: samples.unsigned_abs(),
                                body: row.get(4)?,
                            };
                            Ok((parcel, row.get::<_, u32>(3)?))
                        };
                        statement.query_row([self.name], parcel).optional()
                    })
                    .map_err(|error| self.store.sqlite(error))
            })?;
            match found {
                Some((parcel, sum)) if checksum(&parcel.body, &[parcel.at_ms]) != sum => self.take(parcel.id, true)?,
                other => return Ok(other.map(|(parcel, _)| parcel)),
            }
        }
    }

    /// It was received, or is not wanted: it leaves the queue.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn done(&self, id: i64) -> Result<()> {
        self.take(id, false)
    }

    /// It can never be received: it leaves the queue and is counted as dropped.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn drop_parcel(&self, id: i64) -> Result<()> {
        self.take(id, true)
    }

    /// How it stands.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn state(&self) -> Result<QueueState> {
        self.store.reading(|connection| {
            let sqlite = |error| self.store.sqlite(error);
            let mut state = self.load(connection).map_err(sqlite)?;
            state.oldest_ms = connection
                .prepare_cached("SELECT at_ms FROM outbox WHERE queue = ?1 ORDER BY id LIMIT 1")
                .and_then(|mut statement| statement.query_row([self.name], |row| row.get(0)).optional())
                .map_err(sqlite)?;
            Ok(state)
        })
    }

    fn take(&self, id: i64, dropped: bool) -> Result<()> {
        self.writing(|connection, state| {
            let found: Option<(i64, i64)> = connection
                .prepare_cached("SELECT samples, bytes FROM outbox WHERE queue = ?1 AND id = ?2")?
                .query_row(params![self.name, id], |row| row.try_into())
                .optional()?;
            let Some((samples, bytes)) = found else { return Ok(()) };
            if dropped {
                state.dropped_parcels += 1;
                state.dropped_samples += samples.unsigned_abs();
            }
            self.remove(connection, state, id, samples.unsigned_abs(), bytes.unsigned_abs())
        })
    }

    fn oldest(&self, connection: &Connection) -> rusqlite::Result<Option<(i64, u64, u64)>> {
        connection
            .prepare_cached("SELECT id, samples, bytes FROM outbox WHERE queue = ?1 ORDER BY id LIMIT 1")?
            .query_row([self.name], |row| {
                let (id, samples, bytes): (i64, i64, i64) = row.try_into()?;
                Ok((id, samples.unsigned_abs(), bytes.unsigned_abs()))
            })
            .optional()
    }

    fn remove(
        &self,
        connection: &Connection,
        state: &mut QueueState,
        id: i64,
        samples: u64,
        bytes: u64,
    ) -> rusqlite::Result<()> {
        connection.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id])?;
        state.parcels = state.parcels.saturating_sub(1);
        state.samples = state.samples.saturating_sub(samples);
        state.bytes = state.bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Changes the queue and its state together.
    fn writing(&self, work: impl FnOnce(&Connection, &mut QueueState) -> rusqlite::Result<()>) -> Result<()> {
        let mut writer = self.store.writer();
        self.store.writing(&mut writer, None, |transaction, _| {
            let sqlite = |error| self.store.sqlite(error);
            let mut state = self.load(transaction).map_err(sqlite)?;
            work(transaction, &mut state).map_err(sqlite)?;
            let all =
                [state.parcels, state.bytes, state.samples, state.dropped_parcels, state.dropped_samples].map(number);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO outbox_state VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
                .and_then(|mut statement| statement.execute(params![self.name, all[0], all[1], all[2], all[3], all[4]]))
                .map_err(sqlite)?;
            Ok(())
        })
    }

    fn load(&self, connection: &Connection) -> rusqlite::Result<QueueState> {
        let found: Option<(i64, i64, i64, i64, i64)> = connection
            .prepare_cached(
                "SELECT parcels, bytes, samples, dropped_parcels, dropped_samples FROM outbox_state WHERE queue = ?1",
            )?
            .query_row([self.name], |row| row.try_into())
            .optional()?;
        let (parcels, bytes, samples, dropped_parcels, dropped_samples) = found.unwrap_or_default();
        Ok(QueueState {
            parcels: parcels.unsigned_abs(),
            bytes: bytes.unsigned_abs(),
            samples: samples.unsigned_abs(),
            oldest_ms: None,
            dropped_parcels: dropped_parcels.unsigned_abs(),
            dropped_samples: dropped_samples.unsigned_abs(),
        })
    }
}

/// As SQLite stores it.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
