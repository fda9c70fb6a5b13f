//! Evidence: the named values that a check saw. A finding without evidence is an opinion.

use serde::Serialize;
use serde_json::Value;

/// One observed value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evidence {
    /// What was observed, e.g. `dead_tuples` or `setting max_connections`.
    pub name: String,
    /// What it was.
    pub value: Value,
    /// The unit of a number (`bytes`, `s`, `%`, `rows`), where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
}

impl Evidence {
    /// An observed value without unit.
    pub fn new(name: impl Into<String>, value: impl Into<Value>) -> Self {
        Self { name: name.into(), value: value.into(), unit: None }
    }

    /// An observed number with its unit.
    pub fn measured(name: impl Into<String>, value: impl Into<Value>, unit: &'static str) -> Self {
        Self { name: name.into(), value: value.into(), unit: Some(unit) }
    }

    /// The value as people read it: sizes and durations in large units, other numbers plain.
    pub fn shown(&self) -> String {
        let plain = match &self.value {
            Value::String(text) if text.is_empty() => "(empty)".to_owned(),
            Value::String(text) => text.clone(),
            Value::Number(number) => match number.as_f64() {
                Some(float) if !number.is_i64() && !number.is_u64() => format!("{:.*}", digits_for(float), float),
                _ => number.to_string(),
            },
            other => other.to_string(),
        };
        match (self.unit, self.value.as_f64()) {
            (Some("bytes"), Some(bytes)) if bytes >= 0.0 => crate::size::Bytes(bytes as u64).to_string(),
            (Some("s"), Some(seconds)) => crate::size::human_seconds(seconds),
            (Some("%"), _) => format!("{plain} %"),
            (Some(unit), _) => format!("{plain} {unit}"),
            (None, _) => plain,
        }
    }
}

fn digits_for(value: f64) -> usize {
    if value.abs() >= 100.0 || value.fract() == 0.0 { 0 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_units() {
        assert_eq!(Evidence::measured("size", 10_485_760u64, "bytes").shown(), "10 MB");
        assert_eq!(Evidence::measured("used", 81.234, "%").shown(), "81.2 %");
        assert_eq!(Evidence::measured("age", 90, "s").shown(), "1 min 30 s");
        assert_eq!(Evidence::new("setting fsync", "off").shown(), "off");
    }
}
