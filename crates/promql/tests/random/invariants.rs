//! What must hold of every query.

use super::queries::{moment, query};
use super::samples::{memory, samples};
use proptest::prelude::*;
use surus_core::series::Labels;
use surus_promql::{Options, Query, Value};

/// The same, up to rounding that depends on where a sum begins.
fn equal(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

fn sorted(value: Value) -> Vec<(Labels, f64)> {
    let Value::Vector(samples) = value else { panic!("no vector: {value:?}") };
    let mut samples: Vec<(Labels, f64)> = samples.into_iter().map(|sample| (sample.labels, sample.value)).collect();
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    samples
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A range query says at each step what an instant query says at that time; it fails when one of these fails.
    #[test]
    fn a_range_is_its_instants(
        seed in any::<u64>(),
        text in query(),
        start in moment(),
        step in 1_i64..400,
        steps in 1_i64..9,
    ) {
        let memory = memory(&samples(seed % 16));
        let options = Options::default();
        let query = Query::parse(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))?;
        let step_ms = step * 1000;
        let end_ms = start + step_ms * (steps - 1);
        let ranged = query.range(&memory, start, end_ms, step_ms, &options);
        let instant = |step: i64| query.instant(&memory, start + step * step_ms, &options);
        let instants: Vec<_> = (0..steps).map(instant).collect();
        match ranged {
            Err(error) => prop_assert!(instants.iter().any(Result::is_err), "only the range fails: {error}"),
            Ok(answer) => {
                let Value::Matrix(lines) = answer.value else { panic!("no matrix") };
                for (step, instant) in instants.into_iter().enumerate() {
                    let at = start + i64::try_from(step).unwrap() * step_ms;
                    let there = lines.iter().filter_map(|line| {
                        let value = line.points.iter().find(|(time, _)| *time == at)?.1;
                        Some((line.labels.clone(), value))
                    });
                    let there: Vec<(Labels, f64)> = there.collect();
                    prop_assert!(instant.is_ok(), "only the instant fails: {instant:?}");
                    let instant = sorted(instant.unwrap().value);
                    prop_assert_eq!(there.len(), instant.len(), "{:?} {:?}", &there, &instant);
                    for (range, instant) in there.iter().zip(&instant) {
                        prop_assert!(range.0 == instant.0 && equal(range.1, instant.1), "{range:?} {instant:?}");
                    }
                }
            }
        }
    }
}
