//! Times, counts and reasons in words.

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
}
