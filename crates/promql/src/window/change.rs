//! `resets` and `changes`.

use super::{Span, Windows};

/// How often the value fell.
pub(super) fn resets(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    pairs(at, values, windows, |before, after| after < before)
}

/// How often the value changed; from NaN to NaN is no change.
pub(super) fn changes(at: &[i64], values: &[f64], windows: Windows) -> Vec<f64> {
    pairs(at, values, windows, |before, after| before != after && !(before.is_nan() && after.is_nan()))
}

/// How many neighbours fulfil a condition: with a running count, each window is one subtraction.
fn pairs(at: &[i64], values: &[f64], windows: Windows, counts: impl Fn(f64, f64) -> bool) -> Vec<f64> {
    let mut running = Vec::with_capacity(values.len());
    let mut count = 0_u64;
    for (place, &value) in values.iter().enumerate() {
        count += u64::from(place > 0 && counts(values[place - 1], value));
        running.push(count);
    }
    windows.each(at, |Span { from, to, .. }| (running[to - 1] - running[from]) as f64)
}
