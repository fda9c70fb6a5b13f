//! Answers as text, one line per series.

use super::times::shown;
use crate::paint::Paint;
use std::fmt::Write;
use surus_promql::{Value, number_text};

/// Is there nothing to show?
pub fn is_empty(value: &Value) -> bool {
    match value {
        Value::Vector(samples) => samples.is_empty(),
        Value::Matrix(lines) => lines.is_empty(),
        Value::Scalar { .. } | Value::Text { .. } => false,
    }
}

/// A number that a person reads: exact as long as it is short.
pub fn number(value: f64) -> String {
    let exact = number_text(value);
    if exact.len() <= 14 {
        return exact;
    }
    let rounded = format!("{value:.6}");
    match value.abs() {
        1e-3..1e12 => rounded.trim_end_matches('0').trim_end_matches('.').to_owned(),
        _ => format!("{value:.6e}"),
    }
}

/// The values, then what they are of: values stand under each other however long the labels are.
pub fn of(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Scalar { value, .. } => out = format!("{}\n", number(*value)),
        Value::Text { text, .. } => out = format!("{text}\n"),
        Value::Vector(samples) => {
            let numbers: Vec<String> = samples.iter().map(|sample| number(sample.value)).collect();
            let width = numbers.iter().map(String::len).max().unwrap_or(0);
            for (number, sample) in numbers.iter().zip(samples) {
                let _ = writeln!(out, "{number:>width$}  {}", sample.labels);
            }
        }
        Value::Matrix(lines) => {
            for line in lines {
                let _ = writeln!(out, "{}", Paint::strong(&line.labels));
                for (at_ms, value) in &line.points {
                    let _ = writeln!(out, "  {}  {}", shown(*at_ms), number(*value));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::series::Labels;
    use surus_promql::Sample;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.1, 1e6, 1.0 / 3.0, 1e-9 / 3.0, 1e30, f64::NAN, f64::NEG_INFINITY];
        let shown = numbers.map(number);
        assert_eq!(shown, ["0.1", "1000000", "0.333333", "3.333333e-10", "1.000000e30", "NaN", "-Inf"]);
    }

    #[test]
    fn values_stand_under_each_other() {
        let sample = |name: &str, value| Sample { labels: Labels::new([("__name__", name)]).unwrap(), at_ms: 0, value };
        assert_eq!(of(&Value::Vector(vec![sample("a", 1.5), sample("b", 20.0)])), "1.5  a\n 20  b\n");
    }
}
