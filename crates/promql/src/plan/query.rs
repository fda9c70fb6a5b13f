//! A parsed query.

use super::compile::{Compiler, check_root};
use super::{Node, bounds, places};
use crate::answer::{Answer, Line, Sample, Value};
use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::options::Options;
use crate::rows::{Data, Row, finished, is_absent};
use surus_core::series::Source;

/// A query that can be evaluated, any number of times.
#[derive(Debug, Clone)]
pub struct Query {
    text: String,
    root: Node,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// When it is not valid PromQL, or uses something experimental that is not supported.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        bounds::check(text)?;
        if let Some(wrong) = places::not_text(text) {
            return Err(QueryError::bad(format!("the string {wrong} is not UTF-8")));
        }
        let places = places::places(text);
        let expression = promql_parser::parser::parse(text).map_err(|why| match places::experimental(text) {
            Some(what) => QueryError::bad(format!("{what} is experimental and not supported")),
            None => QueryError::bad(bounds::explained(text, &why)),
        })?;
        let root = Compiler { places: places.iter(), depth: 0 }.node(&expression)?;
        Ok(Self { text: text.to_owned(), root })
    }

    /// The text that was parsed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The query with every selector and subquery that has no `@` held at a moment. None when its value would change
    /// with the time of the evaluation even then.
    pub fn held_at(&self, at_ms: i64) -> Option<Self> {
        if self.root.depends_on_time() {
            return None;
        }
        let mut held = self.clone();
        held.root.held_at(at_ms);
        Some(held)
    }

    /// Answers for one moment.
    ///
    /// # Errors
    /// When it cannot be evaluated over these series, or a limit was reached.
    pub fn instant(&self, source: &dyn Source, at_ms: i64, options: &Options) -> Result<Answer, QueryError> {
        let grid = Grid::at(at_ms);
        let mut evaluator = Evaluator::new(source, options, grid);
        let value = match &self.root {
            Node::Range { .. } | Node::Subquery { .. } => {
                let stretches = evaluator.matrix(&self.root, grid)?.stretches;
                let lines = stretches.into_iter().map(|stretch| Line {
                    points: stretch.at_ms.iter().copied().zip(stretch.values.iter().copied()).collect(),
                    labels: Row { labels: stretch.labels, drop_name: stretch.drop_name, values: Vec::new() }.shown(),
                });
                let mut lines: Vec<Line> = lines.collect();
                lines.sort_by(|a, b| a.labels.cmp(&b.labels));
                Value::Matrix(lines)
            }
            root => match evaluator.evaluate(root, grid)? {
                Data::Scalar(values) => Value::Scalar { at_ms, value: values.first().copied().unwrap_or(f64::NAN) },
                Data::Text(text) => Value::Text { at_ms, text },
                Data::Vector(rows) => {
                    let rows = finished(rows)?.into_iter();
                    let samples = rows.map(|row| Sample { value: row.values[0], labels: row.labels, at_ms });
                    Value::Vector(samples.filter(|sample| !is_absent(sample.value)).collect())
                }
            },
        };
        Ok(self.answer(value, &evaluator))
    }

    /// Answers for every step from start to end, both included.
    ///
    /// # Errors
    /// As [`Query::instant`]; also when start, end and step make no range, or more points than the limit.
    pub fn range(
        &self,
        source: &dyn Source,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
        options: &Options,
    ) -> Result<Answer, QueryError> {
        check_root(&self.root, true)?;
        if step_ms <= 0 {
            return Err(QueryError::bad(
                "zero or negative query resolution step widths are not accepted. Try a positive integer",
            ));
        }
        if end_ms < start_ms {
            return Err(QueryError::bad("end timestamp must not be before start time"));
        }
        let grid = Grid::between(start_ms, end_ms, step_ms);
        if grid.steps.saturating_sub(1) > options.max_points {
            let most = options.max_points;
            return Err(QueryError::bad(format!(
                "exceeded maximum resolution of {most} points per timeseries. Try decreasing the query resolution (?step=XX)"
            )));
        }
        let mut evaluator = Evaluator::new(source, options, grid);
        let rows = match evaluator.evaluate(&self.root, grid)? {
            Data::Scalar(values) => vec![Row::new(surus_core::series::Labels::empty(), values)],
            Data::Vector(rows) => finished(rows)?,
            Data::Text(_) => Vec::new(),
        };
        let lines = rows.into_iter().map(|row| Line { points: points(&row.values, grid), labels: row.labels });
        let mut lines: Vec<Line> = lines.filter(|line| !line.points.is_empty()).collect();
        lines.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(self.answer(Value::Matrix(lines), &evaluator))
    }

    fn answer(&self, value: Value, evaluator: &Evaluator<'_>) -> Answer {
        let (warnings, infos) = evaluator.annotations.texts(&self.text);
        Answer { value, warnings, infos }
    }
}

fn points(values: &[f64], grid: Grid) -> Vec<(i64, f64)> {
    let present = values.iter().enumerate().filter(|(_, value)| !is_absent(**value));
    present.map(|(step, value)| (grid.time(step), *value)).collect()
}
