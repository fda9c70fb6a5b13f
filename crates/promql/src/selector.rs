//! Selecting samples: each selector once for all steps.

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::plan::{At, Selector};
use crate::rows::{Row, Stretch, absent, is_absent};
use crate::window::Windows;
use std::fmt::Write;
use std::sync::Arc;
use surus_core::series::{Hints, Labels, Window};

/// A selected series, with the values that end it.
#[derive(Debug, Clone)]
pub(crate) struct Selected {
    pub labels: Labels,
    pub at_ms: Arc<[i64]>,
    pub values: Arc<Vec<f64>>,
}

/// Selections that were made already: a query may name the same series more than once.
#[derive(Default)]
pub(crate) struct Selections(Vec<(String, Arc<Vec<Selected>>)>);

/// A range vector with the windows that functions look through.
pub(crate) struct Ranges {
    pub stretches: Vec<Stretch>,
    pub windows: Windows,
}

impl Evaluator<'_> {
    /// Where the windows lie that end at the steps, as `@` and `offset` move them.
    pub(crate) fn windows(&self, at: At, offset_ms: i64, range_ms: i64, grid: Grid) -> Windows {
        let held = match at {
            At::Step => None,
            At::Start => Some(self.query.start_ms),
            At::End => Some(self.query.end_ms()),
            At::Time(time) => Some(time),
        };
        Windows {
            first_ms: held.unwrap_or(grid.start_ms) - offset_ms,
            step_ms: if held.is_some() { 0 } else { grid.step_ms },
            steps: grid.steps,
            range_ms,
        }
    }

    fn select(
        &mut self,
        selector: &Selector,
        windows: Windows,
        function: Option<&str>,
    ) -> Result<Arc<Vec<Selected>>, QueryError> {
        let window = Window { after_ms: windows.first_ms - windows.range_ms, until_ms: windows.last_ms() };
        let mut key = format!("{window:?} {function:?}");
        for matcher in &selector.matchers {
            let _ = write!(key, " {matcher}");
        }
        if let Some((_, found)) = self.selections.0.iter().find(|(own, _)| *own == key) {
            return Ok(Arc::clone(found));
        }
        let step_ms = if windows.steps > 1 { windows.step_ms } else { 0 };
        let hints = Hints { step_ms, range_ms: windows.range_ms, function };
        let series = self.source.select(&selector.matchers, window, hints)?;
        self.watch.hold(series.iter().map(|series| series.values.len()).sum())?;
        let selected = series.into_iter().map(|series| Selected {
            labels: series.labels,
            at_ms: series.at_ms,
            values: Arc::new(series.values),
        });
        let selected: Arc<Vec<Selected>> = Arc::new(selected.collect());
        self.selections.0.push((key, Arc::clone(&selected)));
        Ok(selected)
    }

    /// An instant vector: at each step the last sample that is younger than the look-back, or the time of that sample
    /// in seconds.
    pub(crate) fn vector(&mut self, selector: &Selector, grid: Grid, times: bool) -> Result<Vec<Row>, QueryError> {
        let lookback_ms = i64::try_from(self.options.lookback.as_millis()).unwrap_or(i64::MAX);
        let windows = self.windows(selector.at, selector.offset_ms, lookback_ms, grid);
        let selected = self.select(selector, windows, None)?;
        let mut rows = Vec::with_capacity(selected.len());
        for series in selected.iter() {
            self.watch.check()?;
            let (at, own) = (&*series.at_ms, &*series.values);
            let values = windows.each(at, |span| match own[span.to - 1] {
                ended if is_absent(ended) => absent(),
                _ if times => at[span.to - 1] as f64 / 1000.0,
                value => value,
            });
            if values.iter().any(|value| !is_absent(*value)) {
                self.watch.hold(values.len())?;
                rows.push(Row { labels: series.labels.clone(), drop_name: times, values });
            }
        }
        Ok(rows)
    }

    /// A range vector of samples.
    pub(crate) fn ranges(
        &mut self,
        selector: &Selector,
        range_ms: i64,
        grid: Grid,
        function: Option<&str>,
    ) -> Result<Ranges, QueryError> {
        let windows = self.windows(selector.at, selector.offset_ms, range_ms, grid);
        let selected = self.select(selector, windows, function)?;
        let stretches = selected.iter().map(without_ends).filter(|stretch| !stretch.at_ms.is_empty()).collect();
        Ok(Ranges { stretches, windows })
    }
}

/// The samples without those that only say that the series ended.
fn without_ends(series: &Selected) -> Stretch {
    let (mut at_ms, mut values) = (Arc::clone(&series.at_ms), Arc::clone(&series.values));
    if series.values.iter().any(|value| is_absent(*value)) {
        let samples = || series.at_ms.iter().zip(series.values.iter()).filter(|(_, value)| !is_absent(**value));
        at_ms = samples().map(|(at, _)| *at).collect();
        values = Arc::new(samples().map(|(_, value)| *value).collect());
    }
    Stretch { labels: series.labels.clone(), drop_name: false, at_ms, values }
}
