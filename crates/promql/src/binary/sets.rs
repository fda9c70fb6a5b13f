//! `and`, `or`, `unless`.

use super::{Matching, Operator};
use crate::error::QueryError;
use crate::rows::{Merger, Row, absent, is_absent};
use std::collections::HashMap;
use surus_core::series::Labels;

/// At which steps each signature has a series.
fn present(rows: &[Row], matching: &Matching) -> HashMap<Labels, Vec<bool>> {
    let mut present: HashMap<Labels, Vec<bool>> = HashMap::new();
    for row in rows {
        let steps = present.entry(matching.signature(&row.labels)).or_insert_with(|| vec![false; row.values.len()]);
        for (step, value) in steps.iter_mut().zip(&row.values) {
            *step |= !is_absent(*value);
        }
    }
    present
}

/// Keeps the values of steps at which the signature is there, or is not.
fn keep(rows: &mut Vec<Row>, others: &HashMap<Labels, Vec<bool>>, matching: &Matching, when_there: bool) {
    rows.retain_mut(|row| {
        let Some(steps) = others.get(&matching.signature(&row.labels)) else { return !when_there };
        let mut any = false;
        for (value, there) in row.values.iter_mut().zip(steps) {
            if *there != when_there {
                *value = absent();
            }
            any |= !is_absent(*value);
        }
        any
    });
}

/// The set operation at each step.
pub(super) fn combined(
    operator: Operator,
    mut left: Vec<Row>,
    mut right: Vec<Row>,
    matching: &Matching,
) -> Result<Vec<Row>, QueryError> {
    match operator {
        Operator::And => keep(&mut left, &present(&right, matching), matching, true),
        Operator::Unless => keep(&mut left, &present(&right, matching), matching, false),
        _ => {
            keep(&mut right, &present(&left, matching), matching, false);
            let mut merger = Merger::default();
            for row in left.into_iter().chain(right) {
                merger.add(row)?;
            }
            return Ok(merger.rows());
        }
    }
    Ok(left)
}
