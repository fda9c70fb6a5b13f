//! Which PostgreSQL: `server_version_num` and the majors surus knows.

use serde::Serialize;
use std::fmt;

/// The oldest major that surus can check.
pub const OLDEST_MAJOR: u16 = 13;
/// The newest major whose catalogs surus knows.
pub const NEWEST_MAJOR: u16 = 18;

/// A server version as `server_version_num` gives it, e.g. 150018 for 15.18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    num: u32,
}

impl Version {
    /// From `server_version_num`.
    pub fn from_num(num: u32) -> Self {
        Self { num }
    }

    /// From a text such as `15.18 (Debian 15.18-0+deb12u1)`, `18beta1` or `9.6.24`.
    pub fn from_text(text: &str) -> Option<Self> {
        let head = text.split_whitespace().next()?;
        let digits_end = head.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(head.len());
        let mut parts = head[..digits_end].split('.').filter(|p| !p.is_empty()).map(str::parse::<u32>);
        let major = parts.next()?.ok()?;
        let second = parts.next().transpose().ok()?.unwrap_or(0);
        let third = parts.next().transpose().ok()?.unwrap_or(0);
        let num = if major >= 10 { major * 10_000 + second } else { major * 10_000 + second * 100 + third };
        Some(Self { num })
    }

    /// The number as `server_version_num` shows it.
    pub fn num(self) -> u32 {
        self.num
    }

    /// The major version: 15 for 15.18.
    pub fn major(self) -> u16 {
        u16::try_from(self.num / 10_000).unwrap_or(u16::MAX)
    }

    /// The minor version: 18 for 15.18.
    pub fn minor(self) -> u16 {
        (self.num % 10_000) as u16
    }

    /// Can surus check it?
    pub fn is_supported(self) -> bool {
        self.major() >= OLDEST_MAJOR
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.major() >= 10 {
            write!(f, "{}.{}", self.major(), self.minor())
        } else {
            write!(f, "{}.{}.{}", self.major(), self.minor() / 100, self.minor() % 100)
        }
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_servers_use() {
        let cases =
            [("15.18 (Debian 15.18-0+deb12u1)", 150_018), ("18beta1", 180_000), ("9.6.24", 90_624), ("13", 130_000)];
        for (text, num) in cases {
            assert_eq!(Version::from_text(text).unwrap().num(), num, "{text}");
        }
        assert_eq!(Version::from_text("PgBouncer"), None);
        assert_eq!(Version::from_num(150_018).to_string(), "15.18");
        assert_eq!(Version::from_num(90_624).to_string(), "9.6.24");
    }
}
