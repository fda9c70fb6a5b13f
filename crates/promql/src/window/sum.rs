//! `sum_over_time` and `avg_over_time`.

use super::{Span, Windows};
use crate::number::{Mean, compensated};

/// The sum, with compensation for rounding.
pub(super) fn sum(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| {
        let (mut sum, mut compensation) = (0.0, 0.0);
        for &value in &values[from..to] {
            (sum, compensation) = compensated(value, sum, compensation);
        }
        if sum.is_infinite() { sum } else { sum + compensation }
    })
}

/// The mean.
pub(super) fn mean(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| {
        let mut mean = Mean::of(values[from]);
        values[from + 1..to].iter().for_each(|&value| mean.add(value));
        mean.value()
    })
}
