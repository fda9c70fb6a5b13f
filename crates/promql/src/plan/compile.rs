//! From the parser's tree to ours.

use super::bounds;
use super::places::Place;
use super::{Aggregate, Aggregation, At, Call, Grouping, Node, Selector, Type};
use crate::binary::{Matching, Operator};
use crate::error::QueryError;
use crate::function::Function;
use promql_parser::label::{MatchOp, Matchers};
use promql_parser::parser::{self, AtModifier, Expr, LabelModifier, Offset, VectorMatchCardinality, token};
use std::time::{Duration, SystemTime};
use surus_core::series::{METRIC_NAME, Matcher, Op};

/// Compiles; takes the places of calls in the order of the text.
pub(super) struct Compiler<'a> {
    pub places: std::slice::Iter<'a, Place>,
    /// How deep the node lies that is compiled.
    pub depth: usize,
}

/// The matchers of a selector such as `up{job="x"}`, as `match[]` parameters have them.
///
/// # Errors
/// When it is not a selector.
pub fn select_matchers(selector: &str) -> Result<Vec<Matcher>, QueryError> {
    bounds::check(selector)?;
    let parsed = parser::parse(selector).map_err(QueryError::bad)?;
    match parsed {
        Expr::VectorSelector(selector) if selector.offset.is_none() && selector.at.is_none() => {
            matchers(selector.name.as_deref(), &selector.matchers)
        }
        _ => Err(QueryError::bad(format!("{selector:?} is not a series selector"))),
    }
}

impl Compiler<'_> {
    pub(super) fn node(&mut self, expression: &Expr) -> Result<Node, QueryError> {
        if self.depth >= bounds::DEEPEST {
            return Err(bounds::too_deep());
        }
        self.depth += 1;
        let node = self.node_at_depth(expression);
        self.depth -= 1;
        node
    }

    fn node_at_depth(&mut self, expression: &Expr) -> Result<Node, QueryError> {
        Ok(match expression {
            Expr::NumberLiteral(number) => Node::Number(number.val),
            Expr::StringLiteral(text) => Node::Text(text.val.clone()),
            Expr::Paren(paren) => self.node(&paren.expr)?,
            Expr::Unary(unary) => Node::Negate(Box::new(self.node(&unary.expr)?)),
            Expr::VectorSelector(selected) => Node::Select(selector(selected)?),
            Expr::MatrixSelector(range) => {
                Node::Range { selector: selector(&range.vs)?, range_ms: milliseconds(range.range)? }
            }
            Expr::Subquery(subquery) => Node::Subquery {
                inner: Box::new(self.node(&subquery.expr)?),
                range_ms: milliseconds(subquery.range)?,
                step_ms: subquery.step.map(milliseconds).transpose()?.filter(|step| *step > 0),
                at: at(subquery.at.as_ref())?,
                offset_ms: offset(subquery.offset.as_ref())?,
            },
            Expr::Binary(binary) => self.binary(binary)?,
            Expr::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Expr::Call(call) => self.call(call)?,
            Expr::Extension(_) => return Err(QueryError::bad("an extension of PromQL that is not known here")),
        })
    }

    fn binary(&mut self, binary: &parser::BinaryExpr) -> Result<Node, QueryError> {
        let name = binary.op.to_string();
        let operator = Operator::named(&name)
            .ok_or_else(|| QueryError::bad(format!("the operator {name} is not supported: native histograms")))?;
        let left = Box::new(self.node(&binary.lhs)?);
        let right = Box::new(self.node(&binary.rhs)?);
        let mut matching = Matching::default();
        if let Some(modifier) = &binary.modifier {
            match &modifier.matching {
                Some(LabelModifier::Include(labels)) => {
                    matching.on = true;
                    matching.labels.clone_from(&labels.labels);
                }
                Some(LabelModifier::Exclude(labels)) => matching.labels.clone_from(&labels.labels),
                None => {}
            }
            match &modifier.card {
                VectorMatchCardinality::ManyToOne(labels) => {
                    matching.group_left = true;
                    matching.include.clone_from(&labels.labels);
                }
                VectorMatchCardinality::OneToMany(labels) => {
                    matching.group_right = true;
                    matching.include.clone_from(&labels.labels);
                }
                VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
            }
            matching.fill_left = modifier.fill_values.lhs;
            matching.fill_right = modifier.fill_values.rhs;
        }
        Ok(Node::Binary { operator, left, right, matching, as_bool: binary.return_bool() })
    }

    fn aggregate(&mut self, aggregate: &parser::AggregateExpr) -> Result<Node, QueryError> {
        let place = self.places.next().cloned().unwrap_or_default();
        let kind = match aggregate.op.id() {
            token::T_SUM => Aggregation::Sum,
            token::T_AVG => Aggregation::Avg,
            token::T_COUNT => Aggregation::Count,
            token::T_MIN => Aggregation::Min,
            token::T_MAX => Aggregation::Max,
            token::T_GROUP => Aggregation::Group,
            token::T_STDDEV => Aggregation::Stddev,
            token::T_STDVAR => Aggregation::Stdvar,
            token::T_TOPK => Aggregation::Topk,
            token::T_BOTTOMK => Aggregation::Bottomk,
            token::T_LIMITK => Aggregation::Limitk,
            token::T_QUANTILE => Aggregation::Quantile,
            token::T_COUNT_VALUES => Aggregation::CountValues,
            _ => {
                return Err(QueryError::bad(format!(
                    "the aggregation {} is experimental and not supported",
                    aggregate.op
                )));
            }
        };
        let grouping = match &aggregate.modifier {
            Some(LabelModifier::Include(labels)) => Grouping { without: false, labels: labels.labels.clone() },
            Some(LabelModifier::Exclude(labels)) => Grouping { without: true, labels: labels.labels.clone() },
            None => Grouping { without: false, labels: Vec::new() },
        };
        let parameter = aggregate.param.as_ref().map(|parameter| self.node(parameter)).transpose()?;
        let inner = self.node(&aggregate.expr)?;
        let place = place.arguments.first().copied().unwrap_or(place.start);
        Ok(Node::Aggregate(Box::new(Aggregate { kind, grouping, parameter, inner, place })))
    }

    fn call(&mut self, call: &parser::Call) -> Result<Node, QueryError> {
        let place = self.places.next().cloned().unwrap_or_default();
        let name = call.func.name;
        let function = Function::named(name)
            .filter(|function| *function != Function::Unsupported)
            .ok_or_else(|| QueryError::bad(format!("the function {name} is experimental and not supported")))?;
        let arguments: Vec<Node> =
            call.args.args.iter().map(|argument| self.node(argument)).collect::<Result<_, _>>()?;
        function.check(name, &arguments)?;
        let mut places = place.arguments;
        places.resize(arguments.len(), place.start);
        Ok(Node::Call(Box::new(Call { function, arguments, place: place.start, places })))
    }
}

fn selector(selected: &parser::VectorSelector) -> Result<Selector, QueryError> {
    Ok(Selector {
        matchers: matchers(selected.name.as_deref(), &selected.matchers)?,
        at: at(selected.at.as_ref())?,
        offset_ms: offset(selected.offset.as_ref())?,
    })
}

fn matchers(name: Option<&str>, parsed: &Matchers) -> Result<Vec<Matcher>, QueryError> {
    if !parsed.or_matchers.is_empty() {
        return Err(QueryError::bad("`or` between matchers is not PromQL"));
    }
    let mut matchers: Vec<Matcher> = name.map(Matcher::metric).into_iter().collect();
    for matcher in &parsed.matchers {
        if name.is_some() && matcher.name == METRIC_NAME {
            return Err(QueryError::bad("metric name must not be set twice"));
        }
        let op = match matcher.op {
            MatchOp::Equal => Op::Equal,
            MatchOp::NotEqual => Op::NotEqual,
            MatchOp::Re(_) => Op::Regex,
            MatchOp::NotRe(_) => Op::NotRegex,
        };
        let matcher = Matcher::new(&matcher.name, op, &matcher.value);
        matchers.push(matcher.map_err(|error| QueryError::bad(error.to_string()))?);
    }
    Ok(matchers)
}

fn milliseconds(duration: Duration) -> Result<i64, QueryError> {
    i64::try_from(duration.as_millis()).map_err(|_| QueryError::bad("duration out of range"))
}

fn offset(offset: Option<&Offset>) -> Result<i64, QueryError> {
    match offset {
        None => Ok(0),
        Some(Offset::Pos(duration)) => milliseconds(*duration),
        Some(Offset::Neg(duration)) => milliseconds(*duration).map(|offset| -offset),
    }
}

fn at(modifier: Option<&AtModifier>) -> Result<At, QueryError> {
    match modifier {
        None => Ok(At::Step),
        Some(AtModifier::Start) => Ok(At::Start),
        Some(AtModifier::End) => Ok(At::End),
        Some(AtModifier::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => milliseconds(after).map(At::Time),
            Err(before) => milliseconds(before.duration()).map(|before| At::Time(-before)),
        },
    }
}

/// Checks what the parser lets through.
pub(super) fn check_root(node: &Node, for_range: bool) -> Result<(), QueryError> {
    let name = match node.value_type() {
        Type::Text if for_range => "string",
        Type::Matrix if for_range => "range vector",
        _ => return Ok(()),
    };
    Err(QueryError::bad(format!(
        "invalid expression type \"{name}\" for range query, must be Scalar or instant Vector"
    )))
}
