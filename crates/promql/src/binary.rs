//! Binary operators.

mod scalar;
mod sets;
mod vectors;

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::rows::Data;
use surus_core::series::{Labels, METRIC_NAME};

/// The operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    And,
    Or,
    Unless,
}

impl Operator {
    /// As PromQL writes it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "+" => Self::Add,
            "-" => Self::Sub,
            "*" => Self::Mul,
            "/" => Self::Div,
            "%" => Self::Mod,
            "^" => Self::Pow,
            "atan2" => Self::Atan2,
            "==" => Self::Equal,
            "!=" => Self::NotEqual,
            ">" => Self::Greater,
            "<" => Self::Less,
            ">=" => Self::GreaterOrEqual,
            "<=" => Self::LessOrEqual,
            "and" => Self::And,
            "or" => Self::Or,
            "unless" => Self::Unless,
            _ => return None,
        })
    }

    fn is_comparison(self) -> bool {
        use Operator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
        matches!(self, Equal | NotEqual | Greater | Less | GreaterOrEqual | LessOrEqual)
    }

    fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// The result of arithmetic.
    #[inline]
    fn compute(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
            Self::Atan2 => left.atan2(right),
            _ => f64::from(u8::from(self.holds(left, right))),
        }
    }

    /// Does a comparison hold?
    #[inline]
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Greater => left > right,
            Self::Less => left < right,
            Self::GreaterOrEqual => left >= right,
            Self::LessOrEqual => left <= right,
            _ => true,
        }
    }
}

/// Which series of the two sides belong together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Matching {
    /// `on` in place of `ignoring`.
    pub on: bool,
    pub labels: Vec<String>,
    /// The left side may have many.
    pub group_left: bool,
    /// The right side may have many.
    pub group_right: bool,
    /// Labels taken from the side that has one.
    pub include: Vec<String>,
    /// Values for series that have no partner.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

impl Matching {
    fn names(&self, name: &str) -> bool {
        self.labels.iter().any(|own| own == name)
    }

    /// The labels by which partners find each other.
    fn signature(&self, labels: &Labels) -> Labels {
        match self.on {
            true => labels.keep(|name| self.names(name)),
            false => labels.keep(|name| name != METRIC_NAME && !self.names(name)),
        }
    }

    fn groups(&self) -> bool {
        self.group_left || self.group_right
    }
}

impl Evaluator<'_> {
    pub(crate) fn binary(
        &mut self,
        operator: Operator,
        left: Data,
        right: Data,
        matching: &Matching,
        as_bool: bool,
    ) -> Result<Data, QueryError> {
        Ok(match (left, right) {
            (Data::Scalar(left), Data::Scalar(right)) => {
                Data::Scalar(left.iter().zip(&right).map(|(l, r)| operator.compute(*l, *r)).collect())
            }
            (Data::Vector(rows), Data::Scalar(right)) => {
                Data::Vector(scalar::with_scalar(operator, rows, &right, false, as_bool))
            }
            (Data::Scalar(left), Data::Vector(rows)) => {
                Data::Vector(scalar::with_scalar(operator, rows, &left, true, as_bool))
            }
            (Data::Vector(left), Data::Vector(right)) => {
                let held = |rows: &[crate::rows::Row]| rows.iter().map(|row| row.values.len()).sum::<usize>();
                let given_back = held(&left) + held(&right);
                let rows = match operator.is_set() {
                    true => sets::combined(operator, left, right, matching)?,
                    false => vectors::matched(operator, left, right, matching, as_bool)?,
                };
                self.watch.hold(held(&rows))?;
                self.watch.release(given_back);
                Data::Vector(rows)
            }
            _ => return Err(QueryError::bad("binary expression must contain only scalar and instant vector types")),
        })
    }
}
