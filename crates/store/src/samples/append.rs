//! Appending cycles.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use surus_core::series::{Labels, is_stale, stale};

use super::index::{Index, NewSeries, Pending, label_sum};
use super::row::{Values, ids_from_bytes, ids_to_bytes, values_to_bytes};
use super::{Appended, Batch, SampleStore, SeriesId, StreamId, Target, Writer};
use crate::{Result, StoreError};

/// A cycle may come after others that are at most this much newer.
pub(super) const LATE_MS: i64 = 10 * 60 * 1000;

/// Times after this, in the year 2200, are nonsense, and would not fit everywhere.
const MAX_AT_MS: i64 = 7_258_118_400_000;

/// Bytes of the name of a target or a group.
const MAX_NAME: usize = 256;

/// Streams of one target.
const MAX_STREAMS: usize = 1000;

/// What the writer knows about a stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    pub every_ms: i64,
    pub newest_ms: Option<i64>,
    /// Up to here, rows have been folded: nothing may be added.
    pub folded_ms: i64,
    /// The series that the newest cycle has, ascending, without those that ended there.
    pub alive: Vec<SeriesId>,
    known: Known,
    /// The series of the last batch, in its order: most batches have the same.
    last: Vec<SeriesId>,
    /// Cycles in a row that came too late, if the last one did.
    pub late: Option<Late>,
    /// Layouts that were used last, newest first.
    layouts: Vec<(i64, Vec<SeriesId>)>,
}

/// The series of a stream by the hashes of their labels, which the index has.
#[derive(Debug, Default)]
struct Known {
    /// Ascending.
    by_hash: Vec<(u64, SeriesId)>,
}

impl Known {
    fn hash(labels: &Labels) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(labels)
    }

    /// Adds one; [`Known::settle`] must follow the last one.
    fn push(&mut self, id: SeriesId, labels: &Labels) {
        self.by_hash.push((Self::hash(labels), id));
    }

    fn settle(&mut self) {
        self.by_hash.sort_unstable();
        self.by_hash.shrink_to_fit();
    }

    fn find(&self, labels: &Labels, index: &Index) -> Option<SeriesId> {
        let hash = Self::hash(labels);
        let first = self.by_hash.partition_point(|(other, _)| *other < hash);
        let same = self.by_hash[first..].iter().take_while(|(other, _)| *other == hash);
        same.map(|(_, id)| *id).find(|id| index.get(*id).is_some_and(|known| known.labels == *labels))
    }

    fn remove(&mut self, id: SeriesId, labels: &Labels) {
        if let Ok(at) = self.by_hash.binary_search(&(Self::hash(labels), id)) {
            self.by_hash.remove(at);
        }
    }
}

/// Cycles that came too late, and the time of the last one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Late {
    pub times: u32,
    pub at_ms: i64,
}

/// Layouts that are remembered per stream: the usual one, and the one of a cycle in which something ended.
const LAYOUTS: usize = 3;

impl Stream {
    fn new(id: StreamId, every_ms: i64) -> Self {
        Self {
            id,
            every_ms,
            newest_ms: None,
            folded_ms: i64::MIN,
            alive: Vec::new(),
            known: Known::default(),
            last: Vec::new(),
            late: None,
            layouts: Vec::new(),
        }
    }

    /// Series of this stream that are gone for good.
    pub(super) fn forget(&mut self, id: SeriesId, labels: &Labels) {
        self.known.remove(id, labels);
        self.last.clear();
        self.alive.retain(|alive| *alive != id);
    }
}

/// What the writer must know of a file.
pub(super) fn load(path: &Path, connection: Connection, index: &Index) -> Result<Writer> {
    let sqlite = |error| StoreError::from_sqlite(path, error);
    let mut targets: HashMap<String, Target> = HashMap::new();
    let mut statement = connection
        .prepare(
            "SELECT t.id, t.name, s.id, s.name, s.every_ms, \
             (SELECT max(end_ms) FROM block WHERE stream = s.id AND bucket_ms = 0) \
             FROM target AS t LEFT JOIN stream AS s ON s.target = t.id",
        )
        .map_err(sqlite)?;
    let mut streams: HashMap<StreamId, Stream> = HashMap::new();
    let mut names = Vec::new();
    let mut rows = statement.query([]).map_err(sqlite)?;
    while let Some(row) = rows.next().map_err(sqlite)? {
        type Columns = (u32, String, Option<u32>, Option<String>, Option<i64>, Option<i64>);
        let (id, target, stream, name, every_ms, folded): Columns = row.try_into().map_err(sqlite)?;
        targets.entry(target.clone()).or_insert_with(|| Target { id, streams: HashMap::new() });
        if let (Some(id), Some(name), Some(every_ms)) = (stream, name, every_ms) {
            let newest_ms = index.newest(id);
            streams
                .insert(id, Stream { newest_ms, folded_ms: folded.unwrap_or(i64::MIN), ..Stream::new(id, every_ms) });
            names.push((target, name, id));
        }
    }
    drop(rows);
    drop(statement);
    for (id, known) in index.iter() {
        if let Some(stream) = streams.get_mut(&known.stream) {
            stream.known.push(id, &known.labels);
            if known.last_ms.is_none() {
                stream.alive.push(id);
            }
        }
    }
    for stream in streams.values_mut() {
        stream.alive.sort_unstable();
        stream.known.settle();
    }
    let next_stream = streams.keys().max().map_or(1, |id| id + 1);
    let next_layout =
        connection.query_row("SELECT ifnull(max(id), 0) + 1 FROM layout", [], |row| row.get(0)).map_err(sqlite)?;
    for (target, name, id) in names {
        if let (Some(target), Some(stream)) = (targets.get_mut(&target), streams.remove(&id)) {
            target.streams.insert(name, stream);
        }
    }
    Ok(Writer { connection, targets, next_stream, next_layout })
}

/// A fresh row, unpacked.
#[derive(Debug)]
pub(super) struct Row {
    at_ms: i64,
    values: BTreeMap<SeriesId, f64>,
}

impl Row {
    /// The row at this time.
    pub(super) fn at(path: &Path, connection: &Connection, stream: StreamId, at_ms: i64) -> Result<Option<Self>> {
        Self::one(path, connection, stream, at_ms, "f.at_ms = ?2")
    }

    fn before(path: &Path, connection: &Connection, stream: StreamId, at_ms: i64) -> Result<Option<Self>> {
        Self::one(path, connection, stream, at_ms, "f.at_ms < ?2 ORDER BY f.at_ms DESC LIMIT 1")
    }

    fn after(path: &Path, connection: &Connection, stream: StreamId, at_ms: i64) -> Result<Option<Self>> {
        Self::one(path, connection, stream, at_ms, "f.at_ms > ?2 ORDER BY f.at_ms LIMIT 1")
    }

    fn one(path: &Path, connection: &Connection, stream: StreamId, at_ms: i64, which: &str) -> Result<Option<Self>> {
        let sqlite = |error| StoreError::from_sqlite(path, error);
        let sql = format!(
            "SELECT f.at_ms, f.layout, f.data, l.series FROM fresh AS f LEFT JOIN layout AS l ON l.id = f.layout \
             WHERE f.stream = ?1 AND {which}"
        );
        type Columns = (i64, i64, Vec<u8>, Option<Vec<u8>>);
        let found: Option<Columns> =
            connection.query_row(&sql, params![stream, at_ms], |row| row.try_into()).optional().map_err(sqlite)?;
        let Some((at_ms, layout, data, series)) = found else { return Ok(None) };
        let damaged = |damage: super::Damage| damage.of(path, &format!("the cycle {at_ms} of stream {stream}"));
        let series = series.ok_or(super::Damage("its layout is not there")).map_err(damaged)?;
        let ids = ids_from_bytes(&series, &[layout]).map_err(damaged)?;
        let values = Values::from_bytes(&data, ids.len(), &[i64::from(stream), at_ms, layout]).map_err(damaged)?;
        Ok(Some(Self { at_ms, values: ids.into_iter().zip(values.all()).collect() }))
    }

    /// The series that do not end here.
    fn alive(&self) -> Vec<SeriesId> {
        self.values.iter().filter(|(_, value)| !is_stale(**value)).map(|(id, _)| *id).collect()
    }
}

/// Which stream a batch belongs to; it may not be there yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    target: u32,
    stream: StreamId,
    new_target: bool,
    new_stream: bool,
    /// The distance of cycles, where it is another one than before.
    every_ms: Option<i64>,
}

/// What an append will write, and then remember.
#[derive(Debug, Default)]
pub(super) struct Change {
    made: Vec<NewSeries>,
    pending: Pending,
    /// The batch's series, in its order.
    resolved: Option<Vec<SeriesId>>,
    /// Rows with their values, ascending by series; they replace rows of the same time.
    rows: Vec<(i64, Vec<(SeriesId, f64)>)>,
    /// Series with the moment where they end, or none where they go on.
    ends: Vec<(SeriesId, Option<i64>)>,
    /// The newest cycle, where it is another one than before, and its series.
    newest: Option<(i64, Vec<SeriesId>)>,
}

impl SampleStore {
    /// Appends a cycle: all its series under one timestamp. When this returns, it survives a killed process; a power
    /// cut may take what came after the last checkpoint, which is at most a minute where [`SampleStore::maintain`]
    /// runs.
    ///
    /// A series that the group's cycle before had and this one has not gets a stale marker. A cycle may be late by up
    /// to ten minutes; when the third in a row is later than that, the clock was set back, and it is taken after all,
    /// beside what the stream has of the time to come. One with a time that is there already is merged into it: series
    /// that are there keep their values.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when it is too late or beyond a limit, [`StoreError::Write`] when there is no room;
    /// nothing of it is stored then, and later ones can be.
    pub fn append(&self, batch: &Batch<'_>) -> Result<Appended> {
        check(batch)?;
        let mut writer = self.writer();
        if let Err(refused) = refuse_too_late(writer.stream(batch.target, batch.group), batch) {
            self.too_late(&mut writer, batch, refused)?;
        }
        let place = writer.place(batch)?;
        let stream = writer.stream(batch.target, batch.group);
        let mut told = Appended::default();
        let mut change = Change::default();
        let points = self.resolve(stream, batch, &mut change, &mut told);
        self.refuse_too_many(&writer, batch.target, change.made.len())?;
        if stream.and_then(|stream| stream.newest_ms).is_none_or(|newest| batch.at_ms > newest) {
            next_cycle(stream, batch.at_ms, points, &mut change, &mut told);
        } else {
            self.late_cycle(&writer, place.stream, batch.at_ms, points, &mut change, &mut told)?;
        }
        self.commit(&mut writer, batch.target, batch.group, place, change, batch.at_ms)?;
        Ok(told)
    }

    /// Ends all series of a target that is gone, or cannot be reached: a reader sees at once that nothing is known.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn mark_stale(&self, target: &str, at_ms: i64) -> Result<()> {
        let mut writer = self.writer();
        let Some(found) = writer.targets.get(target) else { return Ok(()) };
        let id = found.id;
        let alive = |(name, stream): (&String, &Stream)| {
            (!stream.alive.is_empty()).then(|| (name.clone(), stream.id, stream.newest_ms))
        };
        let streams: Vec<_> = found.streams.iter().filter_map(alive).collect();
        for (group, stream, newest) in streams {
            let place = Place { target: id, stream, new_target: false, new_stream: false, every_ms: None };
            let at_ms = newest.map_or(at_ms, |newest| at_ms.max(newest + 1));
            let mut change = Change::default();
            next_cycle(writer.stream(target, &group), at_ms, Vec::new(), &mut change, &mut Appended::default());
            self.commit(&mut writer, target, &group, place, change, at_ms)?;
        }
        Ok(())
    }

    /// The ids of a batch's series, ascending, with their values; plans new series.
    fn resolve(
        &self,
        stream: Option<&Stream>,
        batch: &Batch<'_>,
        change: &mut Change,
        told: &mut Appended,
    ) -> Vec<(SeriesId, f64)> {
        let mut points = match stream.and_then(|stream| self.as_last(stream, batch)) {
            Some(points) => points,
            None => self.resolve_each(stream, batch, change),
        };
        if !points.is_sorted_by(|a, b| a.0 < b.0) {
            points.sort_by_key(|(id, _)| *id);
            points.dedup_by_key(|(id, _)| *id);
        }
        told.refused = batch.points.len() - points.len();
        told.new_series = change.made.len();
        points
    }

    /// The ids of a batch that has the series of the last one, in its order.
    fn as_last(&self, stream: &Stream, batch: &Batch<'_>) -> Option<Vec<(SeriesId, f64)>> {
        if stream.last.len() != batch.points.len() {
            return None;
        }
        let index = self.index();
        let same = |(id, point): (&SeriesId, &(Labels, f64))| {
            index.get(*id).is_some_and(|known| known.labels == point.0).then_some((*id, point.1))
        };
        stream.last.iter().zip(batch.points).map(same).collect()
    }

    fn resolve_each(&self, stream: Option<&Stream>, batch: &Batch<'_>, change: &mut Change) -> Vec<(SeriesId, f64)> {
        let index = self.index();
        let mut made: HashMap<Labels, SeriesId> = HashMap::new();
        let mut points = Vec::with_capacity(batch.points.len());
        let mut resolved = Vec::with_capacity(batch.points.len());
        for (labels, value) in batch.points {
            let known =
                stream.and_then(|stream| stream.known.find(labels, &index)).or_else(|| made.get(labels).copied());
            let id = match known {
                Some(id) => id,
                None if !self.fits(labels) => continue,
                None => {
                    let new = index.plan(labels, &mut change.pending);
                    let id = new.id;
                    made.insert(new.labels.clone(), id);
                    change.made.push(new);
                    id
                }
            };
            points.push((id, *value));
            resolved.push(id);
        }
        if resolved.len() == batch.points.len() {
            change.resolved = Some(resolved);
        }
        points
    }

    fn fits(&self, labels: &Labels) -> bool {
        labels.len() <= self.settings.max_labels
            && !labels.is_empty()
            && labels.iter().all(|(name, value)| name.len() <= MAX_NAME && value.len() <= self.settings.max_label_bytes)
    }

    fn refuse_too_many(&self, writer: &Writer, target: &str, new: usize) -> Result<()> {
        let alive = |target: &Target| target.streams.values().map(|stream| stream.alive.len()).sum::<usize>();
        let alive = writer.targets.get(target).map_or(0, alive);
        let most = self.settings.max_series_per_target;
        if new > 0 && alive + new > most {
            let why =
                format!("{target} has {alive} series and {new} more would be beyond the limit of {most} per target");
            return Err(StoreError::Refused { why });
        }
        Ok(())
    }

    /// A cycle that is not the newest: merges it with one of the same time, and puts the stale markers before and
    /// after it right.
    fn late_cycle(
        &self,
        writer: &Writer,
        stream: StreamId,
        at_ms: i64,
        points: Vec<(SeriesId, f64)>,
        change: &mut Change,
        told: &mut Appended,
    ) -> Result<()> {
        let (path, connection) = (&self.path, &writer.connection);
        let there = Row::at(path, connection, stream, at_ms)?;
        let mut values = there.map(|row| row.values).unwrap_or_default();
        let mut added = Vec::new();
        for (id, value) in points {
            match values.get(&id) {
                Some(has) if !is_stale(*has) => told.refused += usize::from(has.to_bits() != value.to_bits()),
                _ => {
                    values.insert(id, value);
                    added.push(id);
                }
            }
        }
        told.samples = added.len();
        let mut ended = Vec::new();
        for id in Row::before(path, connection, stream, at_ms)?.map(|row| row.alive()).unwrap_or_default() {
            if let Entry::Vacant(place) = values.entry(id) {
                place.insert(stale());
                ended.push(id);
            }
        }
        told.ended = ended.len();
        let alive: Vec<SeriesId> = values.iter().filter(|(_, value)| !is_stale(**value)).map(|(id, _)| *id).collect();
        match Row::after(path, connection, stream, at_ms)? {
            None => {
                change.ends.extend(added.into_iter().map(|id| (id, None)));
                change.ends.extend(ended.into_iter().map(|id| (id, Some(at_ms))));
                change.newest = Some((at_ms, alive));
            }
            Some(mut after) => {
                let before = after.values.len();
                for id in alive {
                    after.values.entry(id).or_insert_with(stale);
                }
                self.late_ends(writer, stream, added, &after, change);
                if after.values.len() > before {
                    change.rows.push((after.at_ms, after.values.into_iter().collect()));
                }
            }
        }
        change.rows.push((at_ms, values.into_iter().collect()));
        Ok(())
    }

    /// Where series end that a cycle has which is not the newest: what the newest has goes on, and what ended later
    /// ended there.
    fn late_ends(&self, writer: &Writer, stream: StreamId, added: Vec<SeriesId>, after: &Row, change: &mut Change) {
        let streams = writer.targets.values().flat_map(|target| target.streams.values());
        let newest = streams.filter(|known| known.id == stream).flat_map(|known| &known.alive);
        let newest: HashSet<SeriesId> = newest.copied().collect();
        let index = self.index();
        for id in added {
            let ended = after.values.get(&id).is_some_and(|value| is_stale(*value)).then_some(after.at_ms);
            let known = index.get(id).and_then(|known| known.last_ms);
            change.ends.push((id, if newest.contains(&id) { None } else { known.max(ended) }));
        }
    }

    /// Writes a change in one transaction, then remembers it.
    pub(super) fn commit(
        &self,
        writer: &mut Writer,
        target: &str,
        group: &str,
        place: Place,
        change: Change,
        at_ms: i64,
    ) -> Result<()> {
        let sqlite = |error| StoreError::from_sqlite(&self.path, error);
        let mut layouts = writer.stream(target, group).map(|stream| stream.layouts.clone()).unwrap_or_default();
        let mut next_layout = writer.next_layout;
        let transaction =
            Transaction::new_unchecked(&writer.connection, TransactionBehavior::Immediate).map_err(sqlite)?;
        write_place(&transaction, target, group, place).map_err(sqlite)?;
        write_series(&transaction, place.stream, &change, at_ms).map_err(sqlite)?;
        for (at_ms, values) in &change.rows {
            let layout = layout_of(&transaction, values, &mut layouts, &mut next_layout).map_err(sqlite)?;
            write_row(&transaction, place.stream, *at_ms, layout, values).map_err(sqlite)?;
        }
        for (id, end) in &change.ends {
            let mut statement = transaction
                .prepare_cached("UPDATE series SET last_ms = ?2, first_ms = min(first_ms, ?3) WHERE id = ?1")
                .map_err(sqlite)?;
            statement.execute(params![id, end, at_ms]).map_err(sqlite)?;
        }
        transaction.commit().map_err(sqlite)?;
        writer.next_layout = next_layout;
        self.remember(writer, target, group, place, change, layouts, at_ms);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what a commit has at hand")]
    fn remember(
        &self,
        writer: &mut Writer,
        target: &str,
        group: &str,
        place: Place,
        change: Change,
        layouts: Vec<(i64, Vec<SeriesId>)>,
        at_ms: i64,
    ) {
        writer.next_stream = writer.next_stream.max(place.stream.saturating_add(1));
        let target = writer
            .targets
            .entry(target.to_owned())
            .or_insert_with(|| Target { id: place.target, streams: HashMap::new() });
        let stream = target
            .streams
            .entry(group.to_owned())
            .or_insert_with(|| Stream::new(place.stream, place.every_ms.unwrap_or_default()));
        stream.every_ms = place.every_ms.unwrap_or(stream.every_ms);
        (stream.layouts, stream.late) = (layouts, None);
        let mut index = self.index_mut();
        index.keep(place.stream, &change.made, at_ms);
        if !change.made.is_empty() {
            change.made.iter().for_each(|new| stream.known.push(new.id, &new.labels));
            stream.known.settle();
        }
        for (id, end) in change.ends {
            if let Some(known) = index.get_mut(id) {
                known.last_ms = end;
                known.first_ms = known.first_ms.min(at_ms);
            }
        }
        if let Some((newest, alive)) = change.newest {
            index.set_newest(place.stream, newest);
            (stream.newest_ms, stream.alive) = (Some(newest), alive);
        }
        if let Some(resolved) = change.resolved {
            stream.last = resolved;
        }
    }
}

impl Writer {
    pub(super) fn stream(&self, target: &str, group: &str) -> Option<&Stream> {
        self.targets.get(target)?.streams.get(group)
    }

    pub(super) fn stream_mut(&mut self, target: &str, group: &str) -> Option<&mut Stream> {
        self.targets.get_mut(target)?.streams.get_mut(group)
    }

    pub(super) fn stream_with(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.targets.values_mut().flat_map(|target| target.streams.values_mut()).find(|stream| stream.id == id)
    }

    /// Layouts that the next cycles may use.
    pub(super) fn layouts(&self) -> HashSet<i64> {
        let streams = self.targets.values().flat_map(|target| target.streams.values());
        streams.flat_map(|stream| stream.layouts.iter().map(|(id, _)| *id)).collect()
    }

    pub(super) fn next_target(&self) -> u32 {
        self.targets.values().map(|target| target.id).max().map_or(1, |id| id.saturating_add(1))
    }

    pub(super) fn place(&self, batch: &Batch<'_>) -> Result<Place> {
        let target = self.targets.get(batch.target);
        let stream = target.and_then(|target| target.streams.get(batch.group));
        if stream.is_none() && target.is_some_and(|target| target.streams.len() >= MAX_STREAMS) {
            let why = format!("{} has {MAX_STREAMS} groups, which is the limit", batch.target);
            return Err(StoreError::Refused { why });
        }
        Ok(Place {
            target: target.map_or_else(|| self.next_target(), |target| target.id),
            stream: stream.map_or(self.next_stream, |stream| stream.id),
            new_target: target.is_none(),
            new_stream: stream.is_none(),
            every_ms: stream.is_none_or(|stream| stream.every_ms != batch.every_ms).then_some(batch.every_ms),
        })
    }
}

/// Refuses what no caller should give.
fn check(batch: &Batch<'_>) -> Result<()> {
    let refused = |why: String| Err(StoreError::Refused { why });
    for name in [batch.target, batch.group] {
        if name.is_empty() || name.len() > MAX_NAME {
            return refused(format!("the name of a target or a group has 1 to {MAX_NAME} bytes, not {}", name.len()));
        }
    }
    if !(1..=MAX_AT_MS).contains(&batch.at_ms) || batch.every_ms <= 0 {
        return refused(format!("a cycle at {} ms every {} ms cannot be", batch.at_ms, batch.every_ms));
    }
    Ok(())
}

fn refuse_too_late(stream: Option<&Stream>, batch: &Batch<'_>) -> Result<()> {
    let Some(stream) = stream else { return Ok(()) };
    let late = stream.newest_ms.is_some_and(|newest| batch.at_ms < newest.saturating_sub(LATE_MS));
    if late || batch.at_ms <= stream.folded_ms {
        let (target, group, at_ms) = (batch.target, batch.group, batch.at_ms);
        let newest = stream.newest_ms.unwrap_or(stream.folded_ms);
        let why = format!("the cycle of {target}, {group} at {at_ms} ms is too late: there is one at {newest} ms");
        return Err(StoreError::Refused { why });
    }
    Ok(())
}

/// A cycle that is newer than all others: what the one before had and this one has not ends.
pub(super) fn next_cycle(
    stream: Option<&Stream>,
    at_ms: i64,
    mut points: Vec<(SeriesId, f64)>,
    change: &mut Change,
    told: &mut Appended,
) {
    told.samples = points.len();
    let before = stream.map(|stream| stream.alive.as_slice()).unwrap_or_default();
    let alive: Vec<SeriesId> = points.iter().filter(|(_, value)| !is_stale(*value)).map(|(id, _)| *id).collect();
    if alive != before {
        let made = change.made.first().map_or(SeriesId::MAX, |new| new.id);
        let back = alive.iter().filter(|id| **id < made && before.binary_search(id).is_err());
        change.ends.extend(back.map(|id| (*id, None)));
        let gone: Vec<_> = before.iter().copied().filter(|id| alive.binary_search(id).is_err()).collect();
        told.ended = gone.len();
        change.ends.extend(gone.iter().map(|id| (*id, Some(at_ms))));
        let there: Vec<SeriesId> = points.iter().map(|(id, _)| *id).collect();
        points.extend(gone.into_iter().filter(|id| there.binary_search(id).is_err()).map(|id| (id, stale())));
        points.sort_by_key(|(id, _)| *id);
    }
    change.newest = Some((at_ms, alive));
    change.rows.push((at_ms, points));
}

fn write_place(connection: &Connection, target: &str, group: &str, place: Place) -> rusqlite::Result<()> {
    if place.new_target {
        connection.execute("INSERT INTO target (id, name) VALUES (?1, ?2)", params![place.target, target])?;
    }
    if place.new_stream {
        let sql = "INSERT INTO stream (id, target, name, every_ms) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(sql, params![place.stream, place.target, group, place.every_ms.unwrap_or(1)])?;
    } else if let Some(every_ms) = place.every_ms {
        connection.execute("UPDATE stream SET every_ms = ?2 WHERE id = ?1", params![place.stream, every_ms])?;
    }
    Ok(())
}

fn write_series(connection: &Connection, stream: StreamId, change: &Change, at_ms: i64) -> rusqlite::Result<()> {
    for ((name, value), id) in &change.pending.labels {
        let mut statement = connection.prepare_cached("INSERT INTO label (id, name, value) VALUES (?1, ?2, ?3)")?;
        statement.execute(params![id, name, value])?;
    }
    for new in &change.made {
        let ids = format!("[{}]", new.label_ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","));
        let mut statement = connection.prepare_cached(
            "INSERT INTO series (id, stream, labels, first_ms, last_ms, sum) VALUES (?1, ?2, ?3, ?4, NULL, ?5)",
        )?;
        statement.execute(params![new.id, stream, ids, at_ms, label_sum(new.id, stream, &new.labels)])?;
    }
    Ok(())
}

/// The layout with these series; makes it when none of the last ones is it.
fn layout_of(
    connection: &Connection,
    values: &[(SeriesId, f64)],
    layouts: &mut Vec<(i64, Vec<SeriesId>)>,
    next: &mut i64,
) -> rusqlite::Result<i64> {
    let same = |ids: &[SeriesId]| ids.len() == values.len() && ids.iter().zip(values).all(|(id, value)| *id == value.0);
    if let Some(at) = layouts.iter().position(|(_, ids)| same(ids)) {
        let layout = layouts.remove(at);
        layouts.insert(0, layout);
    } else {
        let ids: Vec<SeriesId> = values.iter().map(|(id, _)| *id).collect();
        let bytes =
            ids_to_bytes(&ids, &[*next]).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        connection.prepare_cached("INSERT INTO layout (id, series) VALUES (?1, ?2)")?.execute(params![*next, bytes])?;
        layouts.insert(0, (*next, ids));
        layouts.truncate(LAYOUTS);
        *next += 1;
    }
    Ok(layouts.first().map_or(0, |(id, _)| *id))
}

fn write_row(
    connection: &Connection,
    stream: StreamId,
    at_ms: i64,
    layout: i64,
    values: &[(SeriesId, f64)],
) -> rusqlite::Result<()> {
    let plain: Vec<f64> = values.iter().map(|(_, value)| *value).collect();
    let data = values_to_bytes(&plain, &[i64::from(stream), at_ms, layout])
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO fresh (stream, at_ms, layout, data) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![stream, at_ms, layout, data])?;
    Ok(())
}
