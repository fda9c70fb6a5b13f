//! Functions of one number.

use crate::number::{larger, smaller};
use crate::rows::{Row, absent, is_absent};

/// Functions of one number, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Math {
    Abs,
    Acos,
    Acosh,
    Asin,
    Asinh,
    Atan,
    Atanh,
    Ceil,
    Cos,
    Cosh,
    Deg,
    Exp,
    Floor,
    Ln,
    Log10,
    Log2,
    Rad,
    Sgn,
    Sin,
    Sinh,
    Sqrt,
    Tan,
    Tanh,
}

impl Math {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "abs" => Self::Abs,
            "acos" => Self::Acos,
            "acosh" => Self::Acosh,
            "asin" => Self::Asin,
            "asinh" => Self::Asinh,
            "atan" => Self::Atan,
            "atanh" => Self::Atanh,
            "ceil" => Self::Ceil,
            "cos" => Self::Cos,
            "cosh" => Self::Cosh,
            "deg" => Self::Deg,
            "exp" => Self::Exp,
            "floor" => Self::Floor,
            "ln" => Self::Ln,
            "log10" => Self::Log10,
            "log2" => Self::Log2,
            "rad" => Self::Rad,
            "sgn" => Self::Sgn,
            "sin" => Self::Sin,
            "sinh" => Self::Sinh,
            "sqrt" => Self::Sqrt,
            "tan" => Self::Tan,
            "tanh" => Self::Tanh,
            _ => return None,
        })
    }

    pub(super) fn apply(self, value: f64) -> f64 {
        match self {
            Self::Abs => value.abs(),
            Self::Acos => value.acos(),
            Self::Acosh => value.acosh(),
            Self::Asin => value.asin(),
            Self::Asinh => value.asinh(),
            Self::Atan => value.atan(),
            Self::Atanh => value.atanh(),
            Self::Ceil => value.ceil(),
            Self::Cos => value.cos(),
            Self::Cosh => value.cosh(),
            Self::Deg => value * 180.0 / std::f64::consts::PI,
            Self::Exp => value.exp(),
            Self::Floor => value.floor(),
            Self::Ln => value.ln(),
            Self::Log10 => value.log10(),
            Self::Log2 => value.log2(),
            Self::Rad => value * std::f64::consts::PI / 180.0,
            Self::Sgn if value > 0.0 => 1.0,
            Self::Sgn if value < 0.0 => -1.0,
            Self::Sgn => value,
            Self::Sin => value.sin(),
            Self::Sinh => value.sinh(),
            Self::Sqrt => value.sqrt(),
            Self::Tan => value.tan(),
            Self::Tanh => value.tanh(),
        }
    }
}

/// Rounds to the nearest multiple, halves upwards.
pub(super) fn round(rows: &mut [Row], to_nearest: Option<&[f64]>) {
    for row in rows {
        row.drop_name = true;
        for (step, value) in row.values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
            // By the inverse, as Prometheus does: fewer inaccuracies.
            let inverse = 1.0 / to_nearest.map_or(1.0, |nearest| nearest[step]);
            *value = (*value * inverse + 0.5).floor() / inverse;
        }
    }
}

/// Keeps values between bounds; where the bounds are the wrong way round there is no value.
pub(super) fn clamp(rows: &mut [Row], lowest: Option<&Vec<f64>>, highest: Option<&Vec<f64>>) {
    for row in rows {
        row.drop_name = true;
        for (step, value) in row.values.iter_mut().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let lowest = lowest.map_or(f64::NEG_INFINITY, |bound| bound[step]);
            let highest = highest.map_or(f64::INFINITY, |bound| bound[step]);
            *value = if highest < lowest { absent() } else { larger(lowest, smaller(highest, *value)) };
        }
    }
}
