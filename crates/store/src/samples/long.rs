//! Reading aggregates in place of samples.
//!
//! Samples win: aggregates are read only
//! - for times whose samples retention has taken: 5-minute ones, and before these 1-hour ones; or
//! - for `max_over_time` and `min_over_time` with a range, a step and a beginning that are multiples of the stretch:
//!   then
//!   every range consists of whole stretches, and the answer is the same one.
//!
//! One value stands for a stretch, at its end: the greatest for `max_over_time`, the least for `min_over_time`, the
//! mean for `avg_over_time`, the sum for `sum_over_time`, else the last one (which makes `rate` and `increase` right
//! but for what a counter gained between its last value of a stretch and a reset in the next one). For an instant
//! selector the value of an hour stands at each of its 5-minute marks, or its look-back would not find it.

use rusqlite::{Connection, OptionalExtension as _, params};
use surus_core::series::{Hints, Window, stale};

use super::aggregate::{self, Bucket, COARSE_MS, FINE_MS, Stand};
use super::read::Reading;
use super::{SampleStore, StreamId};
use crate::Result;

/// An instant selector looks back at most this far.
const LOOKBACK_MS: i64 = FINE_MS;

/// Which number stands for a stretch.
fn stand(hints: Hints<'_>) -> Stand {
    match hints.function {
        Some("max_over_time") => Stand::Max,
        Some("min_over_time") => Stand::Min,
        Some("avg_over_time") => Stand::Mean,
        Some("sum_over_time") => Stand::Sum,
        _ => Stand::Last,
    }
}

fn number(bucket: &Bucket, stand: Stand, instant: bool) -> f64 {
    if bucket.count == 0 || (instant && bucket.ended) {
        return stale();
    }
    match stand {
        Stand::Last => bucket.last,
        Stand::Min => bucket.min,
        Stand::Max => bucket.max,
        Stand::Mean => bucket.sum / f64::from(bucket.count),
        Stand::Sum => bucket.sum,
    }
}

/// The longest stretch of which every range that is asked for consists, where that gives the same answer.
fn exact(window: Window, hints: Hints<'_>) -> Option<i64> {
    let whole = |stretch: &i64| [window.after_ms, hints.step_ms, hints.range_ms].iter().all(|ms| ms % stretch == 0);
    let same = matches!(stand(hints), Stand::Max | Stand::Min) && hints.range_ms > 0;
    [COARSE_MS, FINE_MS].into_iter().find(|stretch| same && whole(stretch))
}

impl SampleStore {
    /// Adds aggregates for the beginning of the window, where they are to be read; returns the rest of the window,
    /// whose samples are to be read.
    pub(super) fn read_aggregates(
        &self,
        connection: &Connection,
        stream: StreamId,
        window: Window,
        hints: Hints<'_>,
        reading: &mut Reading,
    ) -> Result<Window> {
        let oldest = |bucket_ms| self.edge(connection, stream, bucket_ms, "min(end_ms)");
        // Samples since, and aggregates before.
        let mut since = match oldest(0)? {
            Some(_) => self.oldest_sample(connection, stream)?,
            None => self.oldest_fresh(connection, stream)?,
        }
        .unwrap_or(i64::MAX);
        if let Some(bucket_ms) = exact(window, hints)
            && let Some(end) = self.edge(connection, stream, bucket_ms, "max(end_ms)")?
        {
            since = since.max(end.saturating_add(1));
            let levels: &[i64] = if bucket_ms == COARSE_MS { &[COARSE_MS] } else { &[COARSE_MS, FINE_MS] };
            return self.read_levels(connection, stream, window, hints, levels, since, reading);
        }
        if since <= window.after_ms {
            return Ok(window);
        }
        self.read_levels(connection, stream, window, hints, &[COARSE_MS, FINE_MS], since, reading)
    }

    #[allow(clippy::too_many_arguments, reason = "what a level is read for")]
    fn read_levels(
        &self,
        connection: &Connection,
        stream: StreamId,
        window: Window,
        hints: Hints<'_>,
        levels: &[i64],
        since: i64,
        reading: &mut Reading,
    ) -> Result<Window> {
        for (number, bucket_ms) in levels.iter().enumerate() {
            // A longer stretch only before the first of the shorter ones.
            let mut before = since;
            for finer in &levels[number + 1..] {
                let first = self.oldest_start(connection, stream, *finer)?;
                before = first.map_or(before, |first| before.min(first));
            }
            let after_ms = reading.times.last().copied().unwrap_or(window.after_ms);
            self.read_level(connection, stream, *bucket_ms, Window { after_ms, ..window }, before, hints, reading)?;
        }
        Ok(Window { after_ms: window.after_ms.max(since.saturating_sub(1)), ..window })
    }

    /// Adds the stretches that end before a moment.
    #[allow(clippy::too_many_arguments, reason = "what a level is read for")]
    fn read_level(
        &self,
        connection: &Connection,
        stream: StreamId,
        bucket_ms: i64,
        window: Window,
        before: i64,
        hints: Hints<'_>,
        reading: &mut Reading,
    ) -> Result<()> {
        let instant = hints.function.is_none() && hints.range_ms <= LOOKBACK_MS;
        let marks = if instant { bucket_ms / FINE_MS } else { 1 };
        // A stretch may end after the window and have marks in it.
        let wider = Window { until_ms: window.until_ms.saturating_add((marks - 1) * FINE_MS), ..window };
        for block in self.blocks(connection, stream, bucket_ms, wider)? {
            let mut wanted = Vec::new();
            for (at, end) in block.times.iter().enumerate().filter(|(_, end)| **end < before) {
                let own = (0..marks).rev().map(|mark| end - mark * FINE_MS).filter(|at_ms| window.holds(*at_ms));
                wanted.extend(own.map(|at_ms| (at, at_ms)));
            }
            let mut all = Vec::with_capacity(reading.ids.len());
            for series in &reading.ids {
                let read = |data: &[u8], id| aggregate::from_bytes(data, id, block.times.len());
                all.push(self.chunk(connection, &block, *series, read)?);
            }
            for (at, at_ms) in wanted {
                for (place, buckets) in all.iter().enumerate() {
                    let bucket = buckets.as_ref().and_then(|buckets| buckets[at].as_ref());
                    reading.push(place, at_ms, bucket.map(|bucket| number(bucket, stand(hints), instant)));
                }
                reading.times.push(at_ms);
            }
        }
        Ok(())
    }

    fn edge(&self, connection: &Connection, stream: StreamId, bucket_ms: i64, which: &str) -> Result<Option<i64>> {
        let sql = format!("SELECT {which} FROM block WHERE stream = ?1 AND bucket_ms = ?2");
        connection
            .prepare_cached(&sql)
            .and_then(|mut statement| statement.query_row(params![stream, bucket_ms], |row| row.get(0)))
            .map_err(|error| self.sqlite(error))
    }

    fn oldest_sample(&self, connection: &Connection, stream: StreamId) -> Result<Option<i64>> {
        self.oldest_start(connection, stream, 0)
    }

    /// The first time of the oldest block.
    pub(super) fn oldest_start(
        &self,
        connection: &Connection,
        stream: StreamId,
        bucket_ms: i64,
    ) -> Result<Option<i64>> {
        connection
            .prepare_cached("SELECT start_ms FROM block WHERE stream = ?1 AND bucket_ms = ?2 ORDER BY end_ms LIMIT 1")
            .and_then(|mut statement| statement.query_row(params![stream, bucket_ms], |row| row.get(0)).optional())
            .map_err(|error| self.sqlite(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_stretches_give_the_same_answer() {
        let hints = |function, step_ms, range_ms| Hints { step_ms, range_ms, function: Some(function) };
        let window = Window { after_ms: 5 * COARSE_MS, until_ms: 10 * COARSE_MS };
        assert_eq!(exact(window, hints("max_over_time", COARSE_MS, COARSE_MS)), Some(COARSE_MS));
        assert_eq!(exact(window, hints("min_over_time", 0, FINE_MS)), Some(FINE_MS));
        assert_eq!(exact(window, hints("max_over_time", 60_000, COARSE_MS)), None);
        assert_eq!(exact(window, hints("rate", COARSE_MS, COARSE_MS)), None);
        assert_eq!(exact(Window { after_ms: 1, ..window }, hints("max_over_time", 0, FINE_MS)), None);
        assert_eq!(exact(window, Hints { function: None, ..hints("", COARSE_MS, COARSE_MS) }), None);
    }
}
