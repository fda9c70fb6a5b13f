//! Classic histograms: `histogram_quantile` and `histogram_fraction` over series with the label `le`.

mod buckets;

use crate::annotations::Mended;
use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::number::read_number;
use crate::plan::Call;
use crate::rows::{Row, absent, is_absent};
use buckets::{Bucket, coalesced, fraction, mend, quantile};
use std::collections::HashMap;
use surus_core::series::Labels;

/// The label of a bucket's upper bound.
const BOUND: &str = "le";

/// The series of one histogram: upper bounds, ascending, with the places of their rows.
struct Histogram {
    labels: Labels,
    rows: Vec<(f64, usize)>,
}

impl Evaluator<'_> {
    fn histograms(&mut self, rows: &[Row], place: usize) -> Vec<Histogram> {
        let mut histograms: Vec<Histogram> = Vec::new();
        let mut places: HashMap<Labels, usize> = HashMap::new();
        for (number, row) in rows.iter().enumerate() {
            let label = row.labels.get(BOUND).unwrap_or_default();
            let Some(bound) = read_number(label) else {
                self.annotations.bad_bucket(row.labels.metric().unwrap_or_default(), label, place);
                continue;
            };
            let labels = row.labels.keep(|name| name != BOUND);
            let at = *places.entry(labels).or_insert_with_key(|labels| {
                histograms.push(Histogram { labels: labels.clone(), rows: Vec::new() });
                histograms.len() - 1
            });
            histograms[at].rows.push((bound, number));
        }
        for histogram in &mut histograms {
            histogram.rows.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        }
        histograms
    }

    pub(crate) fn histogram_quantile(&mut self, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let [quantiles, series] = &call.arguments[..] else {
            return Err(QueryError::execution("an argument is missing"));
        };
        let quantiles = self.scalar(quantiles, grid)?;
        for &q in quantiles.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
            self.annotations.invalid_quantile(q, call.places[0]);
        }
        let rows = self.rows(series, grid)?;
        let mut result = Vec::new();
        let mut now = Vec::new();
        for histogram in self.histograms(&rows, call.places[1]) {
            self.watch.check()?;
            let mut values = vec![absent(); grid.steps];
            for (step, value) in values.iter_mut().enumerate() {
                at_step(&histogram, &rows, step, &mut now);
                if now.is_empty() {
                    continue;
                }
                coalesced(&mut now);
                if (0.0..=1.0).contains(&quantiles[step])
                    && now.last().is_some_and(|last| last.bound == f64::INFINITY)
                    && let Some((bucket, difference)) = mend(&mut now)
                {
                    let at_ms = (grid.time(step), grid.time(step));
                    let mended = Mended { at_ms, bucket, difference, count: 1 };
                    let metric = histogram.labels.metric().unwrap_or_default();
                    self.annotations.forced_monotonicity(metric, call.places[1], mended);
                }
                *value = quantile(quantiles[step], &now);
            }
            self.watch.hold(values.len())?;
            result.push(Row { labels: histogram.labels, drop_name: true, values });
        }
        Ok(result)
    }

    pub(crate) fn histogram_fraction(&mut self, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let [lower, upper, series] = &call.arguments[..] else {
            return Err(QueryError::execution("an argument is missing"));
        };
        let (lower, upper) = (self.scalar(lower, grid)?, self.scalar(upper, grid)?);
        let rows = self.rows(series, grid)?;
        let mut result = Vec::new();
        let mut now = Vec::new();
        for histogram in self.histograms(&rows, call.places[2]) {
            self.watch.check()?;
            let mut values = vec![absent(); grid.steps];
            for (step, value) in values.iter_mut().enumerate() {
                at_step(&histogram, &rows, step, &mut now);
                if !now.is_empty() {
                    coalesced(&mut now);
                    *value = fraction(lower[step], upper[step], &now);
                }
            }
            self.watch.hold(values.len())?;
            result.push(Row { labels: histogram.labels, drop_name: true, values });
        }
        Ok(result)
    }
}

/// The buckets that have a value at a step.
fn at_step(histogram: &Histogram, rows: &[Row], step: usize, buckets: &mut Vec<Bucket>) {
    buckets.clear();
    let all = histogram.rows.iter().map(|&(bound, place)| Bucket { bound, count: rows[place].values[step] });
    buckets.extend(all.filter(|bucket| !is_absent(bucket.count)));
}
