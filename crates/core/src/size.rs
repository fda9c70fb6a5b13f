//! Bytes and durations as people read them.

use std::{fmt, time::Duration};

/// A number of bytes, shown with binary units as PostgreSQL's `pg_size_pretty` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
        if self.0 < 10 * 1024 {
            return write!(f, "{} bytes", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 10_240.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.0} {}", UNITS[unit])
    }
}

/// A duration in its two largest units: `3 d 4 h`, `2 min 5 s`, `1.2 s`, `35 ms`.
pub fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=9 => format!("{:.1} s", duration.as_secs_f64()),
        10..=59 => format!("{seconds} s"),
        60..=3599 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..=86_399 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

fn two(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    if small == 0 { format!("{large} {large_unit}") } else { format!("{large} {large_unit} {small} {small_unit}") }
}

/// `seconds` (negative counts as zero) through [`human_duration`].
pub fn human_seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// A whole number with thin groups of three digits: `1 234 567`.
pub fn human_count(count: i64) -> String {
    let digits = count.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if count < 0 {
        out.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_pg_size_pretty() {
        assert_eq!(Bytes(8192).to_string(), "8192 bytes");
        assert_eq!(Bytes(16 * 1024 * 1024).to_string(), "16 MB");
        assert_eq!(Bytes(5 * 1024 * 1024 * 1024).to_string(), "5120 MB");
        assert_eq!(Bytes(50 * 1024 * 1024 * 1024).to_string(), "50 GB");
    }

    #[test]
    fn durations_and_counts() {
        assert_eq!(human_duration(Duration::from_millis(35)), "35 ms");
        assert_eq!(human_duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(human_duration(Duration::from_secs(86_400 * 3)), "3 d");
        assert_eq!(human_count(-1_234_567), "-1 234 567");
        assert_eq!(human_count(100), "100");
    }
}
