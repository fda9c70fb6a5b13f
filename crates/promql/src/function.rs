//! Functions: their names, what they take and give.

mod absent;
mod labels;
mod math;
mod order;
pub(crate) mod time;

use crate::error::QueryError;
use crate::evaluate::Evaluator;
use crate::grid::Grid;
use crate::number::{larger, smaller};
use crate::plan::{Call, Node, Type};
use crate::rows::{Data, Row, is_absent};
use crate::window::Window;
use math::Math;
use surus_core::series::{Labels, METRIC_NAME};
use time::Part;

/// The functions of PromQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Window(Window),
    Math(Math),
    /// A part of a date.
    Part(Part),
    Round,
    Clamp,
    ClampMin,
    ClampMax,
    Absent,
    AbsentOverTime,
    Vector,
    Scalar,
    Time,
    Timestamp,
    Pi,
    Sort {
        descending: bool,
    },
    SortByLabel {
        descending: bool,
    },
    LabelReplace,
    LabelJoin,
    HistogramQuantile,
    HistogramFraction,
    /// Functions of native histograms: over floats they give nothing.
    NativeHistogram,
    QueryStart,
    QueryEnd,
    QueryRange,
    QueryStep,
    MinOf,
    MaxOf,
    /// Known and not here.
    Unsupported,
}

impl Function {
    /// The function with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        if let Some(math) = Math::named(name) {
            return Some(Self::Math(math));
        }
        if let Some(part) = Part::named(name) {
            return Some(Self::Part(part));
        }
        if let Some(window) = window_named(name) {
            return Some(Self::Window(window));
        }
        Some(match name {
            "round" => Self::Round,
            "clamp" => Self::Clamp,
            "clamp_min" => Self::ClampMin,
            "clamp_max" => Self::ClampMax,
            "absent" => Self::Absent,
            "absent_over_time" => Self::AbsentOverTime,
            "vector" => Self::Vector,
            "scalar" => Self::Scalar,
            "time" => Self::Time,
            "timestamp" => Self::Timestamp,
            "pi" => Self::Pi,
            "sort" => Self::Sort { descending: false },
            "sort_desc" => Self::Sort { descending: true },
            "sort_by_label" => Self::SortByLabel { descending: false },
            "sort_by_label_desc" => Self::SortByLabel { descending: true },
            "label_replace" => Self::LabelReplace,
            "label_join" => Self::LabelJoin,
            "histogram_quantile" => Self::HistogramQuantile,
            "histogram_fraction" => Self::HistogramFraction,
            "histogram_avg" | "histogram_count" | "histogram_sum" | "histogram_stddev" | "histogram_stdvar" => {
                Self::NativeHistogram
            }
            "start" => Self::QueryStart,
            "end" => Self::QueryEnd,
            "range" => Self::QueryRange,
            "step" => Self::QueryStep,
            "min_of" => Self::MinOf,
            "max_of" => Self::MaxOf,
            "info" | "histogram_quantiles" | "start_timestamp" | "integral" => Self::Unsupported,
            _ => return None,
        })
    }

    /// What its value is.
    pub(crate) fn returns(self) -> Type {
        match self {
            Self::Scalar | Self::Time | Self::Pi | Self::MinOf | Self::MaxOf => Type::Scalar,
            Self::QueryStart | Self::QueryEnd | Self::QueryRange | Self::QueryStep => Type::Scalar,
            _ => Type::Vector,
        }
    }

    /// Does its value depend on the moment of the step even when the arguments do not?
    pub(crate) fn depends_on_time(self) -> bool {
        let of_query = matches!(self, Self::QueryStart | Self::QueryEnd | Self::QueryRange | Self::QueryStep);
        let of_step = matches!(self, Self::Part(_) | Self::Time | Self::Timestamp);
        of_query || of_step || self == Self::Window(Window::PredictLinear)
    }

    /// Checks what the parser lets through.
    pub(crate) fn check(self, name: &str, arguments: &[Node]) -> Result<(), QueryError> {
        let text = |node: &Node| matches!(node, Node::Text(_));
        let wrong = match self {
            Self::LabelReplace | Self::LabelJoin | Self::SortByLabel { .. } => !arguments.iter().skip(1).all(text),
            _ => false,
        };
        match wrong {
            true => Err(QueryError::bad(format!("expected type string in call to function \"{name}\""))),
            false => Ok(()),
        }
    }
}

fn window_named(name: &str) -> Option<Window> {
    Some(match name {
        "rate" => Window::Rate,
        "increase" => Window::Increase,
        "delta" => Window::Delta,
        "irate" => Window::Irate,
        "idelta" => Window::Idelta,
        "resets" => Window::Resets,
        "changes" => Window::Changes,
        "deriv" => Window::Deriv,
        "predict_linear" => Window::PredictLinear,
        "double_exponential_smoothing" | "holt_winters" => Window::DoubleExponentialSmoothing,
        "sum_over_time" => Window::Sum,
        "avg_over_time" => Window::Avg,
        "count_over_time" => Window::Count,
        "min_over_time" => Window::Min,
        "max_over_time" => Window::Max,
        "first_over_time" => Window::First,
        "last_over_time" => Window::Last,
        "present_over_time" => Window::Present,
        "stddev_over_time" => Window::Stddev,
        "stdvar_over_time" => Window::Stdvar,
        "quantile_over_time" => Window::Quantile,
        "mad_over_time" => Window::Mad,
        "ts_of_first_over_time" => Window::TimeOfFirst,
        "ts_of_last_over_time" => Window::TimeOfLast,
        "ts_of_min_over_time" => Window::TimeOfMin,
        "ts_of_max_over_time" => Window::TimeOfMax,
        _ => return None,
    })
}

/// The name under which a source may know what a window is for.
fn window_name(window: Window) -> &'static str {
    match window {
        Window::Rate => "rate",
        Window::Increase => "increase",
        Window::Min => "min_over_time",
        Window::Max => "max_over_time",
        Window::Sum => "sum_over_time",
        Window::Avg => "avg_over_time",
        Window::Count => "count_over_time",
        Window::Last => "last_over_time",
        Window::Present => "present_over_time",
        _ => "",
    }
}

impl Evaluator<'_> {
    pub(crate) fn call(&mut self, call: &Call, grid: Grid) -> Result<Data, QueryError> {
        let arguments = &call.arguments;
        let nothing = || QueryError::execution("an argument is missing");
        let first = || arguments.first().ok_or_else(nothing);
        match call.function {
            Function::Window(window) => return self.window(window, call, grid).map(Data::Vector),
            Function::AbsentOverTime => return self.absent_over_time(call, grid).map(Data::Vector),
            Function::LabelReplace => return self.label_replace(arguments, grid).map(Data::Vector),
            Function::LabelJoin => return self.label_join(arguments, grid).map(Data::Vector),
            Function::HistogramQuantile => return self.histogram_quantile(call, grid).map(Data::Vector),
            Function::HistogramFraction => return self.histogram_fraction(call, grid).map(Data::Vector),
            _ => {}
        }
        Ok(match call.function {
            Function::Time => Data::Scalar(grid.seconds()),
            Function::Pi => Data::Scalar(vec![std::f64::consts::PI; grid.steps]),
            Function::QueryStart => Data::Scalar(vec![self.query.start_ms as f64 / 1000.0; grid.steps]),
            Function::QueryEnd => Data::Scalar(vec![self.query.end_ms() as f64 / 1000.0; grid.steps]),
            Function::QueryRange => {
                let range_ms = self.query.end_ms() - self.query.start_ms;
                Data::Scalar(vec![range_ms as f64 / 1000.0; grid.steps])
            }
            Function::QueryStep => {
                let step = if self.query.steps > 1 { self.query.step_ms as f64 / 1000.0 } else { 0.0 };
                Data::Scalar(vec![step; grid.steps])
            }
            Function::MinOf | Function::MaxOf => {
                let left = self.scalar(first()?, grid)?;
                let right = self.scalar(arguments.get(1).ok_or_else(nothing)?, grid)?;
                let choose = if call.function == Function::MinOf { smaller } else { larger };
                Data::Scalar(left.into_iter().zip(right).map(|(a, b)| choose(a, b)).collect())
            }
            Function::Vector => Data::Vector(vec![Row::new(Labels::empty(), self.scalar(first()?, grid)?)]),
            Function::Scalar => Data::Scalar(only(&self.rows(first()?, grid)?, grid)),
            Function::Timestamp => Data::Vector(self.timestamp(first()?, grid)?),
            Function::Absent => Data::Vector(self.absent(first()?, grid)?),
            Function::Sort { descending } => Data::Vector(self.sort(call, grid, descending)?),
            Function::SortByLabel { descending } => Data::Vector(self.sort_by_label(call, grid, descending)?),
            Function::Part(part) => Data::Vector(self.date(part, arguments.first(), grid)?),
            _ => Data::Vector(self.over_values(call, grid)?),
        })
    }

    /// Functions that make a value of each value.
    fn over_values(&mut self, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let Some((first, others)) = call.arguments.split_first() else {
            return Err(QueryError::execution("an argument is missing"));
        };
        let mut rows = self.rows(first, grid)?;
        let scalars: Vec<Vec<f64>> =
            others.iter().map(|argument| self.scalar(argument, grid)).collect::<Result<_, _>>()?;
        match call.function {
            Function::Math(math) => rows.iter_mut().for_each(|row| row.map(|value| math.apply(value))),
            Function::Round => math::round(&mut rows, scalars.first().map(Vec::as_slice)),
            Function::Clamp => math::clamp(&mut rows, scalars.first(), scalars.get(1)),
            Function::ClampMin => math::clamp(&mut rows, scalars.first(), None),
            Function::ClampMax => math::clamp(&mut rows, None, scalars.first()),
            _ => rows.clear(),
        }
        Ok(rows)
    }

    /// Functions over range vectors.
    fn window(&mut self, window: Window, call: &Call, grid: Grid) -> Result<Vec<Row>, QueryError> {
        let is_matrix = |node: &Node| node.value_type() == Type::Matrix;
        let Some(place) = call.arguments.iter().position(is_matrix) else {
            return Err(QueryError::execution("a range vector was expected"));
        };
        let name = Some(window_name(window)).filter(|name| !name.is_empty());
        let ranges = self.matrix_for(&call.arguments[place], grid, name)?;
        let others = call.arguments.iter().enumerate().filter(|(number, _)| *number != place);
        let scalars: Vec<Vec<f64>> =
            others.map(|(_, argument)| self.scalar(argument, grid)).collect::<Result<_, _>>()?;
        let at = call.places.get(place).copied().unwrap_or(call.place);
        if window == Window::Quantile && !ranges.stretches.is_empty() {
            for &q in scalars.iter().flatten().filter(|q| !(0.0..=1.0).contains(*q)) {
                self.annotations.invalid_quantile(q, at);
            }
        }
        let mut rows = Vec::with_capacity(ranges.stretches.len());
        for stretch in &ranges.stretches {
            self.watch.check()?;
            let values = window.values(stretch, ranges.windows, grid, &scalars)?;
            if values.iter().all(|value| is_absent(*value)) {
                continue;
            }
            self.watch.hold(values.len())?;
            let drop_name = stretch.drop_name || !window.keeps_name();
            rows.push(Row { labels: stretch.labels.clone(), drop_name, values });
            let metric = stretch.labels.metric().unwrap_or_default();
            let endings = ["_total", "_sum", "_count", "_bucket"];
            if window.wants_counter() && !metric.is_empty() && !endings.iter().any(|end| metric.ends_with(end)) {
                self.annotations.possible_non_counter(metric, at);
            }
        }
        Ok(rows)
    }

    /// When each value was measured: the sample's time for a selector, the step's for all else.
    fn timestamp(&mut self, argument: &Node, grid: Grid) -> Result<Vec<Row>, QueryError> {
        if let Node::Select(selector) = argument {
            return self.vector(selector, grid, true);
        }
        let mut rows = self.rows(argument, grid)?;
        let seconds = grid.seconds();
        for row in &mut rows {
            row.drop_name = true;
            for (value, second) in row.values.iter_mut().zip(&seconds) {
                if !is_absent(*value) {
                    *value = *second;
                }
            }
        }
        Ok(rows)
    }
}

/// The value of the only series at each step; NaN where there is none, or more than one.
fn only(rows: &[Row], grid: Grid) -> Vec<f64> {
    let mut found = vec![0_u32; grid.steps];
    let mut values = vec![f64::NAN; grid.steps];
    for row in rows {
        for (step, value) in row.values.iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            found[step] += 1;
            values[step] = if found[step] == 1 { *value } else { f64::NAN };
        }
    }
    values
}

/// Is this a name that a label may have? Prometheus 3 takes any text.
fn is_label(name: &str) -> bool {
    !name.is_empty()
}

/// Is this label the metric's name?
fn is_metric_name(name: &str) -> bool {
    name == METRIC_NAME
}
