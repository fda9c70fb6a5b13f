//! `backup_label`, `tablespace_map` and the history of a backup, as PostgreSQL writes them.
//! Source: PostgreSQL's `build_backup_content`.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use surus_core::lsn::Lsn;

/// What a backup_label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub start: Lsn,
    /// The segment's name.
    pub file: String,
    pub timeline: u32,
    pub started_at: Option<Timestamp>,
}

impl Label {
    /// Reads it; none when it is damaged.
    pub fn parse(text: &str) -> Option<Self> {
        let (start, file) = value(text, "START WAL LOCATION")?.split_once(" (file ")?;
        let file = file.trim_end_matches(')').to_owned();
        let timeline = value(text, "START TIMELINE")
            .map_or_else(|| u32::from_str_radix(file.get(..8)?, 16).ok(), |text| text.parse().ok())?;
        Some(Self { start: start.parse().ok()?, file, timeline, started_at: value(text, "START TIME").and_then(time) })
    }
}

/// Where and when a backup stopped, from its history file.
pub fn stop(text: &str) -> Option<(Lsn, Option<Timestamp>)> {
    let (stop, _) = value(text, "STOP WAL LOCATION")?.split_once(" (file ")?;
    Some((stop.parse().ok()?, value(text, "STOP TIME").and_then(time)))
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

/// A time with the abbreviation of a zone. Only UTC's is without doubt; of others nothing is said.
fn time(text: &str) -> Option<Timestamp> {
    let (time, zone) = text.rsplit_once(' ')?;
    let time: DateTime = time.parse().ok()?;
    matches!(zone, "UTC" | "GMT" | "Etc/UTC").then(|| time.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp()))?
}

/// The tablespaces of a tablespace_map: OID and where it was.
pub fn tablespace_map(text: &str) -> Vec<(u32, String)> {
    let line = |line: &str| {
        let (oid, path) = line.split_once(' ')?;
        Some((oid.parse().ok()?, path.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n\
        CHECKPOINT LOCATION: 0/2000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
        START TIME: 2026-01-31 12:00:00 UTC\nLABEL: pg_basebackup base backup\nSTART TIMELINE: 1\n";

    #[test]
    fn a_label_is_read() {
        let label = Label::parse(LABEL).unwrap();
        assert_eq!((label.start, label.timeline), (Lsn(0x0200_0028), 1));
        assert_eq!(label.file, "000000010000000000000002");
        assert_eq!(label.started_at.unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(Label::parse("LABEL: x\n"), None);
    }

    #[test]
    fn a_history_says_where_it_stopped() {
        let text = format!(
            "{LABEL}STOP WAL LOCATION: 0/3000100 (file 000000010000000000000003)\nSTOP TIME: 2026-01-31 12:05:00 UTC\n"
        );
        let (lsn, at) = stop(&text).unwrap();
        assert_eq!(lsn, Lsn(0x0300_0100));
        assert_eq!(at.unwrap().to_string(), "2026-01-31T12:05:00Z");
    }

    #[test]
    fn tablespaces_are_read() {
        assert_eq!(tablespace_map("16385 /srv/a b\n\n16386 /x\n"), [(16385, "/srv/a b".into()), (16386, "/x".into())]);
    }
}
