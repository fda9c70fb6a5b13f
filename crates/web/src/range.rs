//! The stretch of time that a page is about: in its address, and the same for everything on it.

use crate::api::{answer::ApiError, form::Form};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::Serialize;
use surus_core::series::Window;
use surus_promql::duration_ms;

/// What is shown when the address says nothing.
const DEFAULT_FROM: &str = "now-1h";
const NOW: &str = "now";
/// Points of a plot's series, at most; more than a screen has are of no use.
const POINTS: i64 = 300;
/// Steps are multiples of the distance of the counters' cycles.
const STEP_UNIT_MS: i64 = 10_000;
/// The shortest stretch over which a rate is taken: some cycles of the counters.
const RATE_MS: i64 = 60_000;
/// The shortest and the longest stretch that is shown.
const SHORTEST_MS: i64 = 10_000;
const LONGEST_MS: i64 = 800 * 86_400_000;

/// A stretch of time, in milliseconds since 1970, both ends included, and how it was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Range {
    pub from_ms: i64,
    pub to_ms: i64,
    /// As the address has it, e.g. `now-1h`.
    pub from: String,
    pub to: String,
}

impl Range {
    /// Reads `from` and `to`: `now`, `now-3h`, milliseconds or seconds since 1970, or a date with or without a time
    /// (UTC unless it says otherwise).
    ///
    /// # Errors
    /// When one of them is none of these, or they are the wrong way round.
    pub fn read(form: &Form, now_ms: i64) -> Result<Self, ApiError> {
        let said = |name, usually: &str| form.get(name).unwrap_or(usually).trim().to_owned();
        let (from, to) = (said("from", DEFAULT_FROM), said("to", NOW));
        let read = |name: &str, text: &str| {
            moment_ms(text, now_ms).ok_or_else(|| {
                ApiError::parameter(name, format!("{text:?} is no time: write now-3h, or 2026-11-21 03:12 (UTC)"))
            })
        };
        let (from_ms, to_ms) = (read("from", &from)?, read("to", &to)?);
        let length = to_ms.saturating_sub(from_ms);
        if length < SHORTEST_MS {
            return Err(ApiError::parameter("to", "it must be at least 10 seconds after from"));
        }
        if length > LONGEST_MS {
            return Err(ApiError::parameter("from", "more than 800 days are not shown at once"));
        }
        Ok(Self { from_ms, to_ms, from, to })
    }

    /// Does it end now, so that it moves on?
    pub fn is_live(&self) -> bool {
        self.to == NOW
    }

    /// How long it is, in milliseconds.
    pub fn length_ms(&self) -> i64 {
        self.to_ms - self.from_ms
    }

    /// The distance of a plot's points, in milliseconds.
    pub fn step_ms(&self) -> i64 {
        let step = self.length_ms() / POINTS;
        (step + STEP_UNIT_MS - 1) / STEP_UNIT_MS * STEP_UNIT_MS
    }

    /// A range selector for rates in plots, e.g. `[60s]`: never shorter than the distance of points, so that nothing
    /// falls between two.
    pub fn rate(&self) -> String {
        format!("[{}s]", self.step_ms().max(RATE_MS) / 1000)
    }

    /// The whole of it as a range selector.
    pub fn whole(&self) -> String {
        format!("[{}s]", (self.length_ms() / 1000).max(RATE_MS / 1000))
    }

    /// For what the store is asked.
    pub fn window(&self) -> Window {
        Window { after_ms: self.from_ms - 1, until_ms: self.to_ms }
    }

    /// The same length, moved by so many halves of it; not beyond now.
    pub fn moved(&self, halves: i64, now_ms: i64) -> String {
        let by = self.length_ms() / 2 * halves;
        let to_ms = self.to_ms + by;
        if to_ms >= now_ms {
            return query(&format!("now-{}s", self.length_ms() / 1000), NOW);
        }
        query(&(self.from_ms + by).to_string(), &to_ms.to_string())
    }

    /// Twice as long, around the same middle or up to now.
    pub fn wider(&self, now_ms: i64) -> String {
        let half = self.length_ms() / 2;
        if self.is_live() || self.to_ms + half >= now_ms {
            return query(&format!("now-{}s", self.length_ms() * 2 / 1000), NOW);
        }
        query(&(self.from_ms - half).to_string(), &(self.to_ms + half).to_string())
    }
}

fn query(from: &str, to: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("from", from).append_pair("to", to).finish()
}

/// A moment as a person or a script writes it, in milliseconds since 1970.
pub fn moment_ms(text: &str, now_ms: i64) -> Option<i64> {
    if let Some(rest) = text.strip_prefix(NOW) {
        return match rest.strip_prefix('-') {
            Some(back) => Some(now_ms.saturating_sub(duration_ms(back)?)),
            None => rest.is_empty().then_some(now_ms),
        };
    }
    if let Ok(number) = text.parse::<f64>() {
        // Seconds until the year 5138, milliseconds from 1973 on.
        let ms = if number.abs() < 1e11 { number * 1000.0 } else { number };
        return (ms.is_finite() && ms.abs() < 1e15).then_some(ms.round() as i64);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    let civil = text.trim_end_matches("UTC").trim_end().parse::<DateTime>().ok()?;
    TimeZone::UTC.to_timestamp(civil).ok().map(|at| at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    fn read(text: &str) -> Result<Range, ApiError> {
        Range::read(&Form::of(text), NOW_MS)
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, wanted) in [
            ("now", NOW_MS),
            ("now-1h", NOW_MS - 3_600_000),
            ("now-1h30m", NOW_MS - 5_400_000),
            ("1790000000", NOW_MS),
            ("1790000000000", NOW_MS),
            ("2026-09-21 14:13:20", NOW_MS),
            ("2026-09-21T14:13:20Z", NOW_MS),
            ("2026-09-21 14:13:20 UTC", NOW_MS),
            ("2026-09-21", NOW_MS - (14 * 3600 + 13 * 60 + 20) * 1000),
        ] {
            assert_eq!(moment_ms(text, NOW_MS), Some(wanted), "{text}");
        }
        for bad in ["", "yesterday", "now-", "now+1h", "nowish", "1e300", "NaN"] {
            assert_eq!(moment_ms(bad, NOW_MS), None, "{bad}");
        }
    }

    #[test]
    fn a_range_moves_and_widens() {
        let hour = read("").unwrap();
        assert!(hour.is_live() && hour.length_ms() == 3_600_000 && hour.step_ms() == 20_000);
        assert_eq!((hour.rate().as_str(), hour.whole().as_str()), ("[60s]", "[3600s]"));
        assert_eq!(hour.wider(NOW_MS), "from=now-7200s&to=now");
        assert_eq!(hour.moved(-1, NOW_MS), "from=1789994600000&to=1789998200000");
        let past = read("from=1789994600000&to=1789998200000").unwrap();
        assert!(!past.is_live());
        assert_eq!(past.moved(1, NOW_MS), "from=now-3600s&to=now");
        assert!(read("from=now&to=now-1h").is_err() && read("from=1&to=now").is_err() && read("from=x").is_err());
    }
}
