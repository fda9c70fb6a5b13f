//! Retention: by time, and by size.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::aggregate::{COARSE_MS, FINE_MS, levels};
use super::index::{Index, Known};
use super::{Maintained, SampleStore, SeriesId, StreamId};
use crate::Result;

/// Series that are forgotten in one transaction.
const SERIES_AT_ONCE: usize = 500;

/// Free pages that are given back to the file system in one transaction.
const PAGES_AT_ONCE: u32 = 1000;

/// How much of the oldest goes at once when the file is too large.
const STEP_MS: i64 = 3_600_000;

/// Steps of one call.
const STEPS: usize = 500;

/// Nothing that ends before these is kept.
#[derive(Debug, Clone, Copy)]
struct Limits {
    samples: i64,
    fine: i64,
    coarse: i64,
}

impl SampleStore {
    /// Forgets what is too old, by a clock that can be believed.
    pub(super) fn expire_by_time(&self, now_ms: i64, done: &mut Maintained) -> Result<()> {
        let now_ms = self.believed(now_ms)?;
        let before = |keep: std::time::Duration| {
            now_ms.saturating_sub(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX)).max(0)
        };
        let samples = before(self.settings.keep);
        let fine = before(self.settings.keep_medium.max(self.settings.keep));
        let coarse = before(self.settings.keep_long.max(self.settings.keep));
        self.expire(Limits { samples, fine, coarse }, false, done)?;
        let mut writer = self.writer();
        done.expired += self.writing(&mut writer, None, |transaction, _| {
            let mut gone = 0;
            for sql in [
                "DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at_ms < ?1 LIMIT 1000)",
                "DELETE FROM query_text WHERE last_ms < ?1",
                "DELETE FROM plan WHERE last_ms < ?1",
            ] {
                gone += transaction.execute(sql, [coarse]).map_err(|error| self.sqlite(error))?;
            }
            Ok(gone)
        })?;
        Ok(())
    }

    /// Makes room when the file is larger than it may be: samples, sessions and statements first, oldest first; then
    /// the aggregates of 5 minutes, then those of 1 hour.
    pub(super) fn expire_by_size(&self, done: &mut Maintained) -> Result<()> {
        let Some(most) = self.settings.max_bytes else { return Ok(()) };
        for _ in 0..STEPS {
            if self.used_bytes()? <= most {
                return Ok(());
            }
            let oldest = |sql: &str| -> Result<Option<i64>> {
                self.reading(|connection| {
                    connection.query_row(sql, [], |row| row.get(0)).map_err(|error| self.sqlite(error))
                })
            };
            let none = Limits { samples: 0, fine: 0, coarse: 0 };
            let samples = oldest("SELECT min(end_ms) FROM block WHERE bucket_ms = 0")?;
            let records = oldest("SELECT min(end_ms) FROM record WHERE folded = 1 AND kind <> 3")?;
            let fine = oldest(
                "SELECT min(end_ms) FROM (SELECT end_ms FROM block WHERE bucket_ms = 300000 \
                 UNION ALL SELECT end_ms FROM record WHERE kind = 3)",
            )?;
            let limits = if let Some(end) = samples.into_iter().chain(records).min() {
                Limits { samples: end + STEP_MS, ..none }
            } else if let Some(end) = fine {
                Limits { fine: end + STEP_MS, ..none }
            } else if let Some(end) = oldest("SELECT min(end_ms) FROM block WHERE bucket_ms = 3600000")? {
                Limits { coarse: end + STEP_MS, ..none }
            } else {
                return Ok(());
            };
            self.expire(limits, true, done)?;
        }
        Ok(())
    }

    fn expire(&self, limits: Limits, even_without_aggregates: bool, done: &mut Maintained) -> Result<()> {
        let streams: Vec<(StreamId, i64)> = {
            let writer = self.writer();
            let streams = writer.targets.values().flat_map(|target| target.streams.values());
            streams.map(|stream| (stream.id, stream.every_ms)).collect()
        };
        for (stream, every_ms) in streams {
            // Where samples are too far apart to be aggregated they take the aggregates' place.
            let samples = match levels(every_ms) {
                _ if even_without_aggregates => limits.samples,
                [FINE_MS, ..] => limits.samples,
                [_, ..] => limits.fine,
                [] => limits.coarse,
            };
            let ids: Vec<i64> = self.reading(|connection| {
                let mut statement = connection
                    .prepare_cached(
                        "SELECT id FROM block AS b WHERE stream = ?1 AND (bucket_ms = 0 AND end_ms < ?2 \
                         AND (?7 OR end_ms < ?2 - 172800000 OR EXISTS (SELECT 1 FROM block AS a WHERE a.stream = ?1 \
                         AND a.bucket_ms = ?5 AND (a.end_ms - 1) / 86400000 = (b.end_ms - 1) / 86400000)) \
                         OR bucket_ms = ?3 AND end_ms < ?4 OR bucket_ms = ?5 AND end_ms < ?6)",
                    )
                    .map_err(|error| self.sqlite(error))?;
                // Samples wait for the end of their day, when aggregates are made of them, but not for ever.
                let anyway = even_without_aggregates || levels(every_ms).is_empty();
                let asked = params![stream, samples, FINE_MS, limits.fine, COARSE_MS, limits.coarse, anyway];
                let rows = statement.query_map(asked, |row| row.get(0));
                rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
            })?;
            done.expired += ids.len();
            self.hide_blocks(&ids)?;
        }
        let mut writer = self.writer();
        done.expired += self.writing(&mut writer, None, |transaction, _| {
            // Sums of hours (kind 3) are kept as long as 5-minute aggregates.
            let sql = "DELETE FROM record WHERE folded = 1 AND end_ms < iif(kind = 3, ?2, ?1)";
            transaction.execute(sql, [limits.samples, limits.fine]).map_err(|error| self.sqlite(error))
        })?;
        drop(writer);
        self.sweep()
    }

    /// Forgets series that have nothing left, and labels that only they had.
    pub(super) fn forget_series(&self, done: &mut Maintained) -> Result<()> {
        let oldest = self.reading(|connection| self.oldest_by_stream(connection))?;
        if over(&self.index(), &oldest).next().is_none() {
            return Ok(());
        }
        loop {
            let gone = self.forget_some()?;
            done.forgotten_series += gone;
            if gone < SERIES_AT_ONCE {
                return Ok(());
            }
        }
    }

    /// The moment before which a stream has nothing; streams that have nothing at all are left out.
    fn oldest_by_stream(&self, connection: &Connection) -> Result<HashMap<StreamId, i64>> {
        let sql = "SELECT stream, min(at) FROM (SELECT stream, min(start_ms) AS at FROM block GROUP BY stream \
             UNION ALL SELECT stream, min(at_ms) FROM fresh GROUP BY stream) GROUP BY stream";
        let mut statement = connection.prepare_cached(sql).map_err(|error| self.sqlite(error))?;
        // A stretch begins before its end, which is all that its block tells.
        let before = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?.saturating_sub(COARSE_MS)));
        let rows = statement.query_map([], before);
        rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
    }

    fn forget_some(&self) -> Result<usize> {
        let mut writer = self.writer();
        // Asked again: nobody appends while the writer is held.
        let oldest = self.oldest_by_stream(&writer.connection)?;
        let (gone, unused) = {
            let index = self.index();
            let gone: Vec<(SeriesId, StreamId)> = over(&index, &oldest).take(SERIES_AT_ONCE).collect();
            let unused = index.unused_labels(&gone.iter().map(|(id, _)| *id).collect::<Vec<_>>());
            (gone, unused)
        };
        if gone.is_empty() {
            return Ok(0);
        }
        let ids: Vec<SeriesId> = gone.iter().map(|(id, _)| *id).collect();
        self.writing(&mut writer, None, |transaction, _| {
            let both = [("DELETE FROM series WHERE id = ?1", &ids), ("DELETE FROM label WHERE id = ?1", &unused)];
            for (sql, ids) in both {
                let mut statement = transaction.prepare_cached(sql).map_err(|error| self.sqlite(error))?;
                for id in ids {
                    statement.execute([id]).map_err(|error| self.sqlite(error))?;
                }
            }
            Ok(())
        })?;
        let mut index = self.index_mut();
        for (id, stream) in &gone {
            if let (Some(known), Some(stream)) = (index.get(*id), writer.stream_with(*stream)) {
                stream.forget(*id, &known.labels);
            }
        }
        index.remove(&ids);
        Ok(ids.len())
    }

    /// Bytes that are in use, with what the write-ahead log holds left out.
    fn used_bytes(&self) -> Result<u64> {
        let [pages, free, size] = self.pages()?;
        Ok(pages.saturating_sub(free) * size)
    }

    /// How many pages the file has, how many of them are free, and how large one is.
    fn pages(&self) -> Result<[u64; 3]> {
        self.reading(|connection| {
            let ask = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
            let all = ask("PRAGMA page_count").and_then(|pages| {
                Ok([pages, ask("PRAGMA freelist_count")?, ask("PRAGMA page_size")?].map(i64::unsigned_abs))
            });
            all.map_err(|error| self.sqlite(error))
        })
    }

    /// Gives free pages back to the file system, some at a time. A few are kept: the next rows need them.
    pub(super) fn shrink(&self) -> Result<()> {
        loop {
            let [pages, free, size] = self.pages()?;
            let over = self.settings.max_bytes.is_some_and(|most| pages * size > most);
            let keep = if over { 0 } else { (pages / 50).max(8) };
            if free <= keep {
                break;
            }
            let some = u32::try_from(free - keep).unwrap_or(PAGES_AT_ONCE).min(PAGES_AT_ONCE);
            let writer = self.writer();
            // The pragma gives a row per page, or none; it goes on as long as somebody asks.
            let mut statement = writer
                .connection
                .prepare(&format!("PRAGMA incremental_vacuum({some})"))
                .map_err(|error| self.sqlite(error))?;
            let mut rows = statement.query([]).map_err(|error| self.sqlite(error))?;
            while rows.next().map_err(|error| self.sqlite(error))?.is_some() {}
        }
        Ok(())
    }

    /// Moves what the write-ahead log holds into the file, and syncs both.
    pub(super) fn checkpoint(&self) -> Result<()> {
        let writer = self.writer();
        writer
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|error| self.sqlite(error))
    }
}

/// The series that ended before everything that their stream has.
fn over<'a>(index: &'a Index, oldest: &'a HashMap<StreamId, i64>) -> impl Iterator<Item = (SeriesId, StreamId)> + 'a {
    let over = |known: &Known| {
        let last = known.last_ms.or_else(|| index.newest(known.stream)).unwrap_or(i64::MIN);
        last < oldest.get(&known.stream).copied().unwrap_or(i64::MAX)
    };
    index.iter().filter(move |(_, known)| over(known)).map(|(id, known)| (id, known.stream))
}
