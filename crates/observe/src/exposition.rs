//! Speaking: families as the text that Prometheus scrapes, and reading such text back.
//!
//! Two formats: the text format 0.0.4, which the exporters speak, and OpenMetrics 1.0
//! (prometheus.io/docs/instrumenting/exposition_formats). OpenMetrics lets a counter only be called `…_total`, so most
//! of the exporter's counters lose their type in it; whoever takes both gets the text format.

mod parse;
mod render;

pub use parse::{Block, ParseError, Sample, parse};
pub use render::{Part, render, render_pieces};

/// A text format for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The format for whoever sends this `Accept` header: OpenMetrics for those who take nothing else.
    pub fn accepted(header: Option<&str>) -> Self {
        let mut openmetrics = false;
        for range in header.unwrap_or("*/*").split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let refused = parts
                .any(|part| part.strip_prefix("q=").is_some_and(|q| q.trim().parse::<f64>().is_ok_and(|q| q <= 0.0)));
            match media.as_str() {
                _ if refused => {}
                "text/plain" | "text/*" | "*/*" => return Self::Text,
                "application/openmetrics-text" | "application/*" => openmetrics = true,
                _ => {}
            }
        }
        if openmetrics { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_take_nothing_else() {
        // What Prometheus 2.42 and 3.5 send.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for text in [None, Some(""), Some("*/*"), Some("text/html, */*;q=0.8"), Some(prometheus), Some("image/png")] {
            assert_eq!(Format::accepted(text), Format::Text, "{text:?}");
        }
        for only in ["application/openmetrics-text; version=1.0.0", "application/openmetrics-text, text/plain;q=0"] {
            assert_eq!(Format::accepted(Some(only)), Format::OpenMetrics, "{only}");
        }
    }
}
