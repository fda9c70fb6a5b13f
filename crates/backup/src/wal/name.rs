//! The names of files in pg_wal. Source: PostgreSQL's documentation, "WAL Internals", and the names that servers use.

use std::fmt;
use surus_core::lsn::Lsn;

/// A WAL segment: a timeline and a number. Its name is 24 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    pub timeline: u32,
    /// The segment's position in the WAL, counted in segments.
    pub number: u64,
    /// Bytes of a segment; a power of two from 1 MiB to 1 GiB.
    pub size: u64,
}

impl Segment {
    /// The segment that holds the byte at `lsn`.
    pub fn at(timeline: u32, lsn: Lsn, size: u64) -> Self {
        Self { timeline, number: lsn.0 / size, size }
    }

    /// The segment that holds the last byte before `lsn`: where a backup that ends at `lsn` needs WAL up to.
    pub fn ending_at(timeline: u32, lsn: Lsn, size: u64) -> Self {
        Self::at(timeline, Lsn(lsn.0.saturating_sub(1)), size)
    }

    /// From a name of 24 digits.
    pub fn parse(name: &str, size: u64) -> Option<Self> {
        if name.len() != 24 || !is_hex(name) {
            return None;
        }
        let part = |range: std::ops::Range<usize>| u64::from_str_radix(&name[range], 16).ok();
        let (timeline, log, low) = (part(0..8)?, part(8..16)?, part(16..24)?);
        let per_log = (1u64 << 32) / size;
        (low < per_log && timeline > 0).then_some(Self { timeline: timeline as u32, number: log * per_log + low, size })
    }

    /// Its first byte's position.
    pub fn start(self) -> Lsn {
        Lsn(self.number * self.size)
    }

    /// The position after its last byte.
    pub fn end(self) -> Lsn {
        Lsn((self.number + 1) * self.size)
    }

    /// The one after it on the same timeline.
    pub fn next(self) -> Self {
        Self { number: self.number + 1, ..self }
    }

    /// The same stretch of WAL on another timeline.
    pub fn on(self, timeline: u32) -> Self {
        Self { timeline, ..self }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_log = (1u64 << 32) / self.size;
        write!(f, "{:08X}{:08X}{:08X}", self.timeline, self.number / per_log, self.number % per_log)
    }
}

/// What a file of pg_wal is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Segment,
    /// The last segment of a timeline that ended, as far as it was written.
    Partial,
    /// `00000002.history`.
    History,
    /// The history of a base backup: `<segment>.<offset>.backup`.
    Backup,
}

/// What the file is; `None` for what has no business in an archive.
pub fn file_kind(name: &str) -> Option<FileKind> {
    let hex = |range: std::ops::Range<usize>| name.get(range).is_some_and(is_hex);
    match name.len() {
        24 if hex(0..24) => Some(FileKind::Segment),
        32 if hex(0..24) && name.ends_with(".partial") => Some(FileKind::Partial),
        16 if hex(0..8) && name.ends_with(".history") => Some(FileKind::History),
        40 if hex(0..24) && name.get(24..25) == Some(".") && hex(25..33) && name.ends_with(".backup") => {
            Some(FileKind::Backup)
        }
        _ => None,
    }
}

/// The name of a timeline's history file.
pub fn history_name(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Hexadecimal as PostgreSQL writes it: never in small letters.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn names_round_trip(timeline in 1u32.., number in 0u64..1 << 30, power in 20u32..=30) {
            let segment = Segment { timeline, number, size: 1 << power };
            prop_assert_eq!(Segment::parse(&segment.to_string(), segment.size), Some(segment));
        }
    }

    #[test]
    fn names_are_what_they_look_like() {
        let cases = [
            ("000000010000000000000001", Some(FileKind::Segment)),
            ("000000010000000000000001.partial", Some(FileKind::Partial)),
            ("0000000A.history", Some(FileKind::History)),
            ("000000010000000000000003.00000028.backup", Some(FileKind::Backup)),
            ("00000001000000000000000a", None),
            ("RECOVERYXLOG", None),
            ("../../../../etc/passwd", None),
            ("", None),
        ];
        for (name, kind) in cases {
            assert_eq!(file_kind(name), kind, "{name}");
        }
    }

    #[test]
    fn a_backup_that_ends_on_a_border_needs_the_segment_before() {
        let size = 16 << 20;
        assert_eq!(Segment::ending_at(1, Lsn(2 * size), size).to_string(), "000000010000000000000001");
        assert_eq!(Segment::at(1, Lsn(2 * size), size).to_string(), "000000010000000000000002");
        assert_eq!(Segment::parse("0000000100000000000000FF", 1 << 30), None);
    }
}
