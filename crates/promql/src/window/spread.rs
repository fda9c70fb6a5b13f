//! `stdvar_over_time` and `stddev_over_time`.

use super::{Span, Windows};
use crate::number::compensated;

/// The variance by Welford's method with compensation, then what is to be made of it.
pub(super) fn variance(at: &[i64], values: &[f64], windows: Windows, result: fn(f64) -> f64) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| {
        let (mut count, mut mean, mut mean_rest, mut squares, mut squares_rest) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &value in &values[from..to] {
            count += 1.0;
            let delta = value - (mean + mean_rest);
            (mean, mean_rest) = compensated(delta / count, mean, mean_rest);
            (squares, squares_rest) = compensated(delta * (value - (mean + mean_rest)), squares, squares_rest);
        }
        result((squares + squares_rest) / count)
    })
}
