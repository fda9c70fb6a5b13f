//! `absent` and `absent_over_time`.

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::{Call, Node};
use crate::rows::{Row, absent, is_absent};
use std::collections::HashSet;
use surus_core::series::{Labels, METRIC_NAME, Op};

impl Evaluator<'_> {
    pub(super) fn absent(&mut self, argument: &Node, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let mut missing = vec![true; grid.steps];
        for row in self.rows(argument, grid)? {
            for (missing, value) in missing.iter_mut().zip(&row.values) {
                *missing &= is_absent(*value);
            }
        }
        Ok(said(labels(argument), &missing))
    }

    pub(super) fn absent_over_time(&mut self, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let Some(argument) = call.arguments.first() else {
            return Err(QueryError::execution("an argument is missing"));
        };
        let ranges = self.matrix(argument, grid)?;
        let mut missing = vec![true; grid.steps];
        for stretch in &ranges.stretches {
            ranges.windows.each(&stretch.at_ms, |span| {
                missing[span.step] = false;
                1.0
            });
        }
        Ok(said(labels(argument), &missing))
    }
}

/// 1 where it is missing.
fn said(labels: Labels, missing: &[bool]) -> Vec<Row> {
    if !missing.contains(&true) {
        return Vec::new();
    }
    let values = missing.iter().map(|missing| if *missing { 1.0 } else { absent() });
    vec![Row::new(labels, values.collect())]
}

/// The labels of what is missing, as far as the selector says them: those of equality, once.
fn labels(argument: &Node) -> Labels {
    let (Node::Select(selector) | Node::Range { selector, .. }) = argument else {
        return Labels::empty();
    };
    let mut labels = Labels::empty();
    let mut seen = HashSet::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name != METRIC_NAME) {
        let first = matcher.op == Op::Equal && seen.insert(&matcher.name);
        labels = labels.with(&matcher.name, if first { &matcher.value } else { "" });
    }
    labels
}
