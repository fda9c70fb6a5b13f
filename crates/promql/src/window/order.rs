//! `quantile_over_time` and `mad_over_time`.

use super::{Span, Windows};
use crate::number;

/// The quantile of each window's values.
pub(super) fn quantile(at: &[i64], values: &[f64], windows: Windows, q: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut sorted = Vec::new();
    windows.each(at, |Span { step, from, to, .. }| {
        sorted.clear();
        sorted.extend_from_slice(&values[from..to]);
        number::quantile(q(step), &mut sorted)
    })
}

/// The median of the distances to the median.
pub(super) fn median_deviation(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    let mut sorted = Vec::new();
    windows.each(at, |Span { from, to, .. }| {
        sorted.clear();
        sorted.extend_from_slice(&values[from..to]);
        if sorted.iter().any(|value| value.is_nan()) {
            return f64::NAN;
        }
        let median = number::quantile(0.5, &mut sorted);
        sorted.iter_mut().for_each(|value| *value = (*value - median).abs());
        number::quantile(0.5, &mut sorted)
    })
}
