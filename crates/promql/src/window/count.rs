//! `count_over_time` and `present_over_time`.

use super::{Span, Windows};

/// How many samples.
pub(super) fn count(at: &[i64], windows: Windows) -> Vec<f64> {
    windows.each(at, |Span { from, to, .. }| (to - from) as f64)
}

/// 1 where there is a sample.
pub(super) fn present(at: &[i64], windows: Windows) -> Vec<f64> {
    windows.each(at, |_| 1.0)
}
