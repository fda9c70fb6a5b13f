//! Times and ranges as the user writes them.

use crate::failure::Failure;
use jiff::Timestamp;
use surus_core::code;
use surus_promql::duration_ms;

/// The moments of a range query, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
}

/// The finest step that is chosen unasked.
const FINEST_MS: i64 = 1000;

/// A moment: RFC 3339, seconds since 1970, `now`, or how long ago, with or without `now-` before it.
pub fn moment(text: &str, now_ms: i64) -> Result<i64, Failure> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_ms);
    }
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
        && seconds.abs() < 1e13
    {
        return Ok((seconds * 1000.0).round() as i64);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let ago = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')).unwrap_or(text);
    match duration_ms(ago) {
        Some(ago_ms) => Ok(now_ms - ago_ms),
        None => Err(Failure::new(code::PROMQL_TIME, format!("nothing was asked: {text:?} is no time"))),
    }
}

impl Range {
    /// Reads a range; without a step, one point for each column of the plot.
    pub fn read(
        from: &str,
        to: Option<&str>,
        step: Option<&str>,
        now_ms: i64,
        columns: usize,
    ) -> Result<Self, Failure> {
        let start_ms = moment(from, now_ms)?;
        let end_ms = to.map_or(Ok(now_ms), |to| moment(to, now_ms))?;
        let wrong = |why: &str| Failure::new(code::PROMQL_TIME, format!("nothing was asked: {why}"));
        if end_ms < start_ms {
            return Err(wrong("the range ends before it begins"));
        }
        let step_ms = match step {
            Some(step) => duration_ms(step).filter(|step| *step > 0).ok_or_else(|| wrong("--step is no duration"))?,
            None => {
                let columns = i64::try_from(columns.max(1)).unwrap_or(1);
                let step_ms = (end_ms - start_ms) / columns;
                (step_ms / FINEST_MS * FINEST_MS).max(FINEST_MS)
            }
        };
        Ok(Self { start_ms, end_ms, step_ms })
    }
}

/// A time as the axis shows it.
pub fn shown(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => format!("{at_ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let now = 1_700_000_000_000;
        let at = |text: &str| moment(text, now).unwrap();
        assert_eq!(at("now"), now);
        assert_eq!(at("1h30m"), now - 5_400_000);
        assert_eq!(at("-1h"), now - 3_600_000);
        assert_eq!(at("now-1h"), now - 3_600_000);
        assert_eq!(at("1700000000.5"), now + 500);
        assert_eq!(at("2023-11-14T22:13:20Z"), now);
        assert_eq!(moment("yesterday", now).unwrap_err().code.id, code::PROMQL_TIME.id);
    }

    #[test]
    fn ranges() {
        let now = 1_700_000_000_000;
        let range = Range::read("6h", None, None, now, 144).unwrap();
        assert_eq!((range.end_ms, range.step_ms), (now, 150_000));
        assert_eq!(Range::read("1m", None, None, now, 144).unwrap().step_ms, 1000);
        assert_eq!(Range::read("1h", Some("30m"), Some("5m"), now, 9).unwrap().step_ms, 300_000);
        assert!(Range::read("1h", Some("2h"), None, now, 9).is_err());
        assert!(Range::read("1h", None, Some("0s"), now, 9).is_err());
    }
}
