//! A vector and a scalar.

use super::Operator;
use crate::rows::{Row, absent, is_absent};

/// The operator between each value and the scalar of its step; swapped when the scalar stands left. A comparison keeps
/// the vector's value.
pub(super) fn with_scalar(
    operator: Operator,
    mut rows: Vec<Row>,
    scalars: &[f64],
    swapped: bool,
    as_bool: bool,
) -> Vec<Row> {
    match operator {
        Operator::Add => over(&mut rows, scalars, swapped, |l, r| l + r),
        Operator::Sub => over(&mut rows, scalars, swapped, |l, r| l - r),
        Operator::Mul => over(&mut rows, scalars, swapped, |l, r| l * r),
        Operator::Div => over(&mut rows, scalars, swapped, |l, r| l / r),
        _ if operator.is_comparison() && !as_bool => {
            for row in &mut rows {
                for (value, scalar) in row.values.iter_mut().zip(scalars).filter(|(value, _)| !is_absent(**value)) {
                    let (left, right) = if swapped { (*scalar, *value) } else { (*value, *scalar) };
                    if !operator.holds(left, right) {
                        *value = absent();
                    }
                }
            }
            rows.retain(|row| row.values.iter().any(|value| !is_absent(*value)));
        }
        _ => over(&mut rows, scalars, swapped, |l, r| operator.compute(l, r)),
    }
    rows
}

#[inline]
fn over(rows: &mut [Row], scalars: &[f64], swapped: bool, apply: impl Fn(f64, f64) -> f64) {
    for row in rows {
        row.drop_name = true;
        for (value, scalar) in row.values.iter_mut().zip(scalars).filter(|(value, _)| !is_absent(**value)) {
            *value = if swapped { apply(*scalar, *value) } else { apply(*value, *scalar) };
        }
    }
}
