//! Blocks: a stretch of a stream, regrouped by series. What its chunks have in common stands once: the times of all
//! cycles, and which series there are.

use rusqlite::{Connection, params};
use surus_core::series::Window;

use super::bytes::{Cursor, put, put_signed, seal, unseal};
use super::codec::{Presence, put_values, take_values};
use super::row::{ids_from_bytes, ids_to_bytes};
use super::{Damage, SampleStore, SeriesId, StreamId};
use crate::{Result, StoreError};

/// `bucket_ms` of a block that is being made, or taken away: no reader sees it.
pub(super) const HIDDEN: i64 = -1;

/// Chunks written or removed in one transaction, so that an append does not wait long.
pub(super) const CHUNKS_AT_ONCE: usize = 1000;

/// Cycles of one block.
const MAX_CYCLES: usize = 1 << 20;

/// A block, without its chunks.
#[derive(Debug)]
pub(super) struct Block {
    pub id: i64,
    /// Ascending.
    pub times: Vec<i64>,
    /// Ascending.
    pub series: Vec<SeriesId>,
}

/// Where a chunk is: by block, then by series, so that the newest are at the end and retention frees whole pages.
pub(super) fn chunk_id(block: i64, series: SeriesId) -> i64 {
    (block << 31) | i64::from(series)
}

/// Ascending times as bytes: the first one, then stretches of equal distance.
fn times_to_bytes(times: &[i64], block: i64) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, times.len() as u64);
    put_signed(&mut out, times.first().copied().unwrap_or_default());
    let steps: Vec<i64> = times.windows(2).map(|two| two[1] - two[0]).collect();
    for same in steps.chunk_by(|a, b| a == b) {
        put_signed(&mut out, same.first().copied().unwrap_or_default());
        put(&mut out, same.len() as u64);
    }
    seal(out, &[block])
}

fn times_from_bytes(data: &[u8], block: i64) -> std::result::Result<Vec<i64>, Damage> {
    let mut cursor = Cursor(unseal(data, &[block])?);
    let count = cursor.take_count(MAX_CYCLES)?;
    let mut time = cursor.take_signed()?;
    let mut times = Vec::with_capacity(count);
    if count > 0 {
        times.push(time);
    }
    while times.len() < count {
        let step = cursor.take_signed()?;
        let length = cursor.take_count(count - times.len())?;
        if length == 0 || step <= 0 {
            return Err(Damage("its times do not ascend"));
        }
        for _ in 0..length {
            time = time.saturating_add(step);
            times.push(time);
        }
    }
    Ok(times)
}

/// The values of one series as a chunk has them.
pub(super) fn chunk_to_bytes(id: i64, presence: &Presence, values: &[f64]) -> Vec<u8> {
    let mut out = Vec::new();
    presence.put(&mut out);
    put_values(&mut out, values);
    seal(out, &[id])
}

/// What [`chunk_to_bytes`] was given, for so many cycles; the values go into a list that is emptied before.
pub(super) fn chunk_from_bytes(
    data: &[u8],
    id: i64,
    cycles: usize,
    values: &mut Vec<f64>,
) -> std::result::Result<Presence, Damage> {
    let mut cursor = Cursor(unseal(data, &[id])?);
    let presence = Presence::take(&mut cursor, u32::try_from(cycles).unwrap_or(u32::MAX))?;
    values.clear();
    take_values(&mut cursor, presence.values(), values)?;
    Ok(presence)
}

impl SampleStore {
    /// Begins a block that nobody sees yet.
    pub(super) fn begin_block(&self, stream: StreamId, times: &[i64], series: &[SeriesId]) -> Result<i64> {
        let (Some(start), Some(end)) = (times.first(), times.last()) else {
            return Err(StoreError::NotRecordable { why: "a block without cycles".to_owned() });
        };
        let mut writer = self.writer();
        self.writing(&mut writer, None, |transaction, _| {
            let sqlite = |error| self.sqlite(error);
            let id: i64 = transaction
                .query_row(
                    "SELECT max(ifnull((SELECT max(id) FROM block), 0), ifnull((SELECT max(id) >> 31 FROM chunk), 0)) + 1",
                    [],
                    |row| row.get(0),
                )
                .map_err(sqlite)?;
            let ids = ids_to_bytes(series, &[id]).map_err(|error| StoreError::from_io(&self.path, &error))?;
            let cycles = i64::try_from(times.len()).unwrap_or(i64::MAX);
            transaction
                .execute(
                    "INSERT INTO block (id, stream, bucket_ms, start_ms, end_ms, cycles, times, series) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![id, stream, HIDDEN, start, end, cycles, times_to_bytes(times, id), ids],
                )
                .map_err(sqlite)?;
            Ok(id)
        })
    }

    /// Writes chunks of a block that nobody sees yet.
    pub(super) fn write_chunks(&self, chunks: &[(i64, Vec<u8>)]) -> Result<()> {
        for some in chunks.chunks(CHUNKS_AT_ONCE) {
            let mut writer = self.writer();
            self.writing(&mut writer, None, |transaction, _| {
                let sqlite = |error| self.sqlite(error);
                let mut statement =
                    transaction.prepare_cached("INSERT INTO chunk (id, data) VALUES (?1, ?2)").map_err(sqlite)?;
                for (id, data) in some {
                    statement.execute(params![id, data]).map_err(sqlite)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The blocks of a stream that have cycles in the window, oldest first.
    pub(super) fn blocks(
        &self,
        connection: &Connection,
        stream: StreamId,
        bucket_ms: i64,
        window: Window,
    ) -> Result<Vec<Block>> {
        let sqlite = |error| self.sqlite(error);
        let mut statement = connection
            .prepare_cached(
                "SELECT id, times, series FROM block WHERE stream = ?1 AND bucket_ms = ?2 AND end_ms > ?3 \
                 AND start_ms <= ?4 ORDER BY end_ms",
            )
            .map_err(sqlite)?;
        let asked = params![stream, bucket_ms, window.after_ms, window.until_ms];
        let mut rows = statement.query(asked).map_err(sqlite)?;
        let mut blocks = Vec::new();
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (id, times, series): (i64, Vec<u8>, Vec<u8>) = row.try_into().map_err(sqlite)?;
            let damaged = |damage: Damage| damage.of(&self.path, &format!("block {id}"));
            let times = times_from_bytes(&times, id).map_err(damaged)?;
            let series = ids_from_bytes(&series, &[id]).map_err(damaged)?;
            blocks.push(Block { id, times, series });
        }
        Ok(blocks)
    }

    /// Reads a chunk's bytes, given its id; none when the block has no such series.
    pub(super) fn chunk<T>(
        &self,
        connection: &Connection,
        block: &Block,
        series: SeriesId,
        read: impl FnOnce(&[u8], i64) -> std::result::Result<T, Damage>,
    ) -> Result<Option<T>> {
        if block.series.binary_search(&series).is_err() {
            return Ok(None);
        }
        let id = chunk_id(block.id, series);
        let damaged = |what| self.bad_chunk(block, series, Damage(what));
        let sqlite = |error| self.sqlite(error);
        let mut statement = connection.prepare_cached("SELECT data FROM chunk WHERE id = ?1").map_err(sqlite)?;
        let mut rows = statement.query([id]).map_err(sqlite)?;
        let row = rows.next().map_err(sqlite)?.ok_or_else(|| damaged("it is not there"))?;
        let data = row.get_ref(0).map_err(sqlite)?.as_blob().map_err(|_| damaged("it has another type"))?;
        read(data, id).map(Some).map_err(|damage| self.bad_chunk(block, series, damage))
    }

    fn bad_chunk(&self, block: &Block, series: SeriesId, damage: Damage) -> StoreError {
        damage.of(&self.path, &format!("the chunk of series {series} in block {}", block.id))
    }

    /// Hides a block; [`SampleStore::sweep`] takes it away.
    pub(super) fn hide_blocks(&self, ids: &[i64]) -> Result<()> {
        let mut writer = self.writer();
        self.writing(&mut writer, None, |transaction, _| {
            for id in ids {
                transaction
                    .prepare_cached("UPDATE block SET bucket_ms = ?2 WHERE id = ?1")
                    .and_then(|mut statement| statement.execute(params![id, HIDDEN]))
                    .map_err(|error| self.sqlite(error))?;
            }
            Ok(())
        })
    }

    /// Takes hidden blocks away, some chunks at a time; also those whose making was interrupted.
    pub(super) fn sweep(&self) -> Result<()> {
        let hidden: Vec<i64> = self.reading(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id FROM block WHERE bucket_ms = ?1")
                .map_err(|error| self.sqlite(error))?;
            let rows = statement.query_map([HIDDEN], |row| row.get(0));
            rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
        })?;
        for id in hidden {
            let (first, last) = (chunk_id(id, 0), chunk_id(id + 1, 0) - 1);
            loop {
                let mut writer = self.writer();
                let gone = self.writing(&mut writer, None, |transaction, _| {
                    let sql =
                        "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE id BETWEEN ?1 AND ?2 LIMIT ?3)";
                    let most = i64::try_from(CHUNKS_AT_ONCE).unwrap_or(i64::MAX);
                    let gone = transaction
                        .prepare_cached(sql)
                        .and_then(|mut statement| statement.execute(params![first, last, most]))
                        .map_err(|error| self.sqlite(error))?;
                    if gone < CHUNKS_AT_ONCE {
                        transaction
                            .execute("DELETE FROM block WHERE id = ?1", [id])
                            .map_err(|error| self.sqlite(error))?;
                    }
                    Ok(gone)
                })?;
                if gone < CHUNKS_AT_ONCE {
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_ascending_times_come_back(times: std::collections::BTreeSet<i32>, regular in 0i64..1000) {
            let mut times: Vec<i64> = times.into_iter().map(i64::from).collect();
            let last = times.last().copied().unwrap_or_default();
            times.extend((1..=regular).map(|number| last + number * 10_000));
            let bytes = times_to_bytes(&times, 7);
            prop_assert_eq!(times_from_bytes(&bytes, 7).unwrap(), times);
            prop_assert!(times_from_bytes(&bytes, 8).is_err());
        }
    }
}
