//! `topk`, `bottomk` and `limitk`: at each step some series of each group, with their own labels.

use super::Members;
use crate::error::QueryError;
use crate::plan::Aggregation;
use crate::rows::{Merger, Row, absent, is_absent};
use std::cmp::Ordering;

/// The chosen series. For a single step in the order of their rank, group by group.
pub(super) fn ranked(
    kind: Aggregation,
    rows: Vec<Row>,
    groups: &[Members],
    wanted: &[f64],
    steps: usize,
) -> Result<Vec<Row>, QueryError> {
    let largest = wanted.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = wanted.iter().copied().fold(f64::INFINITY, f64::min);
    if wanted.iter().any(|k| k.is_nan()) {
        return Err(QueryError::execution("Parameter value is NaN"));
    }
    if largest < 1.0 {
        return Ok(Vec::new());
    }
    if smallest <= i64::MIN as f64 {
        return Err(QueryError::execution(format!("Scalar value {smallest} underflows int64")));
    }
    if largest >= i64::MAX as f64 {
        return Err(QueryError::execution(format!("Scalar value {largest} overflows int64")));
    }
    let mut chosen: Vec<Row> = rows.iter().map(|row| Row { values: vec![absent(); steps], ..row.clone() }).collect();
    let mut order = Vec::new();
    for (step, k) in wanted.iter().enumerate().filter(|(_, k)| **k >= 1.0) {
        for group in groups {
            let k = (*k as usize).min(rows.len());
            for place in best(kind, &rows, group, step, k) {
                chosen[place].values[step] = rows[place].values[step];
                if steps == 1 {
                    order.push(place);
                }
            }
        }
    }
    let mut merger = Merger::default();
    match steps {
        1 => order.into_iter().try_for_each(|place| merger.add(chosen[place].clone()))?,
        _ => chosen.into_iter().try_for_each(|row| merger.add(row))?,
    }
    Ok(merger.rows())
}

/// Up to `k` series of a group at a step, best first.
fn best(kind: Aggregation, rows: &[Row], group: &Members, step: usize, k: usize) -> Vec<usize> {
    let there = group.rows.iter().copied().filter(|&place| rows[place].has(step));
    if kind == Aggregation::Limitk {
        return there.take(k).collect();
    }
    let value = |place: &usize| rows[*place].values[step];
    let compare = |a: &usize, b: &usize| {
        let (a, b) = (value(a), value(b));
        let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
        // NaN is the worst either way.
        let order = if kind == Aggregation::Topk { order.reverse() } else { order };
        a.is_nan().cmp(&b.is_nan()).then(order)
    };
    let mut places: Vec<usize> = there.filter(|place| !is_absent(value(place))).collect();
    if places.len() > k {
        // Among equals the first ones stay.
        places.select_nth_unstable_by(k - 1, |a, b| compare(a, b).then(a.cmp(b)));
        places.truncate(k);
    }
    places.sort_unstable_by(|a, b| compare(a, b).then(a.cmp(b)));
    places
}
