//! Which series there are: in memory, so that matchers cost no query.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::Connection;
use surus_core::series::{Labels, METRIC_NAME, Matcher, Op, Window};

use super::bytes::checksum;
use super::table::Table;
use super::{Damage, SeriesId, StreamId};
use crate::Result;

/// A series that is known.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub labels: Labels,
    pub stream: StreamId,
    pub first_ms: i64,
    /// Where it ended; none while it goes on.
    pub last_ms: Option<i64>,
}

/// The series that have one label.
#[derive(Debug)]
struct Posting {
    label: u32,
    series: Vec<SeriesId>,
}

/// All series, by id and by label.
#[derive(Debug, Default)]
pub(super) struct Index {
    series: Table,
    labels: HashMap<Arc<str>, BTreeMap<Arc<str>, Posting>>,
    /// The newest cycle of each stream.
    newest: HashMap<StreamId, i64>,
    next_label: u32,
    next_series: SeriesId,
}

/// A series that an append made, with the ids of its labels; those from `first_new_label` on are new.
#[derive(Debug)]
pub(super) struct NewSeries {
    pub id: SeriesId,
    pub labels: Labels,
    pub label_ids: Vec<u32>,
}

impl Index {
    /// Reads the series of a file, each against its checksum.
    pub(super) fn load(path: &std::path::Path, connection: &Connection) -> Result<Self> {
        let sqlite = |error| crate::StoreError::from_sqlite(path, error);
        let mut index = Self { next_label: 1, next_series: 1, ..Self::default() };
        let mut shelf = Shelf::default();
        let mut names: HashMap<String, Arc<str>> = HashMap::new();
        let mut statement = connection.prepare("SELECT id, name, value FROM label").map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (id, name, value): (u32, String, String) = row.try_into().map_err(sqlite)?;
            let name = Arc::clone(names.entry(name).or_insert_with_key(|name| Arc::from(name.as_str())));
            index.next_label = index.next_label.max(id.saturating_add(1));
            shelf.pairs.insert(id, (name, value.into()));
        }
        let mut statement =
            connection.prepare("SELECT id, stream, labels, first_ms, last_ms, sum FROM series").map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (id, stream, labels, first_ms, last_ms, sum): (u32, u32, String, i64, Option<i64>, u32) =
                row.try_into().map_err(sqlite)?;
            let (labels, label_ids) = shelf
                .labels(&labels)
                .and_then(|(labels, ids)| {
                    if label_sum(id, stream, &labels) == sum {
                        Ok((labels, ids))
                    } else {
                        Err(Damage("its checksum is wrong"))
                    }
                })
                .map_err(|damage| damage.of(path, &format!("series {id}")))?;
            index.next_series = index.next_series.max(id.saturating_add(1));
            index.insert(
                &NewSeries { id, labels, label_ids },
                Known { labels: Labels::empty(), stream, first_ms, last_ms },
            );
        }
        let mut statement = connection
            .prepare("SELECT id, max((SELECT max(at_ms) FROM fresh WHERE stream = s.id), 0), (SELECT max(end_ms) FROM block WHERE stream = s.id AND bucket_ms = 0) FROM stream AS s")
            .map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let (stream, fresh, folded): (u32, Option<i64>, Option<i64>) = row.try_into().map_err(sqlite)?;
            if let Some(newest) = fresh.max(folded) {
                index.newest.insert(stream, newest);
            }
        }
        Ok(index)
    }

    /// Gives a label set ids, without keeping it yet: the append may fail. `pending` has the ids of labels that the
    /// same append has made already.
    pub(super) fn plan(&self, labels: &Labels, pending: &mut Pending) -> NewSeries {
        let mut label_ids = Vec::with_capacity(labels.len());
        for (name, value) in labels.pairs() {
            let known = self.labels.get(name).and_then(|values| values.get(value)).map(|posting| posting.label);
            label_ids.push(known.unwrap_or_else(|| pending.label(self.next_label, name, value)));
        }
        let id = self.next_series.saturating_add(pending.series);
        pending.series += 1;
        NewSeries { id, labels: labels.clone(), label_ids }
    }

    /// Takes over what an append that succeeded has made.
    pub(super) fn keep(&mut self, stream: StreamId, made: &[NewSeries], at_ms: i64) {
        for new in made {
            self.next_series = self.next_series.max(new.id.saturating_add(1));
            let next = new.label_ids.iter().max().map_or(0, |id| id.saturating_add(1));
            self.next_label = self.next_label.max(next);
            self.insert(new, Known { labels: Labels::empty(), stream, first_ms: at_ms, last_ms: None });
        }
    }

    fn insert(&mut self, new: &NewSeries, known: Known) {
        for ((name, value), label) in new.labels.pairs().zip(&new.label_ids) {
            let values = self.labels.entry(Arc::clone(name)).or_default();
            let posting =
                values.entry(Arc::clone(value)).or_insert_with(|| Posting { label: *label, series: Vec::new() });
            if let Err(at) = posting.series.binary_search(&new.id) {
                posting.series.insert(at, new.id);
            }
        }
        self.series.insert(new.id, Known { labels: new.labels.clone(), ..known });
    }

    /// The labels that nobody has any more once these series are gone.
    pub(super) fn unused_labels(&self, gone: &[SeriesId]) -> Vec<u32> {
        let mut left: HashMap<u32, usize> = HashMap::new();
        for (name, value) in gone.iter().filter_map(|id| self.series.get(*id)).flat_map(|known| known.labels.pairs()) {
            if let Some(posting) = self.labels.get(name).and_then(|values| values.get(value)) {
                *left.entry(posting.label).or_insert(posting.series.len()) -= 1;
            }
        }
        left.into_iter().filter(|(_, left)| *left == 0).map(|(label, _)| label).collect()
    }

    /// Forgets series.
    pub(super) fn remove(&mut self, ids: &[SeriesId]) {
        for id in ids {
            let Some(known) = self.series.remove(*id) else { continue };
            for (name, value) in known.labels.pairs() {
                let Some(values) = self.labels.get_mut(name) else { continue };
                let Some(posting) = values.get_mut(value) else { continue };
                if let Ok(at) = posting.series.binary_search(id) {
                    posting.series.remove(at);
                }
                if posting.series.is_empty() {
                    values.remove(value);
                }
                if values.is_empty() {
                    self.labels.remove(name);
                }
            }
        }
    }

    pub(super) fn get(&self, id: SeriesId) -> Option<&Known> {
        self.series.get(id)
    }

    pub(super) fn get_mut(&mut self, id: SeriesId) -> Option<&mut Known> {
        self.series.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SeriesId, &Known)> {
        self.series.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    pub(super) fn newest(&self, stream: StreamId) -> Option<i64> {
        self.newest.get(&stream).copied()
    }

    pub(super) fn set_newest(&mut self, stream: StreamId, at_ms: i64) {
        self.newest.insert(stream, at_ms);
    }

    /// The series that fulfil all conditions and may have samples in the window.
    pub(super) fn find(&self, matchers: &[Matcher], window: Window) -> Vec<SeriesId> {
        let mut smallest: Option<Vec<SeriesId>> = None;
        for matcher in matchers.iter().filter(|matcher| !matcher.matches("")) {
            let found = self.having(matcher);
            if smallest.as_ref().is_none_or(|other| found.len() < other.len()) {
                smallest = Some(found);
            }
        }
        let all = || self.series.iter().map(|(id, _)| id).collect();
        let mut ids = smallest.unwrap_or_else(all);
        ids.retain(|id| {
            self.series.get(*id).is_some_and(|known| {
                let last = known.last_ms.or_else(|| self.newest(known.stream)).unwrap_or(i64::MAX);
                known.first_ms <= window.until_ms
                    && last > window.after_ms
                    && matchers.iter().all(|matcher| matcher.accepts(&known.labels))
            })
        });
        ids
    }

    /// The series that have a label which the matcher wants; it does not want the empty one.
    fn having(&self, matcher: &Matcher) -> Vec<SeriesId> {
        let Some(values) = self.labels.get(matcher.name.as_str()) else { return Vec::new() };
        if matcher.op == Op::Equal {
            return values.get(matcher.value.as_str()).map(|posting| posting.series.clone()).unwrap_or_default();
        }
        let wanted = values.iter().filter(|(value, _)| matcher.matches(value));
        wanted.flat_map(|(_, posting)| posting.series.iter().copied()).collect()
    }
}

/// What an append is about to make: nothing of it counts before it is committed.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// New labels with their ids.
    pub labels: HashMap<(Arc<str>, Arc<str>), u32>,
    series: u32,
}

impl Pending {
    fn label(&mut self, next: u32, name: &Arc<str>, value: &Arc<str>) -> u32 {
        let id = next.saturating_add(u32::try_from(self.labels.len()).unwrap_or(u32::MAX));
        *self.labels.entry((Arc::clone(name), Arc::clone(value))).or_insert(id)
    }
}

/// The checksum of a series' labels.
pub(super) fn label_sum(id: SeriesId, stream: StreamId, labels: &Labels) -> u32 {
    let mut text = Vec::new();
    for (name, value) in labels.iter() {
        text.extend_from_slice(name.as_bytes());
        text.push(0);
        text.extend_from_slice(value.as_bytes());
        text.push(0);
    }
    checksum(&text, &[i64::from(id), i64::from(stream)])
}

/// Labels by their ids, while a file is read: series that differ in their metric names share the others.
#[derive(Default)]
struct Shelf {
    pairs: HashMap<u32, (Arc<str>, Arc<str>)>,
    others: HashMap<Vec<u32>, Labels>,
}

impl Shelf {
    /// The labels of a series, and their ids in the order of the names, so that both stay side by side.
    fn labels(&mut self, ids: &str) -> std::result::Result<(Labels, Vec<u32>), Damage> {
        let ids: Vec<u32> = serde_json::from_str(ids).map_err(|_| Damage("its labels are no list of ids"))?;
        let found: Option<Vec<_>> = ids.iter().map(|id| self.pairs.get(id)).collect();
        let found = found.ok_or(Damage("one of its labels is not there"))?;
        let metric = found.iter().position(|(name, _)| **name == *METRIC_NAME);
        let others: Vec<u32> = (0..ids.len()).filter(|at| Some(*at) != metric).map(|at| ids[at]).collect();
        let labels = match (metric, self.others.get(&others)) {
            (Some(at), Some(labels)) => labels.named(&found[at].1),
            _ => {
                let labels = Labels::new(found.into_iter().cloned()).map_err(|_| Damage("it has a label twice"))?;
                self.others.insert(others, labels.clone());
                labels
            }
        };
        if labels.len() == ids.len() { Ok((labels, ids)) } else { Err(Damage("it has an empty label")) }
    }
}
