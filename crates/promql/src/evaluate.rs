//! Walking the plan: each node gives the values of all steps at once.

use crate::annotations::Annotations;
use crate::error::QueryError;
use crate::grid::Grid;
use crate::options::{Options, Watch};
use crate::plan::{At, Node};
use crate::rows::{Data, Row, Stretch, is_absent};
use crate::selector::{Ranges, Selections};
use std::sync::Arc;
use surus_core::series::Source;

/// One evaluation of one query.
pub(crate) struct Evaluator<'a> {
    pub source: &'a dyn Source,
    pub options: &'a Options,
    /// The steps of the whole query, which `start()` and `end()` mean also inside a subquery.
    pub query: Grid,
    pub watch: Watch,
    pub annotations: Annotations,
    pub selections: Selections,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(source: &'a dyn Source, options: &'a Options, query: Grid) -> Self {
        let (watch, annotations) = (Watch::new(options), Annotations::default());
        Self { source, options, query, watch, annotations, selections: Selections::default() }
    }

    /// The value of a node at all steps.
    pub(crate) fn evaluate(&mut self, node: &Node, grid: Grid) -> Result<Data, QueryError> {
        self.watch.check()?;
        match node {
            Node::Number(number) => return Ok(Data::Scalar(vec![*number; grid.steps])),
            Node::Text(text) => return Ok(Data::Text(text.clone())),
            _ => {}
        }
        if grid.steps > 1 && node.is_fixed() {
            let once = self.evaluate(node, grid.first())?;
            return self.repeated(once, grid.steps);
        }
        match node {
            Node::Number(_) | Node::Text(_) => Err(QueryError::execution("a literal has no steps")),
            Node::Select(selector) => self.vector(selector, grid, false).map(Data::Vector),
            Node::Range { .. } | Node::Subquery { .. } => {
                Err(QueryError::execution("a range vector stands where only a function over ranges may take it"))
            }
            Node::Negate(inner) => Ok(match self.evaluate(inner, grid)? {
                Data::Scalar(values) => Data::Scalar(values.into_iter().map(|value| -value).collect()),
                Data::Vector(mut rows) => {
                    rows.iter_mut().for_each(|row| row.map(|value| -value));
                    Data::Vector(rows)
                }
                text @ Data::Text(_) => text,
            }),
            Node::Binary { operator, left, right, matching, as_bool } => {
                let left = self.evaluate(left, grid)?;
                let right = self.evaluate(right, grid)?;
                self.binary(*operator, left, right, matching, *as_bool)
            }
            Node::Aggregate(aggregate) => self.aggregate(aggregate, grid).map(Data::Vector),
            Node::Call(call) => self.call(call, grid),
        }
    }

    fn repeated(&mut self, once: Data, steps: usize) -> Result<Data, QueryError> {
        let repeat = |values: &[f64]| vec![values.first().copied().unwrap_or(f64::NAN); steps];
        Ok(match once {
            Data::Scalar(values) => Data::Scalar(repeat(&values)),
            Data::Vector(rows) => {
                self.watch.hold(rows.len().saturating_mul(steps))?;
                let rows = rows.into_iter().map(|row| Row { values: repeat(&row.values), ..row });
                Data::Vector(rows.collect())
            }
            text @ Data::Text(_) => text,
        })
    }

    /// The value of a node that is a scalar.
    pub(crate) fn scalar(&mut self, node: &Node, grid: Grid) -> Result<Vec<f64>, QueryError> {
        match self.evaluate(node, grid)? {
            Data::Scalar(values) => Ok(values),
            _ => Err(QueryError::execution("a scalar was expected")),
        }
    }

    /// The value of a node that is an instant vector.
    pub(crate) fn rows(&mut self, node: &Node, grid: Grid) -> Result<Vec<Row>, QueryError> {
        match self.evaluate(node, grid)? {
            Data::Vector(rows) => Ok(rows),
            _ => Err(QueryError::execution("an instant vector was expected")),
        }
    }

    /// The value of a node that is a range vector.
    pub(crate) fn matrix(&mut self, node: &Node, grid: Grid) -> Result<Ranges, QueryError> {
        self.matrix_for(node, grid, None)
    }

    /// As [`Evaluator::matrix`], for a function.
    pub(crate) fn matrix_for(&mut self, node: &Node, grid: Grid, function: Option<&str>) -> Result<Ranges, QueryError> {
        match node {
            Node::Range { selector, range_ms } => self.ranges(selector, *range_ms, grid, function),
            Node::Subquery { inner, range_ms, step_ms, at, offset_ms } => {
                let step_ms = step_ms.unwrap_or_else(|| self.subquery_step_ms());
                self.subquery(inner, (*range_ms, step_ms), (*at, *offset_ms), grid)
            }
            _ => Err(QueryError::execution("a range vector was expected")),
        }
    }

    fn subquery_step_ms(&self) -> i64 {
        i64::try_from(self.options.subquery_step.as_millis()).unwrap_or(i64::MAX).max(1)
    }

    /// A node evaluated at steps of its own, which lie at multiples of the step whatever the time of the query.
    fn subquery(
        &mut self,
        inner: &Node,
        (range_ms, step_ms): (i64, i64),
        (at, offset_ms): (At, i64),
        grid: Grid,
    ) -> Result<Ranges, QueryError> {
        let windows = self.windows(at, offset_ms, range_ms, grid);
        let after_ms = windows.first_ms - range_ms;
        let start_ms = (after_ms.div_euclid(step_ms) + 1) * step_ms;
        let steps = Grid::between(start_ms, windows.last_ms(), step_ms);
        if steps.steps == 0 {
            return Ok(Ranges { stretches: Vec::new(), windows });
        }
        self.watch.hold(steps.steps)?;
        let rows = match self.evaluate(inner, steps)? {
            Data::Vector(rows) => rows,
            Data::Scalar(values) => vec![Row::new(surus_core::series::Labels::empty(), values)],
            Data::Text(_) => return Err(QueryError::execution("a subquery over a string")),
        };
        let all: Arc<[i64]> = (0..steps.steps).map(|step| steps.time(step)).collect();
        let stretches = rows.into_iter().map(|row| stretch(row, &all));
        let stretches = stretches.filter(|stretch| !stretch.at_ms.is_empty()).collect();
        Ok(Ranges { stretches, windows })
    }
}

/// A row as samples; rows without gaps share their times.
fn stretch(row: Row, all: &Arc<[i64]>) -> Stretch {
    let Row { labels, drop_name, values } = row;
    if values.iter().all(|value| !is_absent(*value)) {
        return Stretch { labels, drop_name, at_ms: Arc::clone(all), values: Arc::new(values) };
    }
    let samples = || all.iter().zip(&values).filter(|(_, value)| !is_absent(**value));
    let at_ms = samples().map(|(at, _)| *at).collect();
    let values = Arc::new(samples().map(|(_, value)| *value).collect());
    Stretch { labels, drop_name, at_ms, values }
}
