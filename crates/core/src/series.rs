//! Series: the words in which measurements are collected, kept, asked for and spoken.
//!
//! A series is a label set with samples; its metric name is the label `__name__`. The meanings are Prometheus's
//! (prometheus.io/docs/concepts/data_model), so that its rules, dashboards and tools fit.

mod family;
mod labels;
mod matcher;
mod source;

pub use family::{Family, MetricKind, Point, Told};
pub use labels::{LabelError, Labels, METRIC_NAME, is_label_name, is_metric_name};
pub use matcher::{Matcher, MatcherError, Op};
pub use source::{Hints, Metadata, Series, Source, SourceError, Window};

/// The bits of the NaN that says "this series has ended here", as Prometheus writes it (`value.StaleNaN`).
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The value that ends a series.
pub fn stale() -> f64 {
    f64::from_bits(STALE_BITS)
}

/// Does this value end a series? An ordinary NaN is a value like any other.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_nan_is_stale() {
        assert!(stale().is_nan() && is_stale(stale()));
        assert!(!is_stale(f64::NAN) && !is_stale(0.0));
    }
}
