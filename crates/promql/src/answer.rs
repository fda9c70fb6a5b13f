//! What a query answers.

use surus_core::series::Labels;

/// The answer to a query, with what the user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// Something is wrong with the question or the data; as Prometheus words it, with the place in the query.
    pub warnings: Vec<String>,
    /// Something may be meant otherwise.
    pub infos: Vec<String>,
}

/// A query's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar {
        at_ms: i64,
        value: f64,
    },
    Text {
        at_ms: i64,
        text: String,
    },
    /// One value per series. In no particular order unless the query sorts.
    Vector(Vec<Sample>),
    /// Several values per series, in the order of the labels.
    Matrix(Vec<Line>),
}

impl Value {
    /// As the HTTP API calls it (`resultType`).
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Scalar { .. } => "scalar",
            Self::Text { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// A series' value at the moment of the question.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub at_ms: i64,
    pub value: f64,
}

/// A series with its values over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub labels: Labels,
    /// Time in milliseconds since 1970, and value; in the order of time.
    pub points: Vec<(i64, f64)>,
}
