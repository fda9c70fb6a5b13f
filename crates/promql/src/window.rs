//! Functions over range vectors: each series' samples are gone through once, with a window that slides along.

mod change;
mod count;
mod extreme;
mod order;
mod rate;
mod spread;
mod sum;
mod trend;

use crate::error::QueryError;
use crate::grid::Grid;
use crate::rows::{Stretch, absent};

/// The functions that take a range vector and give one value per series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window {
    Rate,
    Increase,
    Delta,
    Irate,
    Idelta,
    Resets,
    Changes,
    Deriv,
    PredictLinear,
    DoubleExponentialSmoothing,
    Sum,
    Avg,
    Count,
    Min,
    Max,
    First,
    Last,
    Present,
    Stddev,
    Stdvar,
    Quantile,
    Mad,
    TimeOfFirst,
    TimeOfLast,
    TimeOfMin,
    TimeOfMax,
}

impl Window {
    /// Does the metric name remain true?
    pub(crate) fn keeps_name(self) -> bool {
        matches!(self, Self::First | Self::Last)
    }

    /// Is it meant for counters only?
    pub(crate) fn wants_counter(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }

    /// The values of a series for all steps. The scalars are the other arguments, one value per step.
    pub(crate) fn values(
        self,
        stretch: &Stretch,
        windows: Windows,
        grid: Grid,
        scalars: &[Vec<f64>],
    ) -> Result<Vec<f64>, QueryError> {
        let scalar = |number: usize| move |step: usize| scalars.get(number).map_or(f64::NAN, |values| values[step]);
        let (at, values) = (&*stretch.at_ms, stretch.values.as_slice());
        Ok(match self {
            Self::Rate => rate::extrapolated(at, values, windows, true, true),
            Self::Increase => rate::extrapolated(at, values, windows, true, false),
            Self::Delta => rate::extrapolated(at, values, windows, false, false),
            Self::Irate => rate::of_last_two(at, values, windows, true),
            Self::Idelta => rate::of_last_two(at, values, windows, false),
            Self::Resets => change::resets(at, values, windows),
            Self::Changes => change::changes(at, values, windows),
            Self::Deriv => trend::slope(at, values, windows),
            Self::PredictLinear => trend::predicted(at, values, windows, grid, scalar(0)),
            Self::DoubleExponentialSmoothing => trend::smoothed(at, values, windows, scalar(0), scalar(1))?,
            Self::Sum => sum::sum(at, values, windows),
            Self::Avg => sum::mean(at, values, windows),
            Self::Count => count::count(at, windows),
            Self::Present => count::present(at, windows),
            Self::First => windows.each(at, |window| values[window.from]),
            Self::Last => windows.each(at, |window| values[window.to - 1]),
            Self::TimeOfFirst => windows.each(at, |window| at[window.from] as f64 / 1000.0),
            Self::TimeOfLast => windows.each(at, |window| at[window.to - 1] as f64 / 1000.0),
            Self::Min => extreme::values(at, values, windows, |new, old| new < old),
            Self::Max => extreme::values(at, values, windows, |new, old| new > old),
            Self::TimeOfMin => extreme::times(at, values, windows, |new, old| new <= old),
            Self::TimeOfMax => extreme::times(at, values, windows, |new, old| new >= old),
            Self::Stddev => spread::variance(at, values, windows, f64::sqrt),
            Self::Stdvar => spread::variance(at, values, windows, |variance| variance),
            Self::Quantile => order::quantile(at, values, windows, scalar(0)),
            Self::Mad => order::median_deviation(at, values, windows),
        })
    }
}

/// Where the windows of a range vector lie: one per step, open at its start, closed at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows {
    /// End of the first window.
    pub first_ms: i64,
    /// From one end to the next; 0 when `@` holds them all in one place.
    pub step_ms: i64,
    pub steps: usize,
    pub range_ms: i64,
}

/// The samples of one window, by their places in the series: from, up to and without to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub step: usize,
    pub from: usize,
    pub to: usize,
    pub end_ms: i64,
}

impl Windows {
    /// The value of each window that has samples.
    pub(crate) fn each(&self, at: &[i64], mut value: impl FnMut(Span) -> f64) -> Vec<f64> {
        let mut values = vec![absent(); self.steps];
        let (mut from, mut to, mut end_ms) = (0, 0, self.first_ms);
        for (step, own) in values.iter_mut().enumerate() {
            while to < at.len() && at[to] <= end_ms {
                to += 1;
            }
            let start_ms = end_ms - self.range_ms;
            while from < to && at[from] <= start_ms {
                from += 1;
            }
            if from < to {
                *own = value(Span { step, from, to, end_ms });
            }
            end_ms += self.step_ms;
        }
        values
    }

    /// Where the last window ends.
    pub(crate) fn last_ms(&self) -> i64 {
        self.first_ms + self.step_ms * i64::try_from(self.steps.saturating_sub(1)).unwrap_or(i64::MAX)
    }
}
