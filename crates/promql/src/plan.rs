//! What is to be evaluated: the parsed query, compiled to a tree that the evaluator walks.

pub(crate) mod bounds;
mod compile;
mod places;
mod query;

pub use compile::select_matchers;
pub use query::Query;

use crate::binary::{Matching, Operator};
use crate::function::Function;
use surus_core::series::Matcher;

/// `@`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The moment of the step.
    Step,
    Start,
    End,
    Time(i64),
}

/// A selection of series, at an offset.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub matchers: Vec<Matcher>,
    pub at: At,
    pub offset_ms: i64,
}

/// How an aggregation groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grouping {
    /// `without` in place of `by`.
    pub without: bool,
    pub labels: Vec<String>,
}

/// The aggregations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    Limitk,
    Quantile,
    CountValues,
}

/// One node.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Number(f64),
    Text(String),
    /// An instant vector.
    Select(Selector),
    /// A range vector of samples.
    Range {
        selector: Selector,
        range_ms: i64,
    },
    /// A range vector of a node's values.
    Subquery {
        inner: Box<Node>,
        range_ms: i64,
        step_ms: Option<i64>,
        at: At,
        offset_ms: i64,
    },
    Negate(Box<Node>),
    Binary {
        operator: Operator,
        left: Box<Node>,
        right: Box<Node>,
        matching: Matching,
        as_bool: bool,
    },
    Aggregate(Box<Aggregate>),
    Call(Box<Call>),
}

/// An aggregation with its operands.
#[derive(Debug, Clone)]
pub(crate) struct Aggregate {
    pub kind: Aggregation,
    pub grouping: Grouping,
    pub parameter: Option<Node>,
    pub inner: Node,
    /// Where in the query the parameter stands.
    pub place: usize,
}

/// A function with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub function: Function,
    pub arguments: Vec<Node>,
    /// Where in the query the call stands.
    pub place: usize,
    /// Where its arguments stand.
    pub places: Vec<usize>,
}

/// What a node's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Scalar,
    Text,
    Vector,
    Matrix,
}

impl Node {
    /// What this node's value is.
    pub(crate) fn value_type(&self) -> Type {
        match self {
            Self::Number(_) => Type::Scalar,
            Self::Text(_) => Type::Text,
            Self::Select(_) | Self::Aggregate(_) => Type::Vector,
            Self::Range { .. } | Self::Subquery { .. } => Type::Matrix,
            Self::Negate(inner) => inner.value_type(),
            Self::Binary { left, right, .. } => match (left.value_type(), right.value_type()) {
                (Type::Scalar, Type::Scalar) => Type::Scalar,
                _ => Type::Vector,
            },
            Self::Call(call) => call.function.returns(),
        }
    }

    /// Is the value the same at every step, because `@` holds all that it depends on?
    pub(crate) fn is_fixed(&self) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) => true,
            Self::Select(selector) | Self::Range { selector, .. } => selector.at != At::Step,
            Self::Subquery { at, .. } => *at != At::Step,
            Self::Negate(inner) => inner.is_fixed(),
            Self::Binary { left, right, .. } => left.is_fixed() && right.is_fixed(),
            Self::Aggregate(aggregate) => {
                aggregate.inner.is_fixed() && aggregate.parameter.as_ref().is_none_or(Node::is_fixed)
            }
            Self::Call(call) => call.is_fixed(),
        }
    }

    /// The node with every selector that has no `@` held at a moment; what is inside a held subquery stays as it is.
    pub(crate) fn held_at(&mut self, at_ms: i64) {
        let hold = |at: &mut At| {
            if *at == At::Step {
                *at = At::Time(at_ms);
            }
        };
        match self {
            Self::Number(_) | Self::Text(_) => {}
            Self::Select(selector) | Self::Range { selector, .. } => hold(&mut selector.at),
            Self::Subquery { at, .. } => hold(at),
            Self::Negate(inner) => inner.held_at(at_ms),
            Self::Binary { left, right, .. } => {
                left.held_at(at_ms);
                right.held_at(at_ms);
            }
            Self::Aggregate(aggregate) => {
                aggregate.inner.held_at(at_ms);
                if let Some(parameter) = &mut aggregate.parameter {
                    parameter.held_at(at_ms);
                }
            }
            Self::Call(call) => call.arguments.iter_mut().for_each(|argument| argument.held_at(at_ms)),
        }
    }

    /// Does a function depend on the moment of the step even when its arguments do not?
    pub(crate) fn depends_on_time(&self) -> bool {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Select(_) | Self::Range { .. } => false,
            Self::Subquery { inner, .. } | Self::Negate(inner) => inner.depends_on_time(),
            Self::Binary { left, right, .. } => left.depends_on_time() || right.depends_on_time(),
            Self::Aggregate(aggregate) => {
                aggregate.inner.depends_on_time() || aggregate.parameter.as_ref().is_some_and(Node::depends_on_time)
            }
            Self::Call(call) => call.function.depends_on_time() || call.arguments.iter().any(Node::depends_on_time),
        }
    }
}

impl Call {
    fn is_fixed(&self) -> bool {
        let arguments = self.arguments.iter().all(Node::is_fixed);
        let of_samples =
            matches!(self.function, Function::Timestamp) && matches!(self.arguments[..], [Node::Select(_)]);
        arguments && (!self.function.depends_on_time() || of_samples)
    }
}
