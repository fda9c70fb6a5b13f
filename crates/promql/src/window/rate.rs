//! `rate`, `increase`, `delta`, `irate`, `idelta`.

use super::{Span, Windows};
use crate::rows::absent;

/// The change over each window, extrapolated to its ends as Prometheus does: all the way when the first or last sample
/// is within 110 % of the average distance, else by half of that distance; a counter not beyond its zero.
pub(super) fn extrapolated(at: &[i64], values: &[f64], windows: Windows, counter: bool, per_second: bool) -> Vec<f64> {
    // Counters are rarely reset: the places are found once, and each window adds only its own.
    let resets: Vec<usize> = match counter {
        true => (1..values.len()).filter(|&place| values[place] < values[place - 1]).collect(),
        false => Vec::new(),
    };
    let mut next_reset = 0;
    windows.each(at, |span| {
        let Span { from, to, .. } = span;
        if to - from < 2 {
            return absent();
        }
        let mut change = values[to - 1] - values[from];
        while next_reset < resets.len() && resets[next_reset] <= from {
            next_reset += 1;
        }
        for &reset in resets[next_reset..].iter().take_while(|&&reset| reset < to) {
            change += values[reset - 1];
        }
        change * factor(at, values[from], change, span, windows.range_ms, (counter, per_second))
    })
}

fn factor(at: &[i64], first: f64, change: f64, span: Span, range_ms: i64, (counter, per_second): (bool, bool)) -> f64 {
    let (first_ms, last_ms) = (at[span.from], at[span.to - 1]);
    let mut to_start = (first_ms - (span.end_ms - range_ms)) as f64 / 1000.0;
    let mut to_end = (span.end_ms - last_ms) as f64 / 1000.0;
    let sampled = (last_ms - first_ms) as f64 / 1000.0;
    let average = sampled / (span.to - span.from - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if counter && change > 0.0 && first >= 0.0 {
        let to_zero = sampled * (first / change);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let factor = match sampled {
        0.0 => 1.0,
        sampled => (sampled + to_start + to_end) / sampled,
    };
    if per_second { factor / (range_ms as f64 / 1000.0) } else { factor }
}

/// The change between the last two samples; per second, and aware of resets, for a counter.
pub(super) fn of_last_two(at: &[i64], values: &[f64], windows: Windows, counter: bool) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| {
        if to - from < 2 || at[to - 1] == at[to - 2] {
            return absent();
        }
        let (before, last) = (values[to - 2], values[to - 1]);
        match counter {
            false => last - before,
            true => {
                let change = if last < before { last } else { last - before };
                change / ((at[to - 1] - at[to - 2]) as f64 / 1000.0)
            }
        }
    })
}
