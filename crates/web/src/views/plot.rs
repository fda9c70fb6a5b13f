//! A plot as data: which queries it draws, and how. The element in the browser asks for their values itself.

use schemars::JsonSchema;
use serde::Serialize;

/// How series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Line,
    Stack,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Count,
    Bytes,
    BytesPerSecond,
    PerSecond,
    Seconds,
    Milliseconds,
    /// A share from 0 to 1.
    Percent,
    Sessions,
}

/// One query of a plot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Query {
    /// PromQL.
    pub expr: String,
    /// The name of its series; `{{label}}` stands for the label's value.
    pub legend: String,
}

/// A horizontal line, such as what there is at most.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Limit {
    pub value: f64,
    pub label: String,
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Plot {
    /// Names it on its page, and in the address of its place there.
    pub id: &'static str,
    pub title: String,
    /// What it shows, in a sentence.
    pub about: String,
    pub kind: Kind,
    pub unit: Unit,
    pub queries: Vec<Query>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// Why there may be nothing to draw.
    pub empty: String,
    /// Series are coloured by the class of what sessions wait for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

impl Plot {
    /// Lines, so far without a query.
    pub fn lines(id: &'static str, title: &str, unit: Unit) -> Self {
        Self {
            id,
            title: title.to_owned(),
            about: String::new(),
            kind: Kind::Line,
            unit,
            queries: Vec::new(),
            limit: None,
            empty: "Nothing was collected in this range.".to_owned(),
            waits: false,
        }
    }

    /// Areas on top of each other.
    pub fn stack(id: &'static str, title: &str, unit: Unit) -> Self {
        Self { kind: Kind::Stack, ..Self::lines(id, title, unit) }
    }

    /// What it shows.
    #[must_use]
    pub fn about(mut self, text: impl Into<String>) -> Self {
        self.about = text.into();
        self
    }

    /// One more query.
    #[must_use]
    pub fn query(mut self, expr: impl Into<String>, legend: &str) -> Self {
        self.queries.push(Query { expr: expr.into(), legend: legend.to_owned() });
        self
    }

    /// A horizontal line, if there is one.
    #[must_use]
    pub fn limit(mut self, value: Option<f64>, label: impl FnOnce(f64) -> String) -> Self {
        self.limit = value.map(|value| Limit { value, label: label(value) });
        self
    }

    /// Why there may be nothing.
    #[must_use]
    pub fn empty(mut self, why: impl Into<String>) -> Self {
        self.empty = why.into();
        self
    }

    /// Colours by wait class.
    #[must_use]
    pub fn waits(mut self) -> Self {
        self.waits = true;
        self
    }
}
