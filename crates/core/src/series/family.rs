//! What a collector says: families of points, as the text format for `/metrics` has them.

use super::Labels;
use serde::{Deserialize, Serialize};

/// What a metric's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only grows, except when it begins again at zero.
    Counter,
    /// Goes up and down.
    Gauge,
    Histogram,
    Summary,
    /// Nobody said (`untyped` in the text format).
    Unknown,
}

impl MetricKind {
    /// As the text format writes it after `# TYPE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Unknown => "untyped",
        }
    }
}

/// A metric: its name, what it is and what its values mean. A collector declares each of its families once.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The name under which it is collected and spoken, unit last.
    pub name: &'static str,
    pub kind: MetricKind,
    /// One line.
    pub help: &'static str,
}

/// One value of a family, with its labels but without the metric name.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub labels: Labels,
    pub value: f64,
}

/// A family with all its points of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub family: &'static Family,
    pub points: Vec<Point>,
}
