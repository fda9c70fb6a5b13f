//! Aggregates: what a series did in 5 minutes and in 1 hour, for times whose samples are gone and for questions that
//! can be answered as well from them. A day's are made when the day is over.

use rusqlite::{Connection, params};
use surus_core::series::Window;

use super::append::LATE_MS;
use super::block::{Block, HIDDEN, chunk_from_bytes, chunk_id};
use super::bytes::{Cursor, put, seal, unseal};
use super::codec::{Presence, State, put_values, take_values};
use super::{Damage, Maintained, SampleStore, SeriesId, StreamId};
use crate::{Result, StoreError};

/// 5 minutes.
pub(super) const FINE_MS: i64 = 300_000;
/// 1 hour.
pub(super) const COARSE_MS: i64 = 3_600_000;

const DAY_MS: i64 = 86_400_000;

/// Of one block: a day has no more.
const MAX_BUCKETS: usize = (DAY_MS / FINE_MS) as usize;

/// Series whose aggregates are made at the same time: bounds the memory.
const SERIES_AT_ONCE: usize = 512;

/// What a series did in one stretch: after `end - length`, up to and with `end`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bucket {
    pub count: u32,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
    pub last: f64,
    /// A stale marker came last.
    pub ended: bool,
}

impl Bucket {
    const NONE: Self = Self { count: 0, sum: 0.0, min: f64::NAN, max: f64::NAN, last: f64::NAN, ended: true };

    fn add(&mut self, value: f64) {
        *self = self.and(&Self { count: 1, sum: value, min: value, max: value, last: value, ended: false });
    }

    /// This one and the next one as one. An ordinary NaN is the least and the greatest only where nothing else is, as
    /// `min_over_time` and `max_over_time` have it.
    fn and(&self, next: &Self) -> Self {
        if self.count == 0 || next.count == 0 {
            let full = if self.count == 0 { next } else { self };
            return Self { ended: next.ended, ..*full };
        }
        let lesser = |a: f64, b: f64| if b < a || a.is_nan() { b } else { a };
        let greater = |a: f64, b: f64| if b > a || a.is_nan() { b } else { a };
        Self {
            count: self.count + next.count,
            sum: self.sum + next.sum,
            min: lesser(self.min, next.min),
            max: greater(self.max, next.max),
            last: next.last,
            ended: next.ended,
        }
    }
}

/// Which number of a bucket stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Last,
    Min,
    Max,
    Mean,
    Sum,
}

/// The aggregates of one series, one per stretch of a block.
pub(super) type Buckets = Vec<Option<Bucket>>;

fn to_bytes(buckets: &[Option<Bucket>], id: i64) -> Vec<u8> {
    let mut presence = Presence::default();
    for bucket in buckets {
        presence.push(match bucket {
            None => State::Absent,
            Some(bucket) if bucket.count == 0 => State::Ended,
            Some(bucket) if bucket.ended => State::ValueThenEnded,
            Some(_) => State::Value,
        });
    }
    let full: Vec<&Bucket> = buckets.iter().flatten().filter(|bucket| bucket.count > 0).collect();
    let column = |number: fn(&Bucket) -> f64| full.iter().map(|bucket| number(bucket)).collect::<Vec<f64>>();
    let (last, min, max) = (column(|bucket| bucket.last), column(|bucket| bucket.min), column(|bucket| bucket.max));
    let sum = column(|bucket| bucket.sum);
    let steady = column(|bucket| f64::from(bucket.count) * bucket.last);
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    // Most series do not change in most stretches, and counters end at their greatest.
    let own = [!same(&min, &last), !same(&max, &last), !same(&sum, &steady)];
    let mut out = Vec::new();
    presence.put(&mut out);
    put(&mut out, own.iter().enumerate().map(|(bit, own)| u64::from(*own) << bit).sum());
    put_values(&mut out, &column(|bucket| f64::from(bucket.count)));
    put_values(&mut out, &last);
    for (values, _) in [&min, &max, &sum].into_iter().zip(own).filter(|(_, own)| *own) {
        put_values(&mut out, values);
    }
    seal(out, &[id])
}

pub(super) fn from_bytes(data: &[u8], id: i64, cycles: usize) -> std::result::Result<Buckets, Damage> {
    let mut cursor = Cursor(unseal(data, &[id])?);
    let presence = Presence::take(&mut cursor, u32::try_from(cycles).unwrap_or(u32::MAX))?;
    let count = presence.values();
    let own = cursor.take()?;
    let mut column = || {
        let mut values = Vec::with_capacity(count.min(MAX_BUCKETS));
        take_values(&mut cursor, count, &mut values).map(|()| values)
    };
    let (counts, last) = (column()?, column()?);
    let mut other = |bit: u64| if own & bit == 0 { Ok(None) } else { column().map(Some) };
    let (min, max, sum) = (other(1)?, other(2)?, other(4)?);
    let mut buckets = Vec::with_capacity(cycles);
    let mut at = 0;
    for (state, length) in &presence.0 {
        for _ in 0..*length {
            buckets.push(match state {
                State::Absent => None,
                State::Ended => Some(Bucket::NONE),
                State::Value | State::ValueThenEnded => {
                    let of = |column: &Option<Vec<f64>>, else_: f64| column.as_ref().map_or(else_, |column| column[at]);
                    let bucket = Bucket {
                        count: counts[at] as u32,
                        sum: of(&sum, counts[at] * last[at]),
                        min: of(&min, last[at]),
                        max: of(&max, last[at]),
                        last: last[at],
                        ended: *state == State::ValueThenEnded,
                    };
                    at += 1;
                    Some(bucket)
                }
            });
        }
    }
    Ok(buckets)
}

/// The end of the stretch of this length that holds a moment.
fn end_of(at_ms: i64, bucket_ms: i64) -> i64 {
    (at_ms - 1).div_euclid(bucket_ms) * bucket_ms + bucket_ms
}

/// Which aggregates a stream gets: those that stand for more than a sample or two.
pub(super) fn levels(every_ms: i64) -> &'static [i64] {
    match every_ms {
        ..=100_000 => &[FINE_MS, COARSE_MS],
        100_001..=1_200_000 => &[COARSE_MS],
        _ => &[],
    }
}

impl SampleStore {
    /// Makes the aggregates of every day that is over and folded, and has none yet.
    pub(super) fn aggregate(&self, now_ms: i64, done: &mut Maintained) -> Result<()> {
        let streams: Vec<(StreamId, i64)> = {
            let writer = self.writer();
            let streams = writer.targets.values().flat_map(|target| target.streams.values());
            streams.map(|stream| (stream.id, stream.every_ms)).collect()
        };
        let mut lost = None;
        for (stream, every_ms) in streams {
            let levels = levels(every_ms);
            if levels.is_empty() {
                continue;
            }
            for day in self.reading(|connection| self.days_without(connection, stream))? {
                let day = Window { after_ms: day * DAY_MS, until_ms: (day + 1) * DAY_MS };
                let fresh = self.reading(|connection| self.oldest_fresh(connection, stream))?;
                let folded = fresh.is_none_or(|fresh| fresh > day.until_ms);
                if day.until_ms.saturating_add(LATE_MS) > now_ms || !folded {
                    break;
                }
                for bucket_ms in levels {
                    match self.aggregate_day(stream, day, *bucket_ms, done) {
                        Err(error @ StoreError::Damaged { .. }) => lost = Some(error),
                        other => other?,
                    }
                }
            }
        }
        lost.map_or(Ok(()), Err)
    }

    /// The days that have samples in blocks and no aggregates, by their number since 1970.
    fn days_without(&self, connection: &Connection, stream: StreamId) -> Result<Vec<i64>> {
        let mut statement = connection
            .prepare_cached(
                "SELECT DISTINCT (end_ms - 1) / 86400000 AS day FROM block WHERE stream = ?1 AND bucket_ms = 0 \
                 EXCEPT SELECT (end_ms - 1) / 86400000 FROM block WHERE stream = ?1 AND bucket_ms = ?2 ORDER BY day",
            )
            .map_err(|error| self.sqlite(error))?;
        let rows = statement.query_map([i64::from(stream), COARSE_MS], |row| row.get(0));
        rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
    }

    fn aggregate_day(&self, stream: StreamId, day: Window, bucket_ms: i64, done: &mut Maintained) -> Result<()> {
        self.reading(|connection| {
            let blocks = self.blocks(connection, stream, 0, day)?;
            let mut ends: Vec<i64> =
                blocks.iter().flat_map(|block| &block.times).map(|at_ms| end_of(*at_ms, bucket_ms)).collect();
            ends.dedup();
            let mut ids: Vec<SeriesId> = blocks.iter().flat_map(|block| &block.series).copied().collect();
            ids.sort_unstable();
            ids.dedup();
            let block = self.begin_block(stream, &ends, &ids)?;
            let mut lost = None;
            for some in ids.chunks(SERIES_AT_ONCE) {
                let mut chunks = Vec::with_capacity(some.len());
                for id in some {
                    let buckets = self.buckets_of(connection, &blocks, *id, &ends, bucket_ms, &mut lost)?;
                    let id = chunk_id(block, *id);
                    chunks.push((id, to_bytes(&buckets, id)));
                }
                self.write_chunks(&chunks)?;
            }
            let mut writer = self.writer();
            self.writing(&mut writer, None, |transaction, _| {
                // One that was made before something else of the day failed is replaced.
                transaction
                    .execute(
                        "UPDATE block SET bucket_ms = ?1 WHERE stream = ?2 AND bucket_ms = ?3 AND end_ms > ?4 \
                         AND end_ms <= ?5",
                        params![HIDDEN, stream, bucket_ms, day.after_ms, day.until_ms],
                    )
                    .and_then(|_| {
                        transaction.execute("UPDATE block SET bucket_ms = ?2 WHERE id = ?1", [block, bucket_ms])
                    })
                    .map_err(|error| self.sqlite(error))
            })?;
            drop(writer);
            done.aggregates += ids.len();
            lost.map_or(Ok(()), Err)
        })
    }

    fn buckets_of(
        &self,
        connection: &Connection,
        blocks: &[Block],
        series: SeriesId,
        ends: &[i64],
        bucket_ms: i64,
        lost: &mut Option<StoreError>,
    ) -> Result<Buckets> {
        let mut buckets: Buckets = vec![None; ends.len()];
        for block in blocks {
            let mut values = Vec::new();
            let read = |data: &[u8], id| chunk_from_bytes(data, id, block.times.len(), &mut values);
            let presence = match self.chunk(connection, block, series, read) {
                Ok(Some(presence)) => presence,
                Ok(None) => continue,
                // The rest of the day must not wait for what does not come back.
                Err(error @ StoreError::Damaged { .. }) => {
                    *lost = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (mut times, mut values) = (block.times.iter(), values.into_iter());
            for (state, length) in presence.0 {
                for at_ms in times.by_ref().take(length as usize) {
                    if state == State::Absent {
                        continue;
                    }
                    let place = ends.partition_point(|end| *end < end_of(*at_ms, bucket_ms));
                    let bucket = buckets[place].get_or_insert(Bucket::NONE);
                    match if state.has_value() { values.next() } else { None } {
                        Some(value) => bucket.add(value),
                        None => bucket.ended = true,
                    }
                }
            }
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bucket() -> impl Strategy<Value = Option<Bucket>> {
        let values = prop::collection::vec(-100i32..100, 0..6).prop_map(|values| {
            let mut bucket = Bucket::NONE;
            values.iter().for_each(|value| bucket.add(f64::from(*value) / 4.0));
            bucket
        });
        prop_oneof![Just(None), values.prop_map(Some)]
    }

    fn bits(buckets: &[Option<Bucket>]) -> Vec<Option<(u32, [u64; 4], bool)>> {
        let numbers = |bucket: &Bucket| [bucket.sum, bucket.min, bucket.max, bucket.last].map(f64::to_bits);
        buckets.iter().map(|bucket| bucket.map(|bucket| (bucket.count, numbers(&bucket), bucket.ended))).collect()
    }

    proptest! {
        #[test]
        fn any_buckets_come_back(buckets in prop::collection::vec(bucket(), 1..100)) {
            let data = to_bytes(&buckets, 5);
            prop_assert_eq!(bits(&from_bytes(&data, 5, buckets.len()).unwrap()), bits(&buckets));
        }
    }

    #[test]
    fn a_nan_is_the_least_only_where_nothing_else_is() {
        let mut bucket = Bucket::NONE;
        bucket.add(f64::NAN);
        assert!(bucket.min.is_nan() && bucket.count == 1 && !bucket.ended);
        bucket.add(2.0);
        assert_eq!((bucket.min, bucket.max, bucket.last), (2.0, 2.0, 2.0));
        bucket.add(f64::NAN);
        assert_eq!((bucket.min, bucket.max), (2.0, 2.0));
        assert_eq!((end_of(300_000, FINE_MS), end_of(300_001, FINE_MS)), (300_000, 600_000));
    }
}
