//! When the machine's clock is wrong: ahead, so that everything looks old, or set back after it was ahead.

use std::collections::BTreeSet;

use rusqlite::params;

use super::append::{Change, Late, next_cycle};
use super::{Appended, Batch, SampleStore, Writer};
use crate::{Result, StoreError};

const HOUR_MS: i64 = 3_600_000;

/// A step in time that is not believed at once. Stretches are up to a day long, and a machine may be off overnight.
const LEAP_MS: i64 = 48 * HOUR_MS;

/// Hours with something in them that make a time believed.
const PROOF_HOURS: usize = 24;

/// Cycles in a row that are refused as too late before the clock counts as set back. One may be a straggler.
const SET_BACK: u32 = 3;

impl SampleStore {
    /// The time from which the age of what is stored counts: `now_ms`, unless it is more than two days ahead of
    /// everything that belongs together with it, and less than 24 hours have been stored since that step. Then it is
    /// the time before the step: a clock that is ahead for less than a day deletes nothing.
    pub(super) fn believed(&self, now_ms: i64) -> Result<i64> {
        // The ends alone are in an index, and mostly enough: fewer hours only make it more careful.
        let fresh = "SELECT at_ms / 3600000 AS last, at_ms / 3600000 AS first FROM fresh";
        let ends = format!("{fresh} UNION SELECT end_ms / 3600000, end_ms / 3600000 FROM block WHERE bucket_ms >= 0");
        let by_ends = believed(&self.hours(&ends)?, now_ms);
        if by_ends == now_ms {
            return Ok(now_ms);
        }
        let whole =
            format!("{fresh} UNION SELECT end_ms / 3600000, start_ms / 3600000 FROM block WHERE bucket_ms >= 0");
        Ok(believed(&self.hours(&whole)?, now_ms))
    }

    /// The hours in which something is stored, ascending.
    fn hours(&self, stretches: &str) -> Result<Vec<i64>> {
        let stretches: Vec<(i64, i64)> = self.reading(|connection| {
            let mut statement = connection.prepare_cached(stretches).map_err(|error| self.sqlite(error))?;
            let rows = statement.query_map([], |row| row.try_into());
            rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
        })?;
        // A stretch is a day at most.
        let hours = |(last, first): (i64, i64)| first.max(last - 24)..=last;
        Ok(stretches.into_iter().flat_map(hours).collect::<BTreeSet<i64>>().into_iter().collect())
    }

    /// A cycle came too late. When several did in a row, later ones after earlier ones, it is the clock that was set
    /// back: what the stream has stays under another name, its series end there, and a new stream begins.
    ///
    /// # Errors
    /// `refused`, when the cycle stays refused; as [`SampleStore::append`].
    pub(super) fn too_late(&self, writer: &mut Writer, batch: &Batch<'_>, refused: StoreError) -> Result<()> {
        let Some(stream) = writer.stream_mut(batch.target, batch.group) else { return Err(refused) };
        let times = stream.late.filter(|late| late.at_ms < batch.at_ms).map_or(1, |late| late.times + 1);
        stream.late = Some(Late { times, at_ms: batch.at_ms });
        let (id, newest_ms, ends) = (stream.id, stream.newest_ms, !stream.alive.is_empty());
        if times < SET_BACK {
            return Err(refused);
        }
        if let (true, Some(newest_ms)) = (ends, newest_ms) {
            let place = writer.place(batch)?;
            let mut change = Change::default();
            let stream = writer.stream(batch.target, batch.group);
            next_cycle(stream, newest_ms + 1, Vec::new(), &mut change, &mut Appended::default());
            self.commit(writer, batch.target, batch.group, place, change, newest_ms + 1)?;
        }
        let aside = format!("{} (set aside, stream {id})", batch.group);
        self.writing(writer, None, |transaction, _| {
            let sql = "UPDATE stream SET name = ?2 WHERE id = ?1";
            transaction.execute(sql, params![id, aside]).map_err(|error| self.sqlite(error))
        })?;
        if let Some(target) = writer.targets.get_mut(batch.target)
            && let Some(stream) = target.streams.remove(batch.group)
        {
            target.streams.insert(aside, stream);
        }
        Ok(())
    }
}

fn believed(hours: &[i64], now_ms: i64) -> i64 {
    // The newest time that has enough after it.
    let Some(proven) = hours.len().checked_sub(PROOF_HOURS).or((!hours.is_empty()).then_some(0)) else { return now_ms };
    let next = hours[proven..].iter().skip(1).map(|hour| hour * HOUR_MS).chain([now_ms]);
    let mut end_ms = hours[proven] * HOUR_MS;
    for at_ms in next {
        if at_ms > end_ms.saturating_add(LEAP_MS) {
            // All of that hour.
            return now_ms.min(end_ms + HOUR_MS);
        }
        end_ms = end_ms.max(at_ms);
    }
    now_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24;
    const YEAR: i64 = 365 * DAY;

    fn at(hours: &[(i64, i64)], now: i64) -> i64 {
        let hours: Vec<i64> = hours.iter().flat_map(|(from, to)| *from..*to).collect();
        believed(&hours, now * HOUR_MS) / HOUR_MS
    }

    #[test]
    fn a_clock_that_is_ahead_is_believed_after_a_day() {
        let now = 50 * YEAR;
        assert_eq!(at(&[], now), now);
        assert_eq!(at(&[(now - 10, now)], now), now);
        assert_eq!(at(&[(now - YEAR, now)], now), now);
        // Ahead, before anything and after something was stored with it.
        assert_eq!(at(&[(now - YEAR, now)], now + YEAR), now);
        assert_eq!(at(&[(now - YEAR, now), (now + YEAR, now + YEAR + 23)], now + YEAR + 23), now);
        assert_eq!(at(&[(now - 2, now), (now + YEAR, now + YEAR + 3)], now + YEAR + 3), now);
        // It stays there.
        assert_eq!(at(&[(now - YEAR, now), (now + YEAR, now + YEAR + 24)], now + YEAR + 24), now + YEAR + 24);
        // It is right again; what was stored with it does not matter.
        assert_eq!(at(&[(now - YEAR, now + 5), (now + YEAR, now + YEAR + 3)], now + 5), now + 5);
        // Twice wrong.
        assert_eq!(at(&[(0, 5), (now - YEAR, now), (now + YEAR, now + YEAR + 3)], now + 3 * YEAR), now);
    }

    #[test]
    fn a_machine_that_is_often_off_is_believed_in_the_end() {
        assert_eq!(at(&[(0, 100), (116, 124), (140, 148)], 148), 148, "off at night");
        let weeks: Vec<_> = (0..60).map(|week| (week * 7 * DAY, week * 7 * DAY + 1)).collect();
        assert_eq!(at(&weeks, 60 * 7 * DAY), 36 * 7 * DAY + 1, "on for an hour a week");
    }
}
