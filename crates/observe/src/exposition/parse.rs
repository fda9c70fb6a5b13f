//! Reading the text format 0.0.4.

use std::str::FromStr;
use surus_core::series::{Labels, METRIC_NAME, MetricKind, is_label_name, is_metric_name};

/// A family as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub name: String,
    pub kind: MetricKind,
    pub help: String,
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// With the metric's name as `__name__`.
    pub labels: Labels,
    pub value: f64,
    /// Milliseconds since 1970, where the line says when.
    pub at_ms: Option<i64>,
}

/// A line that is not of the text format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    pub problem: String,
}

/// Reads a whole answer. Series without `HELP` and `TYPE` are a family of unknown kind.
///
/// # Errors
/// At the first line that is not of the format.
pub fn parse(text: &str) -> Result<Vec<Block>, ParseError> {
    let mut blocks: Vec<Block> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let fail = |problem: String| ParseError { line: at + 1, problem };
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            comment_line(&mut blocks, comment.trim_start()).map_err(fail)?;
        } else if !line.is_empty() {
            let sample = sample(line).map_err(fail)?;
            let name = sample.labels.metric().unwrap_or_default();
            let at = blocks.iter().rposition(|block| belongs(block, name));
            let at = at.unwrap_or_else(|| {
                blocks.push(empty(name));
                blocks.len() - 1
            });
            blocks[at].samples.push(sample);
        }
    }
    Ok(blocks)
}

fn empty(name: &str) -> Block {
    Block { name: name.to_owned(), kind: MetricKind::Unknown, help: String::new(), samples: Vec::new() }
}

fn belongs(block: &Block, name: &str) -> bool {
    let part = |suffixes: &[&str]| name.strip_prefix(&block.name).is_some_and(|end| suffixes.contains(&end));
    match block.kind {
        MetricKind::Histogram => part(&["", "_bucket", "_sum", "_count"]),
        MetricKind::Summary => part(&["", "_sum", "_count"]),
        _ => block.name == name,
    }
}

fn comment_line(blocks: &mut Vec<Block>, comment: &str) -> Result<(), String> {
    let (word, rest) = comment.split_once(char::is_whitespace).unwrap_or((comment, ""));
    if !matches!(word, "HELP" | "TYPE") {
        return Ok(());
    }
    let (name, rest) = rest.trim_start().split_once(char::is_whitespace).unwrap_or((rest.trim(), ""));
    if !is_metric_name(name) {
        return Err(format!("\"{name}\" is no metric name"));
    }
    let at = blocks.iter().rposition(|block| block.name == name).unwrap_or_else(|| {
        blocks.push(empty(name));
        blocks.len() - 1
    });
    let block = &mut blocks[at];
    if word == "HELP" {
        block.help = unescaped(rest);
        return Ok(());
    }
    block.kind = match rest.trim() {
        "counter" => MetricKind::Counter,
        "gauge" => MetricKind::Gauge,
        "histogram" => MetricKind::Histogram,
        "summary" => MetricKind::Summary,
        "untyped" | "unknown" => MetricKind::Unknown,
        other => return Err(format!("\"{other}\" is no type of a metric")),
    };
    Ok(())
}

/// `\\`, `\n` and `\"` as what they stand for.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other @ ('\\' | '"')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            (other, false) => out.push(other),
        }
    }
    out
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).ok_or("there is no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_metric_name(name) {
        return Err(format!("\"{name}\" is no metric name"));
    }
    let mut pairs = vec![(METRIC_NAME.to_owned(), name.to_owned())];
    rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = label_pairs(inner, &mut pairs)?;
    }
    let mut words = rest.split_whitespace();
    let value = number(words.next().ok_or("there is no value")?)?;
    let at_ms = words.next().map(|word| word.parse().map_err(|_| format!("\"{word}\" is no time"))).transpose()?;
    if let Some(word) = words.next() {
        return Err(format!("\"{word}\" is too much"));
    }
    Ok(Sample { labels: Labels::new(pairs).map_err(|error| error.to_string())?, value, at_ms })
}

/// The pairs up to the closing brace; what comes behind it is given back.
fn label_pairs<'a>(mut rest: &'a str, pairs: &mut Vec<(String, String)>) -> Result<&'a str, String> {
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok(behind);
        }
        let (name, behind) = rest.split_once('=').ok_or("a label has no value")?;
        let name = name.trim();
        if !is_label_name(name) {
            return Err(format!("\"{name}\" is no label name"));
        }
        let value = behind.trim_start().strip_prefix('"').ok_or("a label's value is not quoted")?;
        let mut escaped = false;
        let end = value.find(|c: char| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let (value, behind) = value.split_at(end.ok_or("a label's value does not end")?);
        pairs.push((name.to_owned(), unescaped(value)));
        rest = behind[1..].trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn number(word: &str) -> Result<f64, String> {
    match word {
        "NaN" => Ok(f64::NAN),
        "+Inf" | "Inf" => Ok(f64::INFINITY),
        "-Inf" => Ok(f64::NEG_INFINITY),
        other => f64::from_str(other).map_err(|_| format!("\"{other}\" is no number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_others_write() {
        let text = "# just talk\n# HELP a_total Say \\\\ this\\nand that\n# TYPE a_total counter\n\
            a_total{method=\"post\",code=\"200\",} 1027 1395066363000\n\n\
            a_total { x = \"y\\\"z\" } 3.5e-2\nbare 12\n\
            # TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum NaN\nh_count 2\n";
        let blocks = parse(text).unwrap();
        let names: Vec<(&str, MetricKind, usize)> =
            blocks.iter().map(|block| (block.name.as_str(), block.kind, block.samples.len())).collect();
        let expected =
            [("a_total", MetricKind::Counter, 2), ("bare", MetricKind::Unknown, 1), ("h", MetricKind::Histogram, 4)];
        assert_eq!(names, expected);
        assert_eq!(blocks[0].help, "Say \\ this\nand that");
        let first = &blocks[0].samples[0];
        assert_eq!(first.labels.to_string(), r#"a_total{code="200", method="post"}"#);
        assert_eq!((first.value, first.at_ms), (1027.0, Some(1_395_066_363_000)));
        assert_eq!(blocks[0].samples[1].labels.get("x"), Some("y\"z"));
    }

    #[test]
    fn says_which_line_is_wrong() {
        for (text, line, problem) in [
            ("a 1\nb", 2, "there is no value"),
            ("a{x=\"1} 2", 1, "a label's value does not end"),
            ("a{x=1} 2", 1, "a label's value is not quoted"),
            ("a{x=\"1\",x=\"2\"} 2", 1, "the label x is there twice"),
            ("a one", 1, "\"one\" is no number"),
            ("1a 1", 1, "\"1a\" is no metric name"),
            ("# TYPE a thing", 1, "\"thing\" is no type of a metric"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.line, error.problem.as_str()), (line, problem), "{text}");
        }
    }
}
