//! Durations and sizes as a person writes them.

use serde::{Deserialize, Deserializer, de::Error};
use std::{fmt, time::Duration};

/// A duration such as `500ms`, `10s`, `5m`, `12h`, `15d`, `4w` or `1y` (365 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A size such as `512MB` or `4GB`, binary units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Bytes a second, written as a size, or `none` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub Option<u64>);

impl Span {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => {
                return Err(format!(
                    "\"{text}\" is no duration: give a whole number and ms, s, m, h, d, w or y, like 10s"
                ));
            }
        };
        let number: u64 =
            number.parse().map_err(|_| format!("\"{text}\" is no duration: give a number first, like 10s"))?;
        let ms = number.checked_mul(unit_ms).ok_or_else(|| format!("\"{text}\" is too long"))?;
        Ok(Self(Duration::from_millis(ms)))
    }
}

impl Rate {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        crate::args::size(text).map(|bytes| Self(Some(bytes))).map_err(|error| format!("{error}; none: no limit"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match units.iter().find(|(unit_ms, _)| ms > 0 && ms.is_multiple_of(*unit_ms)) {
            Some((unit_ms, unit)) => write!(f, "{}{unit}", ms / unit_ms),
            None => write!(f, "{ms}ms"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        crate::args::size(&String::deserialize(from)?).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("15d", 1_296_000_000)]
        {
            let span = Span::parse(text).unwrap();
            assert_eq!((span.0.as_millis(), span.to_string().as_str()), (ms, text));
        }
        for bad in ["", "10", "s", "-1s", "1.5s", "10 s", "99999999999999999999y", "10sec"] {
            assert!(Span::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_size_or_none() {
        assert_eq!(Rate::parse("50MB"), Ok(Rate(Some(50 << 20))));
        assert_eq!(Rate::parse("none"), Ok(Rate(None)));
        for bad in ["", "0MB", "quick", "50"] {
            assert!(Rate::parse(bad).unwrap_err().contains("none"), "{bad}");
        }
    }
}
