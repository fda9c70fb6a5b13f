//! Folding: the rows of a stretch of a stream become one chunk per series.

use std::collections::{BTreeSet, HashMap};

use rusqlite::{Connection, params};
use surus_core::series::{Window, is_stale};

use super::append::LATE_MS;
use super::block::{chunk_id, chunk_to_bytes};
use super::codec::{Presence, State};
use super::row::Values;
use super::{Damage, Maintained, SampleStore, SeriesId, StreamId};
use crate::{Result, StoreError};

/// Values that are unpacked at the same time: bounds the memory.
const VALUES_AT_ONCE: usize = 2 << 20;

/// Stretches of one stream that are folded in one go.
const SLOTS_AT_ONCE: usize = 100;

/// The samples of one series in a stretch.
#[derive(Debug, Default, Clone)]
pub(super) struct Column {
    pub presence: Presence,
    pub values: Vec<f64>,
}

impl Column {
    /// What it has in the next cycle.
    pub(super) fn push(&mut self, value: Option<f64>) {
        match value {
            None => self.presence.push(State::Absent),
            Some(value) if is_stale(value) => self.presence.push(State::Ended),
            Some(value) => {
                self.presence.push(State::Value);
                self.values.push(value);
            }
        }
    }
}

/// How long a stretch is that becomes one block: about 720 cycles, more make it hardly smaller; parts of a day.
pub(super) fn slot_ms(every_ms: i64) -> i64 {
    const MINUTE: i64 = 60_000;
    const SLOTS: [i64; 7] = [10, 30, 60, 120, 360, 720, 1440];
    SLOTS.map(|minutes| minutes * MINUTE).into_iter().find(|slot| slot / every_ms >= 720).unwrap_or(1440 * MINUTE)
}

/// The stretch of this length that holds a moment. It ends with a multiple of its length, as aggregates do.
pub(super) fn slot_of(at_ms: i64, slot_ms: i64) -> Window {
    let after_ms = (at_ms - 1).div_euclid(slot_ms) * slot_ms;
    Window { after_ms, until_ms: after_ms + slot_ms }
}

impl SampleStore {
    /// Folds every stretch that is over and can get no late cycle any more. A row that cannot be read is left out, and
    /// said at the end: waiting would not bring it back, and the others wait for it.
    pub(super) fn fold(&self, now_ms: i64, done: &mut Maintained) -> Result<()> {
        let streams: Vec<(StreamId, i64)> = {
            let writer = self.writer();
            let streams = writer.targets.values().flat_map(|target| target.streams.values());
            streams.map(|stream| (stream.id, slot_ms(stream.every_ms))).collect()
        };
        let mut lost = None;
        for (stream, slot_ms) in streams {
            for _ in 0..SLOTS_AT_ONCE {
                let Some(oldest) = self.reading(|connection| self.oldest_fresh(connection, stream))? else { break };
                let slot = slot_of(oldest, slot_ms);
                if slot.until_ms.saturating_add(LATE_MS) > now_ms || !self.fold_slot(stream, slot, done, &mut lost)? {
                    break;
                }
            }
        }
        if done.folded_rows > 0 {
            self.forget_layouts()?;
        }
        lost.map_or(Ok(()), Err)
    }

    pub(super) fn oldest_fresh(&self, connection: &Connection, stream: StreamId) -> Result<Option<i64>> {
        connection
            .prepare_cached("SELECT min(at_ms) FROM fresh WHERE stream = ?1")
            .and_then(|mut statement| statement.query_row([stream], |row| row.get(0)))
            .map_err(|error| self.sqlite(error))
    }

    /// Folds one stretch; false when somebody has written to it meanwhile, and it must be tried again.
    fn fold_slot(
        &self,
        stream: StreamId,
        slot: Window,
        done: &mut Maintained,
        lost: &mut Option<StoreError>,
    ) -> Result<bool> {
        self.reading(|connection| {
            let rows = self.rows_of(connection, stream, slot)?;
            let times: Vec<i64> = rows.iter().map(|(_, at_ms, _)| *at_ms).collect();
            let ids = self.series_of(connection, rows.iter().map(|(_, _, layout)| *layout), lost);
            let block = self.begin_block(stream, &times, &ids)?;
            let stripe = (VALUES_AT_ONCE / times.len().max(1)).max(16);
            for some in ids.chunks(stripe) {
                let columns = self.gather(connection, stream, slot, some, lost)?;
                let chunk = |(id, column): (&SeriesId, Column)| {
                    let id = chunk_id(block, *id);
                    (id, chunk_to_bytes(id, &column.presence, &column.values))
                };
                self.write_chunks(&some.iter().zip(columns).map(chunk).collect::<Vec<_>>())?;
            }
            let last = rows.last().map(|(_, at_ms, _)| *at_ms);
            let newest_id = rows.iter().map(|(id, _, _)| *id).max();
            let replaced = self.replace_rows(stream, slot, block, rows.len(), newest_id, last)?;
            if replaced {
                done.folded_rows += rows.len();
                done.chunks += ids.len();
            }
            Ok(replaced)
        })
    }

    /// Id, time and layout of the rows of a stretch.
    fn rows_of(&self, connection: &Connection, stream: StreamId, slot: Window) -> Result<Vec<(i64, i64, i64)>> {
        let mut statement = connection
            .prepare_cached(
                "SELECT id, at_ms, layout FROM fresh WHERE stream = ?1 AND at_ms > ?2 AND at_ms <= ?3 ORDER BY at_ms",
            )
            .map_err(|error| self.sqlite(error))?;
        let rows = statement.query_map(params![stream, slot.after_ms, slot.until_ms], |row| row.try_into());
        rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
    }

    fn series_of(
        &self,
        connection: &Connection,
        layouts: impl Iterator<Item = i64>,
        lost: &mut Option<StoreError>,
    ) -> Vec<SeriesId> {
        let layouts: BTreeSet<i64> = layouts.collect();
        let mut ids = BTreeSet::new();
        for layout in layouts {
            match self.layout(connection, layout) {
                Ok(some) => ids.extend(some),
                Err(error) => *lost = Some(error),
            }
        }
        ids.into_iter().collect()
    }

    /// The samples of some series in a stretch.
    fn gather(
        &self,
        connection: &Connection,
        stream: StreamId,
        slot: Window,
        ids: &[SeriesId],
        lost: &mut Option<StoreError>,
    ) -> Result<Vec<Column>> {
        let sqlite = |error| self.sqlite(error);
        let mut columns = vec![Column::default(); ids.len()];
        let mut layouts = HashMap::new();
        let mut statement = connection
            .prepare_cached(
                "SELECT at_ms, layout, data FROM fresh WHERE stream = ?1 AND at_ms > ?2 AND at_ms <= ?3 ORDER BY at_ms",
            )
            .map_err(sqlite)?;
        let mut rows = statement.query(params![stream, slot.after_ms, slot.until_ms]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (at_ms, layout, data): (i64, i64, Vec<u8>) = row.try_into().map_err(sqlite)?;
            let places = layouts.entry(layout).or_insert_with(|| self.places(connection, layout, ids).ok());
            let read = places.as_ref().ok_or(Damage("its layout cannot be read")).and_then(|(count, places)| {
                Ok((Values::from_bytes(&data, *count, &[i64::from(stream), at_ms, layout])?, places))
            });
            match read {
                Ok((values, places)) => {
                    for (column, at) in columns.iter_mut().zip(places) {
                        column.push(at.map(|at| values.get(at)));
                    }
                }
                Err(damage) => {
                    columns.iter_mut().for_each(|column| column.push(None));
                    *lost = Some(damage.of(&self.path, &format!("the cycle {at_ms} of stream {stream}")));
                }
            }
        }
        Ok(columns)
    }

    /// Shows the block and takes the rows away, in one transaction: a reader sees every sample exactly once.
    fn replace_rows(
        &self,
        stream: StreamId,
        slot: Window,
        block: i64,
        count: usize,
        newest_id: Option<i64>,
        last: Option<i64>,
    ) -> Result<bool> {
        let mut writer = self.writer();
        let replaced = self.writing(&mut writer, None, |transaction, _| {
            let sqlite = |error| self.sqlite(error);
            let of = params![stream, slot.after_ms, slot.until_ms];
            let now: (i64, Option<i64>) = transaction
                .query_row(
                    "SELECT count(*), max(id) FROM fresh WHERE stream = ?1 AND at_ms > ?2 AND at_ms <= ?3",
                    of,
                    |row| row.try_into(),
                )
                .map_err(sqlite)?;
            if usize::try_from(now.0) != Ok(count) || now.1 != newest_id {
                return Ok(false);
            }
            transaction
                .execute("UPDATE block SET bucket_ms = 0 WHERE id = ?1", [block])
                .and_then(|_| {
                    transaction.execute("DELETE FROM fresh WHERE stream = ?1 AND at_ms > ?2 AND at_ms <= ?3", of)
                })
                .map_err(sqlite)?;
            Ok(true)
        })?;
        if let (true, Some(last), Some(stream)) = (replaced, last, writer.stream_with(stream)) {
            stream.folded_ms = stream.folded_ms.max(last);
        }
        Ok(replaced)
    }

    /// Removes layouts that no row has, except those that the next cycle may use.
    fn forget_layouts(&self) -> Result<()> {
        let unused: Vec<i64> = self.reading(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT id FROM layout WHERE id NOT IN (SELECT layout FROM fresh)")
                .map_err(|error| self.sqlite(error))?;
            let rows = statement.query_map([], |row| row.get(0));
            rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
        })?;
        let mut writer = self.writer();
        let used = writer.layouts();
        self.writing(&mut writer, None, |transaction, _| {
            let mut statement =
                transaction.prepare_cached("DELETE FROM layout WHERE id = ?1").map_err(|error| self.sqlite(error))?;
            for id in unused.iter().filter(|id| !used.contains(id)) {
                statement.execute([id]).map_err(|error| self.sqlite(error))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_ends_with_its_last_moment() {
        assert_eq!(slot_ms(10_000), 7_200_000);
        assert_eq!(slot_of(7_200_000, 7_200_000), Window { after_ms: 0, until_ms: 7_200_000 });
        assert_eq!(slot_of(7_200_001, 7_200_000).after_ms, 7_200_000);
        assert_eq!((slot_ms(1000), slot_ms(60_000), slot_ms(600_000)), (1_800_000, 43_200_000, 86_400_000));
    }
}
