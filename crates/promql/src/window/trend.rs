//! `deriv`, `predict_linear` and `double_exponential_smoothing`.

use super::{Span, Windows};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::number::compensated;
use crate::rows::absent;

/// The slope per second of a line through the samples.
pub(super) fn slope(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| match to - from {
        // Times count from the first sample: near to the values in use, so that little is lost.
        2.. => line(&at[from..to], &values[from..to], at[from]).0,
        _ => absent(),
    })
}

/// What the line through the samples says for so many seconds after the step.
pub(super) fn predicted(
    at: &[i64],
    values: &[f64],
    windows: Windows,
    grid: Grid,
    seconds: impl Fn(usize) -> f64,
) -> Vec<f64> {
    windows.each(at, |Span { step, from, to, .. }| {
        if to - from < 2 {
            return absent();
        }
        let (slope, intercept) = line(&at[from..to], &values[from..to], grid.time(step));
        slope * seconds(step) + intercept
    })
}

/// Least squares: slope per second, and value at a time.
fn line(at: &[i64], values: &[f64], at_ms: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|&value| value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x, mut y, mut xy, mut xx) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
    for (&time, &value) in at.iter().zip(values) {
        let seconds = (time - at_ms) as f64 / 1000.0;
        x = compensated(seconds, x.0, x.1);
        y = compensated(value, y.0, y.1);
        xy = compensated(seconds * value, xy.0, xy.1);
        xx = compensated(seconds * seconds, xx.0, xx.1);
    }
    let count = values.len() as f64;
    let (x, y, xy, xx) = (x.0 + x.1, y.0 + y.1, xy.0 + xy.1, xx.0 + xx.1);
    let slope = (xy - x * y / count) / (xx - x * x / count);
    (slope, y / count - slope * x / count)
}

/// Holt's linear trend: the smoothed value of each window.
pub(super) fn smoothed(
    at: &[i64],
    values: &[f64],
    windows: Windows,
    smoothing: impl Fn(usize) -> f64,
    trend: impl Fn(usize) -> f64,
) -> Result<Vec<f64>, QueryError> {
    let mut wrong = None;
    let smoothed = windows.each(at, |Span { step, from, to, .. }| {
        let (smoothing, trend) = (smoothing(step), trend(step));
        for (name, factor) in [("smoothing", smoothing), ("trend", trend)] {
            if factor <= 0.0 || factor >= 1.0 {
                wrong.get_or_insert(format!(
                    "invalid {name} factor. Expected: 0 < {}f < 1, got: {factor:.6}",
                    &name[..1]
                ));
            }
        }
        if to - from < 2 {
            return absent();
        }
        let window = &values[from..to];
        let (mut before, mut last, mut slope) = (0.0, window[0], window[1] - window[0]);
        for (number, value) in window.iter().skip(1).enumerate() {
            if number > 0 {
                slope = trend * (last - before) + (1.0 - trend) * slope;
            }
            let next = smoothing * value + (1.0 - smoothing) * (last + slope);
            (before, last) = (last, next);
        }
        last
    });
    match wrong {
        None => Ok(smoothed),
        Some(wrong) => Err(QueryError::execution(wrong)),
    }
}
