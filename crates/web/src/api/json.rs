//! Values as the API writes them. Written by hand, for an answer may hold millions of points.

use std::fmt::Write;
use surus_core::series::Labels;
use surus_promql::{Line, Sample, Value};

/// `{"resultType": …, "result": …}`
pub fn value(value: &Value) -> String {
    let mut out = format!(r#"{{"resultType":"{}","result":"#, value.kind());
    match value {
        Value::Scalar { at_ms, value } => point(&mut out, *at_ms, *value),
        Value::Text { at_ms, text } => {
            out.push('[');
            time(&mut out, *at_ms);
            out.push(',');
            string(&mut out, text);
            out.push(']');
        }
        Value::Vector(samples) => list(&mut out, samples, |out, sample: &Sample| {
            out.push_str(r#"{"metric":"#);
            labels(out, &sample.labels);
            out.push_str(r#","value":"#);
            point(out, sample.at_ms, sample.value);
            out.push('}');
        }),
        Value::Matrix(lines) => list(&mut out, lines, |out, line: &Line| {
            out.push_str(r#"{"metric":"#);
            labels(out, &line.labels);
            out.push_str(r#","values":"#);
            list(out, &line.points, |out, (at_ms, value)| point(out, *at_ms, *value));
            out.push('}');
        }),
    }
    out.push('}');
    out
}

/// Label sets as a list of objects.
pub fn label_sets(sets: &[Labels]) -> String {
    let mut out = String::new();
    list(&mut out, sets, labels);
    out
}

fn list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    out.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

fn labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (at, (name, value)) in labels.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        string(out, name);
        out.push(':');
        string(out, value);
    }
    out.push('}');
}

fn string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => put(out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn point(out: &mut String, at_ms: i64, value: f64) {
    out.push('[');
    time(out, at_ms);
    out.push_str(",\"");
    number(out, value);
    out.push_str("\"]");
}

/// Seconds since 1970, with three decimals if any.
fn time(out: &mut String, at_ms: i64) {
    let (sign, ms) = (if at_ms < 0 { "-" } else { "" }, at_ms.unsigned_abs());
    match ms % 1000 {
        0 => put(out, format_args!("{sign}{}", ms / 1000)),
        rest => put(out, format_args!("{sign}{}.{rest:03}", ms / 1000)),
    }
}

/// The shortest text that reads back as the same number; with an exponent where Prometheus writes one
/// (`jsonutil.MarshalFloat`: below 1e-6 and from 1e21).
fn number(out: &mut String, value: f64) {
    let size = value.abs();
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, power) = power.strip_prefix('-').map_or(('+', power), |power| ('-', power));
        put(out, format_args!("{digits}e{sign}{power:0>2}"));
    } else {
        put(out, format_args!("{value}"));
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _written = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_prometheus_s_form() {
        let labels = Labels::new([("__name__", "up"), ("job", "a\"\\\n")]).unwrap();
        let vector = Value::Vector(vec![Sample { labels: labels.clone(), at_ms: 1_435_781_451_781, value: 1.0 }]);
        assert_eq!(
            value(&vector),
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a\"\\\u000a"},"value":[1435781451.781,"1"]}]}"#
        );
        let matrix = Value::Matrix(vec![Line { labels: Labels::empty(), points: vec![(1000, 0.5), (2005, f64::NAN)] }]);
        assert_eq!(
            value(&matrix),
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[1,"0.5"],[2.005,"NaN"]]}]}"#
        );
        let scalar = Value::Scalar { at_ms: -1500, value: f64::NEG_INFINITY };
        assert_eq!(value(&scalar), r#"{"resultType":"scalar","result":[-1.500,"-Inf"]}"#);
        let text = Value::Text { at_ms: 0, text: "a\tb".into() };
        assert_eq!(value(&text), r#"{"resultType":"string","result":[0,"a\u0009b"]}"#);
        for json in [value(&vector), value(&matrix), value(&scalar), value(&text), label_sets(&[labels])] {
            serde_json::from_str::<serde_json::Value>(&json).unwrap();
        }
    }

    #[test]
    fn numbers_are_short_and_exact() {
        let text = |value| {
            let mut out = String::new();
            number(&mut out, value);
            assert_eq!(out.parse::<f64>().unwrap(), value);
            out
        };
        assert_eq!(text(0.1 + 0.2), "0.30000000000000004");
        assert_eq!(text(1e21), "1e+21");
        assert_eq!(text(-2.5e-7), "-2.5e-07");
        assert_eq!(text(123_456_789_012.0), "123456789012");
        assert_eq!(text(-0.0), "-0");
    }
}
