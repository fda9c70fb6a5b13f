//! Aggregations: the group of each series is found once, then whole columns are put together.

mod columns;
mod ranking;
mod values;

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::{Aggregate, Aggregation, Grouping, Node};
use crate::rows::{Row, is_absent};
use std::collections::HashMap;
use surus_core::series::{Labels, METRIC_NAME};

impl Grouping {
    /// The labels of the group that a series belongs to.
    fn labels(&self, labels: &Labels) -> Labels {
        let named = |name: &str| self.labels.iter().any(|own| own == name);
        match self.without {
            true => labels.keep(|name| name != METRIC_NAME && !named(name)),
            false if self.labels.is_empty() => Labels::empty(),
            false => labels.keep(named),
        }
    }
}

/// The name of a label may be any text.
fn is_label(name: &str) -> bool {
    !name.is_empty()
}

/// Series that are aggregated into one.
struct Members {
    labels: Labels,
    drop_name: bool,
    rows: Vec<usize>,
}

fn groups(rows: &[Row], grouping: &Grouping) -> Vec<Members> {
    let mut groups: Vec<Members> = Vec::new();
    let mut places: HashMap<Labels, usize> = HashMap::new();
    for (number, row) in rows.iter().enumerate() {
        let labels = grouping.labels(&row.labels);
        let place = *places.entry(labels).or_insert_with_key(|labels| {
            groups.push(Members { labels: labels.clone(), drop_name: false, rows: Vec::new() });
            groups.len() - 1
        });
        groups[place].rows.push(number);
        groups[place].drop_name |= row.drop_name;
    }
    groups
}

impl Evaluator<'_> {
    pub(crate) fn aggregate(&mut self, aggregate: &Aggregate, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let label = match (&aggregate.parameter, aggregate.kind) {
            (Some(Node::Text(label)), Aggregation::CountValues) => Some(label),
            _ => None,
        };
        let parameter = match &aggregate.parameter {
            Some(node) if label.is_none() => self.scalar(node, grid)?,
            _ => Vec::new(),
        };
        let rows = self.rows(&aggregate.inner, grid)?;
        let taken = rows.len() * grid.steps;
        let groups = groups(&rows, &aggregate.grouping);
        let mut result = match aggregate.kind {
            Aggregation::Topk | Aggregation::Bottomk | Aggregation::Limitk => {
                ranking::ranked(aggregate.kind, rows, &groups, &parameter, grid.steps)?
            }
            Aggregation::Quantile => {
                for &q in parameter.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
                    self.annotations.invalid_quantile(q, aggregate.place);
                }
                values::quantiles(&rows, groups, &parameter)
            }
            Aggregation::CountValues => match label {
                Some(label) if is_label(label) => values::counted(&rows, &aggregate.grouping, label, grid.steps),
                _ => return Err(QueryError::execution("invalid label name in count_values")),
            },
            kind => groups.into_iter().map(|group| columns::aggregated(kind, &rows, group, grid.steps)).collect(),
        };
        result.retain(|row| row.values.iter().any(|value| !is_absent(*value)));
        self.watch.hold(result.len() * grid.steps)?;
        self.watch.release(taken);
        Ok(result)
    }
}
