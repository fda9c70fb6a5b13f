//! Reading series.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use rusqlite::{Connection, params};
use surus_core::series::{Hints, Labels, Matcher, Metadata, MetricKind, Series, Source, SourceError, Window, stale};

use super::block::chunk_from_bytes;
use super::codec::{Presence, State};
use super::row::{Values, ids_from_bytes};
use super::{SampleStore, SeriesId, StreamId};
use crate::{Result, StoreError};

/// Some series of one stream, and their samples so far.
#[derive(Debug)]
pub(super) struct Reading {
    /// Ascending.
    pub ids: Vec<SeriesId>,
    /// The times of all cycles in the window.
    pub times: Vec<i64>,
    pub columns: Vec<Column>,
}

/// The samples of one series so far.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub values: Vec<f64>,
    /// Its own times, from the moment where it has not every cycle of its stream.
    pub times: Option<Vec<i64>>,
}

impl Reading {
    fn new(ids: Vec<SeriesId>) -> Self {
        let columns = ids.iter().map(|_| Column::default()).collect();
        Self { ids, times: Vec::new(), columns }
    }

    /// Makes room for so many more cycles.
    fn reserve(&mut self, cycles: usize) {
        self.times.reserve(cycles);
        for column in &mut self.columns {
            column.values.reserve(cycles);
        }
    }

    /// The series at this place had no sample in the cycle that comes next.
    fn miss(&mut self, place: usize) {
        let column = &mut self.columns[place];
        if column.times.is_none() {
            column.times = Some(self.times.clone());
        }
    }

    /// Adds what a chunk has of the cycles that are wanted.
    fn add_chunk(&mut self, place: usize, times: &[i64], wanted: Range<usize>, presence: &Presence, values: &[f64]) {
        if let [(State::Value, _)] = presence.0.as_slice() {
            let column = &mut self.columns[place];
            column.values.extend_from_slice(&values[wanted.clone()]);
            if let Some(own) = &mut column.times {
                own.extend_from_slice(&times[wanted]);
            }
            return;
        }
        let (mut cycle, mut next) = (0, 0);
        for (state, length) in &presence.0 {
            let stretch = cycle..cycle + *length as usize;
            let (first, last) = (stretch.start.max(wanted.start), stretch.end.min(wanted.end));
            let some = first..last.max(first);
            if *state == State::Absent && !some.is_empty() {
                self.miss_after(place, &times[wanted.start..some.start]);
            }
            let column = &mut self.columns[place];
            match state {
                _ if some.is_empty() => {}
                State::Absent => {}
                State::Ended => column.values.resize(column.values.len() + some.len(), stale()),
                State::Value | State::ValueThenEnded => {
                    let offset = next + some.start.saturating_sub(cycle);
                    column.values.extend_from_slice(&values[offset..offset + some.len()]);
                }
            }
            if let Some(own) = column.times.as_mut().filter(|_| *state != State::Absent) {
                own.extend_from_slice(&times[some]);
            }
            next += if state.has_value() { stretch.len() } else { 0 };
            cycle = stretch.end;
        }
    }

    /// As [`Reading::miss`], where the cycles that were read are these too.
    fn miss_after(&mut self, place: usize, also: &[i64]) {
        let column = &mut self.columns[place];
        if column.times.is_none() {
            column.times = Some(self.times.iter().chain(also).copied().collect());
        }
    }

    /// One more value, or none.
    pub(super) fn push(&mut self, place: usize, at_ms: i64, value: Option<f64>) {
        match value {
            None => self.miss(place),
            Some(value) => {
                let column = &mut self.columns[place];
                column.values.push(value);
                if let Some(times) = &mut column.times {
                    times.push(at_ms);
                }
            }
        }
    }

    fn samples(&self) -> usize {
        self.columns.iter().map(|column| column.values.len()).sum()
    }
}

impl SampleStore {
    fn read(&self, matchers: &[Matcher], window: Window, hints: Hints<'_>) -> Result<Vec<Series>> {
        let (labels, streams) = self.wanted(matchers, window)?;
        self.reading(|connection| {
            let mut found: BTreeMap<Labels, Series> = BTreeMap::new();
            let mut budget = self.settings.max_selected_samples;
            for (stream, ids) in streams {
                let mut reading = Reading::new(ids);
                let samples = self.read_aggregates(connection, stream, window, hints, &mut reading)?;
                self.read_blocks(connection, stream, samples, budget, &mut reading)?;
                self.read_fresh(connection, stream, samples, &mut reading)?;
                budget = budget.checked_sub(reading.samples()).ok_or_else(|| self.too_many_samples())?;
                collect(reading, &labels, &mut found);
            }
            Ok(found.into_values().collect())
        })
    }

    /// Adds what blocks have.
    fn read_blocks(
        &self,
        connection: &Connection,
        stream: StreamId,
        window: Window,
        budget: usize,
        reading: &mut Reading,
    ) -> Result<()> {
        let blocks = self.blocks(connection, stream, 0, window)?;
        let cycles = blocks.iter().map(|block| inside(&block.times, window).len()).sum::<usize>();
        reading.reserve(cycles.min(budget / reading.ids.len().max(1)));
        let mut values = Vec::new();
        for block in blocks {
            let cycles = inside(&block.times, window);
            for place in 0..reading.ids.len() {
                let read = |data: &[u8], id| chunk_from_bytes(data, id, block.times.len(), &mut values);
                match self.chunk(connection, &block, reading.ids[place], read)? {
                    Some(presence) => reading.add_chunk(place, &block.times, cycles.clone(), &presence, &values),
                    None => reading.miss(place),
                }
            }
            reading.times.extend_from_slice(&block.times[cycles]);
            if reading.samples() > budget {
                return Err(self.too_many_samples());
            }
        }
        Ok(())
    }

    fn too_many_samples(&self) -> StoreError {
        let most = self.settings.max_selected_samples;
        StoreError::TooMuch { why: format!("the answer would have more than {most} samples") }
    }

    /// The series that are wanted: their labels, and by stream.
    #[allow(clippy::type_complexity, reason = "used in one place, and named there")]
    fn wanted(
        &self,
        matchers: &[Matcher],
        window: Window,
    ) -> Result<(HashMap<SeriesId, Labels>, BTreeMap<StreamId, Vec<SeriesId>>)> {
        let index = self.index();
        let ids = index.find(matchers, window);
        let most = self.settings.max_selected_series;
        if ids.len() > most {
            let why = format!("{} series match, and an answer has at most {most}", ids.len());
            return Err(StoreError::TooMuch { why });
        }
        let mut labels = HashMap::with_capacity(ids.len());
        let mut streams: BTreeMap<StreamId, Vec<SeriesId>> = BTreeMap::new();
        for id in ids {
            if let Some(known) = index.get(id) {
                labels.insert(id, known.labels.clone());
                streams.entry(known.stream).or_default().push(id);
            }
        }
        for ids in streams.values_mut() {
            ids.sort_unstable();
        }
        Ok((labels, streams))
    }

    /// Adds what fresh rows have.
    fn read_fresh(
        &self,
        connection: &Connection,
        stream: StreamId,
        window: Window,
        reading: &mut Reading,
    ) -> Result<()> {
        let sqlite = |error| self.sqlite(error);
        let mut statement = connection
            .prepare_cached(
                "SELECT at_ms, layout, data FROM fresh WHERE stream = ?1 AND at_ms > ?2 AND at_ms <= ?3 ORDER BY at_ms",
            )
            .map_err(sqlite)?;
        let mut layouts: HashMap<i64, (usize, Vec<Option<usize>>)> = HashMap::new();
        let mut rows = statement.query(params![stream, window.after_ms, window.until_ms]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (at_ms, layout): (i64, i64) = (row.get(0).map_err(sqlite)?, row.get(1).map_err(sqlite)?);
            let data = row.get_ref(2).map_err(sqlite)?;
            if let std::collections::hash_map::Entry::Vacant(entry) = layouts.entry(layout) {
                entry.insert(self.places(connection, layout, &reading.ids)?);
            }
            let Some((count, places)) = layouts.get(&layout) else { continue };
            let belongs_to = [i64::from(stream), at_ms, layout];
            let values = data
                .as_blob()
                .map_err(|_| super::Damage("it has another type"))
                .and_then(|data| Values::from_bytes(data, *count, &belongs_to))
                .map_err(|damage| damage.of(&self.path, &format!("the cycle {at_ms} of stream {stream}")))?;
            for (place, at) in places.iter().enumerate() {
                reading.push(place, at_ms, at.map(|at| values.get(at)));
            }
            reading.times.push(at_ms);
        }
        Ok(())
    }

    /// How many values a layout has, and where in it the wanted series are.
    pub(super) fn places(
        &self,
        connection: &Connection,
        layout: i64,
        wanted: &[SeriesId],
    ) -> Result<(usize, Vec<Option<usize>>)> {
        let ids = self.layout(connection, layout)?;
        Ok((ids.len(), wanted.iter().map(|id| ids.binary_search(id).ok()).collect()))
    }

    /// The series of a layout.
    pub(super) fn layout(&self, connection: &Connection, layout: i64) -> Result<Vec<SeriesId>> {
        let bytes: Vec<u8> = connection
            .prepare_cached("SELECT series FROM layout WHERE id = ?1")
            .and_then(|mut statement| statement.query_row([layout], |row| row.get(0)))
            .map_err(|error| self.sqlite(error))?;
        ids_from_bytes(&bytes, &[layout]).map_err(|damage| damage.of(&self.path, &format!("layout {layout}")))
    }
}

/// Where the times of a window are.
fn inside(times: &[i64], window: Window) -> Range<usize> {
    let first = times.partition_point(|at_ms| *at_ms <= window.after_ms);
    first..times.partition_point(|at_ms| *at_ms <= window.until_ms).max(first)
}

/// Makes series of what was read. One that was collected by two groups is one series.
fn collect(reading: Reading, labels: &HashMap<SeriesId, Labels>, found: &mut BTreeMap<Labels, Series>) {
    let all: Arc<[i64]> = reading.times.into();
    for (id, column) in reading.ids.into_iter().zip(reading.columns) {
        let Some(labels) = labels.get(&id) else { continue };
        if column.values.is_empty() {
            continue;
        }
        let at_ms = column.times.map_or_else(|| Arc::clone(&all), Arc::from);
        let series = Series { labels: labels.clone(), at_ms, values: column.values };
        match found.remove(labels) {
            None => found.insert(labels.clone(), series),
            Some(other) => found.insert(labels.clone(), merge(other, series)),
        };
    }
}

/// Both series' samples in the order of their times; of two at one time, one that is no end.
fn merge(one: Series, other: Series) -> Series {
    let mut samples: BTreeMap<i64, f64> = one.at_ms.iter().copied().zip(one.values).collect();
    for (at_ms, value) in other.at_ms.iter().copied().zip(other.values) {
        let there = samples.entry(at_ms).or_insert(value);
        if surus_core::series::is_stale(*there) {
            *there = value;
        }
    }
    let (times, values): (Vec<i64>, Vec<f64>) = samples.into_iter().unzip();
    Series { labels: one.labels, at_ms: times.into(), values }
}

fn source_error(error: StoreError) -> SourceError {
    match error {
        StoreError::TooMuch { why } => SourceError::TooMuch(why),
        other => SourceError::Failed(format!("{}: {other}", other.code())),
    }
}

impl Source for SampleStore {
    fn select(
        &self,
        matchers: &[Matcher],
        window: Window,
        hints: Hints<'_>,
    ) -> std::result::Result<Vec<Series>, SourceError> {
        self.read(matchers, window, hints).map_err(source_error)
    }

    fn series(&self, matchers: &[Matcher], window: Window) -> std::result::Result<Vec<Labels>, SourceError> {
        let (labels, _) = self.wanted(matchers, window).map_err(source_error)?;
        let mut labels: Vec<Labels> = labels.into_values().collect();
        labels.sort_unstable();
        labels.dedup();
        Ok(labels)
    }

    fn metadata(&self, metric: Option<&str>) -> std::result::Result<Vec<Metadata>, SourceError> {
        self.reading(|connection| {
            let mut statement = connection
                .prepare_cached("SELECT name, kind, help FROM metric WHERE ?1 IS NULL OR name = ?1 ORDER BY name")
                .map_err(|error| self.sqlite(error))?;
            let rows = statement.query_map([metric], |row| {
                let kind: String = row.get(1)?;
                Ok(Metadata { metric: row.get(0)?, kind: kind_of(&kind), help: row.get(2)? })
            });
            rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
        })
        .map_err(source_error)
    }
}

fn kind_of(text: &str) -> MetricKind {
    use MetricKind::{Counter, Gauge, Histogram, Summary, Unknown};
    [Counter, Gauge, Histogram, Summary].into_iter().find(|kind| kind.as_str() == text).unwrap_or(Unknown)
}

impl SampleStore {
    /// Keeps what is known about metrics: name, kind, one line of help. What is kept already is not written again.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn describe(&self, metrics: &[(&str, MetricKind, &str)]) -> Result<()> {
        let writer = self.writer();
        let sqlite = |error| self.sqlite(error);
        let transaction = writer.connection.unchecked_transaction().map_err(sqlite)?;
        for (name, kind, help) in metrics {
            transaction
                .prepare_cached(
                    "INSERT INTO metric (name, kind, help) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
                     SET kind = excluded.kind, help = excluded.help WHERE kind <> excluded.kind OR help <> excluded.help",
                )
                .and_then(|mut statement| statement.execute(params![name, kind.as_str(), help]))
                .map_err(sqlite)?;
        }
        transaction.commit().map_err(sqlite)
    }
}
