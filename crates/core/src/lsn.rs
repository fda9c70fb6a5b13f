//! Log sequence number: a byte position in the write-ahead log, written `16/B374D848`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A position in the write-ahead log, in bytes since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The text is not `XXXXXXXX/XXXXXXXX` in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an LSN (expected a form like 16/B374D848)")]
pub struct LsnParseError(String);

impl Lsn {
    /// Bytes from `earlier` to `self`; negative when `earlier` is in fact later.
    pub fn distance_from(self, earlier: Lsn) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = LsnParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || LsnParseError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(bad)?;
        let part = |digits: &str| {
            let plain = !digits.is_empty() && digits.len() <= 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
            plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().ok_or_else(bad)
        };
        Ok(Lsn(part(high)? << 32 | part(low)?))
    }
}

impl Serialize for Lsn {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Lsn {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(position: u64) {
            prop_assert_eq!(Lsn(position).to_string().parse::<Lsn>().unwrap(), Lsn(position));
        }
    }

    #[test]
    fn refuses_what_is_not_an_lsn() {
        for text in ["", "16", "16/", "/1", "16/GG", "16/123456789", "+1/2", "1/2/3"] {
            assert!(text.parse::<Lsn>().is_err(), "{text}");
        }
    }

    #[test]
    fn distance_is_signed() {
        assert_eq!(Lsn(100).distance_from(Lsn(40)), 60);
        assert_eq!(Lsn(40).distance_from(Lsn(100)), -60);
    }
}
