//! What nodes give each other: columns of values, one per step.

use crate::error::{QueryError, same_labels};
use std::collections::HashMap;
use std::sync::Arc;
use surus_core::series::{self, Labels, METRIC_NAME};

/// Stands where a series has no value at a step. It is the NaN that ends series: selectors never give that one as a
/// value, and no operation makes it.
pub(crate) fn absent() -> f64 {
    series::stale()
}

/// Does this label say what the values are, so that it goes when they become something else: the metric's name, type
/// and unit (`__type__` and `__unit__`, which Prometheus can add)?
pub(crate) fn is_metadata(label: &str) -> bool {
    label == METRIC_NAME || label == "__type__" || label == "__unit__"
}

/// Is there no value?
pub(crate) fn is_absent(value: f64) -> bool {
    series::is_stale(value)
}

/// One series of a vector, with a value or [`absent`] for every step.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub labels: Labels,
    /// The metric name is no longer true and goes at the very end, so that what is outside can still tell series apart.
    pub drop_name: bool,
    pub values: Vec<f64>,
}

impl Row {
    /// A series without name, with these values.
    pub(crate) fn new(labels: Labels, values: Vec<f64>) -> Self {
        Self { labels, drop_name: false, values }
    }

    /// Is there a value at this step?
    pub(crate) fn has(&self, step: usize) -> bool {
        !is_absent(self.values[step])
    }

    /// Applies a function to every value; the name is no longer true.
    pub(crate) fn map(&mut self, apply: impl Fn(f64) -> f64) {
        self.drop_name = true;
        for value in &mut self.values {
            if !is_absent(*value) {
                *value = apply(*value);
            }
        }
    }

    /// The labels as they are shown.
    pub(crate) fn shown(&self) -> Labels {
        match self.drop_name {
            true => self.labels.keep(|name| !is_metadata(name)),
            false => self.labels.clone(),
        }
    }
}

/// One series of a range vector: samples with their own times, none of which ends the series.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub labels: Labels,
    pub drop_name: bool,
    pub at_ms: Arc<[i64]>,
    pub values: Arc<Vec<f64>>,
}

/// The value of a node.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    /// A value for every step.
    Scalar(Vec<f64>),
    Text(String),
    Vector(Vec<Row>),
}

/// Puts rows with the same labels together, as long as each step has one of them at most.
#[derive(Default)]
pub(crate) struct Merger {
    rows: Vec<Row>,
    places: HashMap<(Labels, bool), usize>,
}

impl Merger {
    /// Adds a row.
    pub(crate) fn add(&mut self, row: Row) -> Result<(), QueryError> {
        let key = (row.labels.clone(), row.drop_name);
        match self.places.get(&key) {
            None => {
                self.places.insert(key, self.rows.len());
                self.rows.push(row);
            }
            Some(&place) => {
                for (own, other) in self.rows[place].values.iter_mut().zip(row.values) {
                    match (is_absent(*own), is_absent(other)) {
                        (true, _) => *own = other,
                        (false, true) => {}
                        (false, false) => return Err(same_labels()),
                    }
                }
            }
        }
        Ok(())
    }

    /// The rows in the order in which their labels first came.
    pub(crate) fn rows(self) -> Vec<Row> {
        self.rows
    }
}

/// Rows as they are shown: without names that are no longer true.
pub(crate) fn finished(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut merger = Merger::default();
    for row in rows {
        merger.add(Row { labels: row.shown(), drop_name: false, values: row.values })?;
    }
    Ok(merger.rows())
}
