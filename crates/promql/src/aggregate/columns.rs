//! Aggregations that go through the series one after the other and keep one accumulator per step.

use super::Members;
use crate::number::{Mean, compensated};
use crate::plan::Aggregation;
use crate::rows::{Row, absent, is_absent};

/// The aggregated series of a group.
pub(super) fn aggregated(kind: Aggregation, rows: &[Row], group: Members, steps: usize) -> Row {
    let members = || group.rows.iter().map(|&place| rows[place].values.as_slice());
    let values = match kind {
        Aggregation::Sum => sums(members(), steps),
        Aggregation::Avg => means(members(), steps),
        Aggregation::Count => folded(members(), steps, |_| 1.0, |count, _| count + 1.0),
        Aggregation::Group => folded(members(), steps, |_| 1.0, |one, _| one),
        Aggregation::Min => {
            folded(members(), steps, |value| value, |old, new| if old > new || old.is_nan() { new } else { old })
        }
        Aggregation::Max => {
            folded(members(), steps, |value| value, |old, new| if old < new || old.is_nan() { new } else { old })
        }
        Aggregation::Stddev => variances(members(), steps, f64::sqrt),
        _ => variances(members(), steps, |variance| variance),
    };
    Row { labels: group.labels, drop_name: group.drop_name, values }
}

#[inline]
fn folded<'a>(
    members: impl Iterator<Item = &'a [f64]>,
    steps: usize,
    first: impl Fn(f64) -> f64,
    next: impl Fn(f64, f64) -> f64,
) -> Vec<f64> {
    let mut result = vec![absent(); steps];
    for values in members {
        for (own, &value) in result.iter_mut().zip(values) {
            if !is_absent(value) {
                *own = if is_absent(*own) { first(value) } else { next(*own, value) };
            }
        }
    }
    result
}

fn sums<'a>(members: impl Iterator<Item = &'a [f64]>, steps: usize) -> Vec<f64> {
    let (mut sums, mut compensations) = (vec![absent(); steps], vec![0.0; steps]);
    for values in members {
        for ((sum, compensation), &value) in sums.iter_mut().zip(&mut compensations).zip(values) {
            if is_absent(value) {
            } else if is_absent(*sum) {
                *sum = value;
            } else {
                (*sum, *compensation) = compensated(value, *sum, *compensation);
            }
        }
    }
    for (sum, compensation) in sums.iter_mut().zip(compensations).filter(|(sum, _)| !is_absent(**sum)) {
        *sum += compensation;
    }
    sums
}

fn means<'a>(members: impl Iterator<Item = &'a [f64]>, steps: usize) -> Vec<f64> {
    let mut means: Vec<Option<Mean>> = vec![None; steps];
    for values in members {
        for (mean, &value) in means.iter_mut().zip(values).filter(|(_, value)| !is_absent(**value)) {
            match mean {
                Some(mean) => mean.add(value),
                None => *mean = Some(Mean::of(value)),
            }
        }
    }
    means.into_iter().map(|mean| mean.map_or_else(absent, |mean| mean.value())).collect()
}

/// The population variance by Welford's method, then what is to be made of it.
fn variances<'a>(members: impl Iterator<Item = &'a [f64]>, steps: usize, result: fn(f64) -> f64) -> Vec<f64> {
    // Count, mean, sum of squared distances.
    let mut states = vec![(0.0_f64, 0.0_f64, 0.0_f64); steps];
    for values in members {
        for (state, &value) in states.iter_mut().zip(values).filter(|(_, value)| !is_absent(**value)) {
            let (count, mean, squares) = *state;
            *state = if count == 0.0 {
                (1.0, value, if value.is_finite() { 0.0 } else { f64::NAN })
            } else {
                let delta = value - mean;
                let mean = mean + delta / (count + 1.0);
                (count + 1.0, mean, squares + delta * (value - mean))
            };
        }
    }
    let finish = |(count, _, squares): (f64, f64, f64)| if count == 0.0 { absent() } else { result(squares / count) };
    states.into_iter().map(finish).collect()
}
