//! `label_replace` and `label_join`: once per series.

use super::{is_label, is_metric_name};
use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::Node;
use crate::rows::{Merger, Row};
use regex::Regex;

fn text(arguments: &[Node], number: usize) -> &str {
    match arguments.get(number) {
        Some(Node::Text(text)) => text,
        _ => "",
    }
}

fn merged(rows: Vec<Row>) -> Result<Vec<Row>, QueryError> {
    let mut merger = Merger::default();
    for row in rows {
        merger.add(row)?;
    }
    Ok(merger.rows())
}

impl Evaluator<'_> {
    pub(super) fn label_replace(&mut self, arguments: &[Node], grid: Grid) -> Result<Vec<Row>, QueryError> {
        let [series, ..] = arguments else { return Ok(Vec::new()) };
        let (target, replacement, source) = (text(arguments, 1), text(arguments, 2), text(arguments, 3));
        let pattern = text(arguments, 4);
        let regex = Regex::new(&format!("^(?s:{pattern})$"))
            .map_err(|_| QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        if !is_label(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_replace(): {target}")));
        }
        let mut rows = self.rows(series, grid)?;
        for row in &mut rows {
            let Some(found) = regex.captures(row.labels.get(source).unwrap_or_default()) else { continue };
            let mut value = String::new();
            found.expand(replacement, &mut value);
            set(row, target, &value);
        }
        merged(rows)
    }

    pub(super) fn label_join(&mut self, arguments: &[Node], grid: Grid) -> Result<Vec<Row>, QueryError> {
        let [series, ..] = arguments else { return Ok(Vec::new()) };
        let (target, separator) = (text(arguments, 1), text(arguments, 2));
        let sources: Vec<&str> = (3..arguments.len()).map(|number| text(arguments, number)).collect();
        if let Some(wrong) = sources.iter().find(|source| !is_label(source)) {
            return Err(QueryError::execution(format!("invalid source label name in label_join(): {wrong}")));
        }
        if !is_label(target) {
            return Err(QueryError::execution(format!("invalid destination label name in label_join(): {target}")));
        }
        let mut rows = self.rows(series, grid)?;
        for row in &mut rows {
            let values: Vec<&str> = sources.iter().map(|source| row.labels.get(source).unwrap_or_default()).collect();
            let value = values.join(separator);
            set(row, target, &value);
        }
        merged(rows)
    }
}

fn set(row: &mut Row, target: &str, value: &str) {
    row.labels = row.labels.with(target, value);
    // A name that was just given is true again.
    row.drop_name &= !is_metric_name(target);
}
