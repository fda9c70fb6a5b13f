//! Times, counts and reasons in words.

use crate::views::plot::Unit;
use maud::{Markup, html};
use surus_observe::Why;

/// How long ago, in the largest unit that says enough.
pub fn ago(now_ms: i64, at_ms: i64) -> String {
    format!("{} ago", span((now_ms - at_ms).max(0)))
}

/// A duration in milliseconds.
pub fn span(ms: i64) -> String {
    match ms / 1000 {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// A time of day in UTC with its date.
pub fn moment(at_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => "at an unknown time".to_owned(),
    }
}

/// `1 target`, `2 targets`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A number of a unit, with as many digits as mean something.
pub fn quantity(value: f64, unit: Unit) -> String {
    if value.is_nan() {
        return "–".to_owned();
    }
    match unit {
        Unit::Bytes => bytes(value.max(0.0) as u64),
        Unit::BytesPerSecond => format!("{}/s", bytes(value.max(0.0) as u64)),
        Unit::PerSecond => format!("{}/s", number(value)),
        Unit::Seconds => seconds(value),
        Unit::Milliseconds => seconds(value / 1000.0),
        Unit::Percent => format!("{:.1} %", value * 100.0),
        Unit::Count | Unit::Sessions => number(value),
    }
}

/// Three digits that mean something, in thousands, millions and so on.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let (scaled, suffix) = match size {
        ..1e4 => (value, ""),
        ..1e6 => (value / 1e3, "k"),
        ..1e9 => (value / 1e6, "M"),
        _ => (value / 1e9, "G"),
    };
    let digits = if scaled == scaled.trunc() && suffix.is_empty() {
        0
    } else {
        match scaled.abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        }
    };
    format!("{scaled:.digits$}{suffix}")
}

/// A duration in seconds, in the unit that fits it.
fn seconds(value: f64) -> String {
    match value.abs() {
        0.0 => "0 s".to_owned(),
        ..1e-3 => format!("{:.0} µs", value * 1e6),
        ..0.01 => format!("{:.2} ms", value * 1e3),
        ..1.0 => format!("{:.1} ms", value * 1e3),
        ..60.0 => format!("{value:.1} s"),
        ..120.0 => format!("{value:.0} s"),
        _ => span((value * 1000.0) as i64),
    }
}

/// A size in bytes.
pub fn bytes(bytes: u64) -> String {
    surus_core::size::Bytes(bytes).to_string()
}

/// A reason, with what to run next.
pub fn why(why: &Why) -> Markup {
    html! {
        (why.text)
        @if let Some(code) = why.code { " " span.faint { "[" (code) "]" } }
        @if let Some(next) = why.next { br; span.faint { "next: " (next) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        let all = [999, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(span);
        assert_eq!(all, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
        assert_eq!((ago(5000, 9000).as_str(), counted(1, "target").as_str()), ("0 s ago", "1 target"));
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
    }

    #[test]
    fn numbers_have_three_digits() {
        let all = [0.0, 3.0, 0.256, 12.34, 9999.0, 12_345.0, 2_500_000.0].map(number);
        assert_eq!(all, ["0", "3", "0.26", "12.3", "9999", "12.3k", "2.50M"]);
        let all = [0.000_05, 0.001_234, 0.5, 2.0, 600.0].map(|value| quantity(value, Unit::Seconds));
        assert_eq!(all, ["50 µs", "1.23 ms", "500.0 ms", "2.0 s", "10 min"]);
        assert_eq!(quantity(0.9934, Unit::Percent), "99.3 %");
    }
}
