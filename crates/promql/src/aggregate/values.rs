//! `quantile` and `count_values`: aggregations that need all values of a step at once.

use super::Members;
use crate::number::{self, number_text};
use crate::plan::Grouping;
use crate::rows::{Row, absent, is_absent};
use std::collections::HashMap;
use surus_core::series::Labels;

/// The quantile of each group at each step.
pub(super) fn quantiles(rows: &[Row], groups: Vec<Members>, wanted: &[f64]) -> Vec<Row> {
    let mut present = Vec::new();
    let mut at = |group: &Members, step: usize, q: f64| {
        present.clear();
        present.extend(group.rows.iter().map(|&place| rows[place].values[step]).filter(|value| !is_absent(*value)));
        if present.is_empty() { absent() } else { number::quantile(q, &mut present) }
    };
    let row = |group: Members| {
        let values = wanted.iter().enumerate().map(|(step, &q)| at(&group, step, q)).collect();
        Row { labels: group.labels, drop_name: group.drop_name, values }
    };
    groups.into_iter().map(row).collect()
}

/// How many series have each value, which becomes a label.
pub(super) fn counted(rows: &[Row], grouping: &Grouping, label: &str, steps: usize) -> Vec<Row> {
    let mut grouping = grouping.clone();
    if !grouping.without {
        grouping.labels.push(label.to_owned());
    }
    let mut result: Vec<Row> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for row in rows {
        for (step, &value) in row.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let labels = grouping.labels(&row.labels.with(label, &number_text(value)));
            let place = *places.entry(labels).or_insert_with_key(|labels| {
                result.push(Row::new(labels.clone(), vec![absent(); steps]));
                result.len() - 1
            });
            let count = &mut result[place].values[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
    }
    result
}
