//! Going over many records without keeping them: strings are borrowed from the unpacked row, rows are worked on by two
//! or more threads, and what each thread made of its rows is put together at the end.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, marker::PhantomData};

use rusqlite::params;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use surus_core::series::Window;

use super::bytes::unseal;
use super::record::{Activity, Kind, MAX_ROW, Moment, QueryDelta, SessionSample, target_id};
use super::{Damage, SampleStore, sessions};
use crate::{Result, StoreError};

/// A string of a record. Derefs to `str`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        // serde owns the text of any `Option<Cow<str>>`; this one is borrowed unless it has escapes.
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Cow<'de, str>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> std::result::Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrowing).map(Text)
    }
}

/// A [`SessionSample`] whose strings are those of the row that it is in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SessionRef<'a> {
    #[serde(rename = "p")]
    pub pid: i32,
    #[serde(rename = "d", default, borrow)]
    pub database: Option<Text<'a>>,
    #[serde(rename = "u", default, borrow)]
    pub user: Option<Text<'a>>,
    #[serde(rename = "a", default, borrow)]
    pub application: Option<Text<'a>>,
    /// The client's address; none on a Unix socket.
    #[serde(rename = "c", default, borrow)]
    pub client: Option<Text<'a>>,
    #[serde(rename = "b", default, borrow)]
    pub backend_type: Option<Text<'a>>,
    #[serde(rename = "s", default, borrow)]
    pub state: Option<Text<'a>>,
    /// None while it is on a CPU.
    #[serde(rename = "wt", default, borrow)]
    pub wait_event_type: Option<Text<'a>>,
    #[serde(rename = "w", default, borrow)]
    pub wait_event: Option<Text<'a>>,
    #[serde(rename = "q", default)]
    pub query_id: Option<i64>,
    /// The processes that it waits for.
    #[serde(rename = "bl", default)]
    pub blocked_by: Vec<i32>,
    #[serde(rename = "x", default)]
    pub transaction_age_ms: Option<i64>,
    #[serde(rename = "qa", default)]
    pub query_age_ms: Option<i64>,
    /// The leader, for a parallel worker.
    #[serde(rename = "l", default)]
    pub leader_pid: Option<i32>,
}

impl SessionRef<'_> {
    /// The same, to be kept.
    pub fn to_sample(&self) -> SessionSample {
        let owned = |text: &Option<Text<'_>>| text.as_deref().map(str::to_owned);
        SessionSample {
            pid: self.pid,
            database: owned(&self.database),
            user: owned(&self.user),
            application: owned(&self.application),
            client: owned(&self.client),
            backend_type: owned(&self.backend_type),
            state: owned(&self.state),
            wait_event_type: owned(&self.wait_event_type),
            wait_event: owned(&self.wait_event),
            query_id: self.query_id,
            blocked_by: self.blocked_by.clone(),
            transaction_age_ms: self.transaction_age_ms,
            query_age_ms: self.query_age_ms,
            leader_pid: self.leader_pid,
        }
    }
}

/// One look at the sessions; there may have been no active ones.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub at_ms: i64,
    pub sessions: &'a [SessionRef<'a>],
}

/// A [`QueryDelta`] whose names are those of the row that it is in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct QueryDeltaRef<'a> {
    #[serde(rename = "q")]
    pub query_id: i64,
    #[serde(rename = "u", borrow)]
    pub user: Text<'a>,
    #[serde(rename = "d", borrow)]
    pub database: Text<'a>,
    #[serde(rename = "c")]
    pub calls: i64,
    #[serde(rename = "r")]
    pub rows: i64,
    #[serde(rename = "t")]
    pub exec_time_ms: f64,
    #[serde(rename = "pt")]
    pub plan_time_ms: f64,
    #[serde(rename = "sh")]
    pub shared_blocks_hit: i64,
    #[serde(rename = "sr")]
    pub shared_blocks_read: i64,
    #[serde(rename = "sd")]
    pub shared_blocks_dirtied: i64,
    #[serde(rename = "sw")]
    pub shared_blocks_written: i64,
    #[serde(rename = "tr")]
    pub temp_blocks_read: i64,
    #[serde(rename = "tw")]
    pub temp_blocks_written: i64,
    #[serde(rename = "rt")]
    pub read_time_ms: f64,
    #[serde(rename = "wt")]
    pub write_time_ms: f64,
    #[serde(rename = "wr")]
    pub wal_records: i64,
    #[serde(rename = "wb")]
    pub wal_bytes: i64,
}

impl QueryDelta {
    /// Adds what the same statement added at another time; names stay as they are.
    pub fn add(&mut self, more: &QueryDeltaRef<'_>) {
        self.calls = self.calls.saturating_add(more.calls);
        self.rows = self.rows.saturating_add(more.rows);
        self.exec_time_ms += more.exec_time_ms;
        self.plan_time_ms += more.plan_time_ms;
        self.shared_blocks_hit = self.shared_blocks_hit.saturating_add(more.shared_blocks_hit);
        self.shared_blocks_read = self.shared_blocks_read.saturating_add(more.shared_blocks_read);
        self.shared_blocks_dirtied = self.shared_blocks_dirtied.saturating_add(more.shared_blocks_dirtied);
        self.shared_blocks_written = self.shared_blocks_written.saturating_add(more.shared_blocks_written);
        self.temp_blocks_read = self.temp_blocks_read.saturating_add(more.temp_blocks_read);
        self.temp_blocks_written = self.temp_blocks_written.saturating_add(more.temp_blocks_written);
        self.read_time_ms += more.read_time_ms;
        self.write_time_ms += more.write_time_ms;
        self.wal_records = self.wal_records.saturating_add(more.wal_records);
        self.wal_bytes = self.wal_bytes.saturating_add(more.wal_bytes);
    }
}

/// How finely what statements added is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Every moment as it was appended.
    Moments,
    /// Hours that lie in the window as a whole come as one moment, the last one of the hour, with one sum per
    /// statement, user and database: the same sums, much sooner. The edges of the window still come moment by moment.
    Hours,
}

/// How much was gone over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Looks, those that saw nothing too: sessions by moments are average active sessions.
    pub moments: usize,
    /// Sessions or statements in them.
    pub records: usize,
}

impl Scanned {
    pub(super) fn add(&mut self, more: Self) {
        self.moments += more.moments;
        self.records += more.records;
    }
}

/// A row as it is in the file.
struct Row {
    kind: Kind,
    start_ms: i64,
    end_ms: i64,
    data: Vec<u8>,
}

/// Compressed bytes of rows that are in memory at the same time.
const BYTES_AT_ONCE: usize = 16 << 20;

/// Fewer compressed bytes are not worth another thread.
const BYTES_PER_THREAD: usize = 32 << 10;

/// Threads that work on one question.
const MAX_THREADS: usize = 4;

impl SampleStore {
    /// Goes over the looks in the window. Each thread begins with `start` and shows its looks to `see`, in no order;
    /// `merge` puts together what the threads have.
    ///
    /// # Errors
    /// When there are more sessions than the limit of samples, or they could not be read.
    pub fn fold_activity<A: Send>(
        &self,
        target: &str,
        window: Window,
        start: impl Fn() -> A + Sync,
        see: impl Fn(&mut A, Look<'_>) + Sync,
        merge: impl Fn(&mut A, A),
    ) -> Result<(A, Scanned)> {
        let most = self.settings.max_selected_samples;
        self.scan_activity(target, window, most, start, see, merge)
    }

    /// As [`SampleStore::fold_activity`], with another limit.
    pub(super) fn scan_activity<A: Send>(
        &self,
        target: &str,
        window: Window,
        most: usize,
        start: impl Fn() -> A + Sync,
        see: impl Fn(&mut A, Look<'_>) + Sync,
        merge: impl Fn(&mut A, A),
    ) -> Result<(A, Scanned)> {
        let row =
            |sum: &mut A, bytes: &[u8]| each_look(bytes, window, |at_ms, sessions| see(sum, Look { at_ms, sessions }));
        self.scan(&Question { kinds: &[Kind::Activity], target, window, most }, &start, &row, &merge)
    }

    /// Goes over what statements added in the window, as [`SampleStore::fold_activity`] goes over looks.
    ///
    /// # Errors
    /// As [`SampleStore::fold_activity`].
    pub fn fold_query_deltas<A: Send>(
        &self,
        target: &str,
        window: Window,
        grain: Grain,
        start: impl Fn() -> A + Sync,
        see: impl Fn(&mut A, i64, &QueryDeltaRef<'_>) + Sync,
        merge: impl Fn(&mut A, A),
    ) -> Result<(A, Scanned)> {
        let row = |sum: &mut A, text: &[u8]| {
            each_moment(text, window, |at_ms, deltas: &[QueryDeltaRef<'_>]| {
                deltas.iter().for_each(|delta| see(sum, at_ms, delta));
            })
        };
        let kinds: &[Kind] = match grain {
            Grain::Moments => &[Kind::Queries],
            Grain::Hours => &[Kind::QueryHours, Kind::Queries],
        };
        let most = self.settings.max_selected_samples;
        self.scan(&Question { kinds, target, window, most }, &start, &row, &merge)
    }

    /// The last look at or before a moment, when it was not longer before it than so many milliseconds.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn activity_at(&self, target: &str, at_ms: i64, within_ms: i64) -> Result<Option<Activity>> {
        let window = Window { after_ms: at_ms.saturating_sub(within_ms).saturating_sub(1), until_ms: at_ms };
        let newest = |best: &mut Option<Activity>, look: Look<'_>| {
            if best.as_ref().is_none_or(|best| best.at_ms < look.at_ms) {
                let sessions = look.sessions.iter().map(SessionRef::to_sample).collect();
                *best = Some(Activity { at_ms: look.at_ms, sessions });
            }
        };
        // The newest look of the rows first; then only that one is made into something to keep.
        let later = |best: &mut Option<i64>, look: Look<'_>| *best = (*best).max(Some(look.at_ms));
        let (found, _) =
            self.fold_activity(target, window, || None, later, |best, other| *best = (*best).max(other))?;
        let Some(found) = found else { return Ok(None) };
        let window = Window { after_ms: found - 1, until_ms: found };
        Ok(self.fold_activity(target, window, || None, newest, |best, other| *best = best.take().or(other))?.0)
    }

    fn scan<A: Send>(
        &self,
        question: &Question<'_>,
        start: &(impl Fn() -> A + Sync),
        see: &(impl Fn(&mut A, &[u8]) -> std::result::Result<Scanned, Damage> + Sync),
        merge: &impl Fn(&mut A, A),
    ) -> Result<(A, Scanned)> {
        let Question { kinds, target, window, most } = *question;
        let mut work = Work { store: self, most, start, see, sums: Vec::new(), count: AtomicUsize::new(0) };
        let mut all = Scanned::default();
        self.reading(|connection| {
            let sqlite = |error| self.sqlite(error);
            let Some(target) = target_id(connection, target).map_err(sqlite)? else { return Ok(()) };
            let mut statement = connection
                .prepare_cached(
                    "SELECT start_ms, end_ms, data FROM record WHERE kind = ?1 AND target = ?2 AND folded IN (0, 1) \
                     AND end_ms > ?3 AND start_ms <= ?4",
                )
                .map_err(sqlite)?;
            let (mut batch, mut bytes) = (Vec::new(), 0);
            // Rows whose sum was seen.
            let mut summed: HashMap<(i64, i64), usize> = HashMap::new();
            for kind in kinds {
                let asked = params![*kind as u8, target, window.after_ms, window.until_ms];
                let mut rows = statement.query(asked).map_err(sqlite)?;
                while let Some(row) = rows.next().map_err(sqlite)? {
                    let (start_ms, end_ms): (i64, i64) = (row.get(0).map_err(sqlite)?, row.get(1).map_err(sqlite)?);
                    if *kind == Kind::QueryHours {
                        if !(window.holds(start_ms) && window.holds(end_ms)) {
                            continue;
                        }
                        *summed.entry((start_ms, end_ms)).or_default() += 1;
                    } else if let Some(left) = summed.get_mut(&(start_ms, end_ms)).filter(|left| **left > 0) {
                        *left -= 1;
                        continue;
                    }
                    let data: Vec<u8> = row.get(2).map_err(sqlite)?;
                    bytes += data.len();
                    batch.push(Row { kind: *kind, start_ms, end_ms, data });
                    if bytes > BYTES_AT_ONCE {
                        all.add(work.batch(target, &batch)?);
                        (batch, bytes) = (Vec::new(), 0);
                    }
                }
            }
            all.add(work.batch(target, &batch)?);
            Ok(())
        })?;
        let mut sums = work.sums.into_iter();
        let mut whole = sums.next().unwrap_or_else(start);
        sums.for_each(|sum| merge(&mut whole, sum));
        Ok((whole, all))
    }
}

/// Which rows are gone over.
struct Question<'a> {
    kinds: &'a [Kind],
    target: &'a str,
    window: Window,
    /// Records and moments of the answer.
    most: usize,
}

/// What one question does with rows.
struct Work<'a, A, S, F> {
    store: &'a SampleStore,
    most: usize,
    start: &'a S,
    see: &'a F,
    /// One per thread.
    sums: Vec<A>,
    /// Records and moments so far, of all threads.
    count: AtomicUsize,
}

impl<A, S, F> Work<'_, A, S, F>
where
    A: Send,
    S: Fn() -> A + Sync,
    F: Fn(&mut A, &[u8]) -> std::result::Result<Scanned, Damage> + Sync,
{
    /// Shows all these rows.
    fn batch(&mut self, target: u32, rows: &[Row]) -> Result<Scanned> {
        let bytes: usize = rows.iter().map(|row| row.data.len()).sum();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(MAX_THREADS).min(rows.len()).min(bytes / BYTES_PER_THREAD + 1).max(1);
        while self.sums.len() < threads {
            self.sums.push((self.start)());
        }
        let next = AtomicUsize::new(0);
        let (store, most, see, count) = (self.store, self.most, self.see, &self.count);
        let mut sums = self.sums.iter_mut().take(threads);
        let Some(mine) = sums.next() else { return Ok(Scanned::default()) };
        let work = |sum: &mut A| -> Result<Scanned> {
            let mut unpacked = Unpacked::default();
            let mut seen = Scanned::default();
            while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                let some = unpacked.row(row, target).and_then(|text| see(sum, text));
                let some = some.map_err(|damage| damage.of(&store.path, &format!("records of {}", row.start_ms)))?;
                seen.add(some);
                let count = count.fetch_add(some.records + some.moments, Ordering::Relaxed);
                if count + some.records > most {
                    let why = format!("the answer would have more than {most} records; ask for a shorter range");
                    return Err(StoreError::TooMuch { why });
                }
            }
            Ok(seen)
        };
        std::thread::scope(|scope| {
            let others: Vec<_> = sums.map(|sum| scope.spawn(|| work(sum))).collect();
            let mut seen = work(mine);
            for other in others {
                let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                seen = seen.and_then(|mut seen| {
                    seen.add(other?);
                    Ok(seen)
                });
            }
            seen
        })
    }
}

/// Where rows are unpacked, one after the other.
#[derive(Default)]
struct Unpacked {
    context: Option<zstd::bulk::Decompressor<'static>>,
    text: Vec<u8>,
}

impl Unpacked {
    fn row(&mut self, row: &Row, target: u32) -> std::result::Result<&[u8], Damage> {
        const ODD: Damage = Damage("it does not decompress");
        let data = unseal(&row.data, &[row.kind as i64, i64::from(target), row.start_ms, row.end_ms])?;
        // The frame says how long its content is; a wrong length must not reserve memory.
        let length = zstd::bulk::Decompressor::upper_bound(data).unwrap_or(MAX_ROW).min(MAX_ROW);
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|_| ODD)?),
        };
        self.text.clear();
        self.text.reserve(length);
        context.decompress_to_buffer(data, &mut self.text).map_err(|_| ODD)?;
        Ok(&self.text)
    }
}

/// Shows the looks of a row, of one moment or of some minutes.
pub(super) fn each_look(
    bytes: &[u8],
    window: Window,
    see: impl FnMut(i64, &[SessionRef<'_>]),
) -> std::result::Result<Scanned, Damage> {
    match bytes.first() {
        Some(&sessions::MARK) => sessions::each_look(bytes, window, see),
        _ => each_moment(bytes, window, see),
    }
}

/// Reads the moments of a row and shows those in the window one by one, so that never more than one is in memory.
pub(super) fn each_moment<'de, T: Deserialize<'de>>(
    text: &'de [u8],
    window: Window,
    see: impl FnMut(i64, &[T]),
) -> std::result::Result<Scanned, Damage> {
    struct Each<T, F>(Window, F, PhantomData<T>);
    impl<'de, T: Deserialize<'de>, F: FnMut(i64, &[T])> Visitor<'de> for Each<T, F> {
        type Value = Scanned;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a list of moments")
        }

        fn visit_seq<L: SeqAccess<'de>>(mut self, mut list: L) -> std::result::Result<Scanned, L::Error> {
            let mut seen = Scanned::default();
            while let Some(Moment { t, d }) = list.next_element::<Moment<T>>()? {
                if self.0.holds(t) {
                    seen.add(Scanned { moments: 1, records: d.len() });
                    (self.1)(t, &d);
                }
            }
            Ok(seen)
        }
    }
    let odd = |_| Damage("it is no list of records");
    let mut reader = serde_json::Deserializer::from_slice(text);
    let seen = reader.deserialize_seq(Each(window, see, PhantomData)).map_err(odd)?;
    reader.end().map_err(odd)?;
    Ok(seen)
}
