//! Comparing what came with what was expected.

use super::Times;
use super::expect::Expectation;
use super::series::Item;
use crate::answer::{Line, Sample, Value};
use surus_core::series::Labels;

/// Relative difference that values may have.
const TOLERANCE: f64 = 1e-6;

/// Are these the same, within the tolerance? NaN is equal to NaN.
fn equal(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Compares an answer.
pub(super) fn compare(value: &Value, expected: &Expectation, times: Times) -> Result<(), String> {
    match value {
        Value::Scalar { value, .. } => match expected.scalar {
            Some(wanted) if equal(*value, wanted) => Ok(()),
            Some(wanted) => Err(format!("the scalar {wanted} was expected, not {value}")),
            None => Err(format!("series were expected, not the scalar {value}")),
        },
        Value::Text { text, .. } => match &expected.text {
            Some(wanted) if wanted == text => Ok(()),
            wanted => Err(format!("the string {wanted:?} was expected, not {text:?}")),
        },
        Value::Vector(samples) => vector(samples, expected),
        Value::Matrix(lines) => matrix(lines, expected, times),
    }
}

fn not_a_scalar(expected: &Expectation, what: &str) -> Result<(), String> {
    match expected.scalar {
        Some(scalar) => Err(format!("the scalar {scalar} was expected, not a {what}")),
        None => Ok(()),
    }
}

/// Compares series with one value.
pub(super) fn vector(samples: &[Sample], expected: &Expectation) -> Result<(), String> {
    not_a_scalar(expected, "vector")?;
    for (place, sample) in samples.iter().enumerate() {
        let found = expected.series.iter().position(|series| series.labels == sample.labels);
        let Some(number) = found else {
            return Err(format!("unexpected: {} {}", sample.labels, sample.value));
        };
        if expected.ordered && number != place {
            return Err(format!("{} was expected in place {number}, not {place}", sample.labels));
        }
        match expected.series[number].items[..] {
            [Item::Value(wanted)] if equal(sample.value, wanted) => {}
            ref wanted => return Err(format!("{} is {}, not {wanted:?}", sample.labels, sample.value)),
        }
    }
    all_there(expected, |labels| samples.iter().any(|sample| sample.labels == *labels))
}

fn all_there(expected: &Expectation, there: impl Fn(&Labels) -> bool) -> Result<(), String> {
    let has_values = |items: &[Item]| items.iter().any(|item| *item != Item::Missing);
    match expected.series.iter().find(|series| has_values(&series.items) && !there(&series.labels)) {
        Some(missing) => Err(format!("missing: {missing}")),
        None => Ok(()),
    }
}

fn matrix(lines: &[Line], expected: &Expectation, times: Times) -> Result<(), String> {
    not_a_scalar(expected, "matrix")?;
    let (start_ms, step_ms) = match (expected.range_vector, times) {
        (Some((start, _, step)), _) => (start, step),
        (None, Times::Range { start_ms, step_ms, .. }) => (start_ms, step_ms),
        (None, Times::At(_)) => return Err("a range vector came, and `expect range vector` is missing".to_owned()),
    };
    if let Some(two) = lines.windows(2).find(|two| two[0].labels > two[1].labels) {
        return Err(format!("{} comes before {}", two[0].labels, two[1].labels));
    }
    for line in lines {
        let Some(series) = expected.series.iter().find(|series| series.labels == line.labels) else {
            return Err(format!("unexpected: {} {:?}", line.labels, line.points));
        };
        let mut at_ms = start_ms;
        let mut wanted = Vec::new();
        for item in &series.items {
            if let Item::Value(value) = item {
                wanted.push((at_ms, *value));
            }
            at_ms += step_ms;
        }
        let same = |(a, b): (&(i64, f64), &(i64, f64))| a.0 == b.0 && equal(a.1, b.1);
        if wanted.len() != line.points.len() || !wanted.iter().zip(&line.points).all(same) {
            return Err(format!("{} is {:?}, not {wanted:?}", line.labels, line.points));
        }
    }
    all_there(expected, |labels| lines.iter().any(|line| line.labels == *labels))
}
