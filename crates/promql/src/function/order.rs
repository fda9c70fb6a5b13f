//! `sort`, `sort_desc`, `sort_by_label` and `sort_by_label_desc`: of use only for a single moment.

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::{Call, Node};
use crate::rows::Row;
use std::cmp::Ordering;

impl Evaluator<'_> {
    pub(super) fn sort(&mut self, call: &Call, grid: Grid, descending: bool) -> Result<Vec<Row>, QueryError> {
        let mut rows = self.unsorted(call, grid)?;
        if grid.steps == 1 {
            let by_value = |a: f64, b: f64| a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            rows.sort_by(|a, b| {
                let (a, b) = (a.values[0], b.values[0]);
                // NaN comes last either way.
                let order = if descending { by_value(b, a) } else { by_value(a, b) };
                a.is_nan().cmp(&b.is_nan()).then(order)
            });
        }
        Ok(rows)
    }

    pub(super) fn sort_by_label(&mut self, call: &Call, grid: Grid, descending: bool) -> Result<Vec<Row>, QueryError> {
        let mut rows = self.unsorted(call, grid)?;
        let names = call.arguments.iter().skip(1).filter_map(|argument| match argument {
            Node::Text(name) => Some(name.as_str()),
            _ => None,
        });
        let names: Vec<&str> = names.collect();
        rows.sort_by(|a, b| {
            let label = |row: &Row, name: &str| row.labels.get(name).unwrap_or_default().to_owned();
            let orders = names.iter().map(|name| natural(&label(a, name), &label(b, name)));
            let order = orders.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
            if descending { order.reverse() } else { order }
        });
        Ok(rows)
    }

    fn unsorted(&mut self, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        if grid.steps > 1 {
            self.annotations.sort_in_range(call.place);
        }
        match call.arguments.first() {
            Some(argument) => self.rows(argument, grid),
            None => Err(QueryError::execution("an argument is missing")),
        }
    }
}

/// Compares as people read: runs of digits by their numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (first, a_rest) = run(a);
        let (second, b_rest) = run(b);
        let digits = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let order = match digits(first) && digits(second) {
            true => {
                let (x, y) = (first.trim_start_matches('0'), second.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            false => first.cmp(second),
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    a.len().cmp(&b.len())
}

/// The digits, or the text up to the next digits, that a text begins with; and the rest.
fn run(text: &str) -> (&str, &str) {
    let digit = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digit).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_are_compared_as_numbers() {
        let mut texts = ["4m1000", "4m5", "4m600", "a", "10", "9", ""];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "4m5", "4m600", "4m1000", "9", "10", "a"]);
    }
}
