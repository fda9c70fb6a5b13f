//! `min_over_time`, `max_over_time` and the times of both. NaN counts only where there is nothing else.

use super::{Span, Windows};
use std::collections::VecDeque;

/// The most extreme value: `beats` says whether the first value is more extreme than the second.
pub(super) fn values(at: &[i64], values: &[f64], windows: Windows, beats: fn(f64, f64) -> bool) -> Vec<f64> {
    // Places of values that may still become the most extreme one; each beats all that follow.
    let mut candidates: VecDeque<usize> = VecDeque::new();
    let mut seen = 0;
    windows.each(at, |Span { from, to, .. }| {
        for (place, &value) in values.iter().enumerate().take(to).skip(seen.max(from)) {
            if value.is_nan() {
                continue;
            }
            while candidates.back().is_some_and(|&last| !beats(values[last], value)) {
                candidates.pop_back();
            }
            candidates.push_back(place);
        }
        seen = to;
        while candidates.front().is_some_and(|&first| first < from) {
            candidates.pop_front();
        }
        candidates.front().map_or(f64::NAN, |&place| values[place])
    })
}

/// The time in seconds of the most extreme value, the last of equal ones: `beats` says whether the first value is at
/// least as extreme as the second.
pub(super) fn times(at: &[i64], values: &[f64], windows: Windows, beats: fn(f64, f64) -> bool) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| {
        let mut best = from;
        for place in from..to {
            if beats(values[place], values[best]) || values[best].is_nan() {
                best = place;
            }
        }
        at[best] as f64 / 1000.0
    })
}
