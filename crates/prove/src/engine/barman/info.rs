//! Barman's own files: `backup.info` of each backup, and `xlog.db`, the list of archived WAL.

use jiff::{Timestamp, fmt::temporal::DateTimeParser};
use std::{collections::BTreeMap, path::Path};
use surus_core::lsn::Lsn;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    pub id: String,
    pub status: String,
    pub parent: Option<String>,
    pub timeline: Option<u32>,
    pub begun_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub begin: Option<Lsn>,
    pub end: Option<Lsn>,
    pub size: Option<u64>,
    pub segment_size: Option<u64>,
    pub system_identifier: Option<u64>,
    /// The server's version as a number.
    pub version: Option<u32>,
    /// Is it kept as tar files?
    pub compressed: bool,
    /// Name, OID and original place.
    pub tablespaces: Vec<(String, u32, String)>,
}

impl Info {
    /// From the text of its file.
    pub fn parse(id: &str, text: &str) -> Option<Self> {
        let values: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |name: &str| values.get(name).copied().filter(|value| *value != "None");
        Some(Self {
            id: id.to_owned(),
            status: value("status")?.to_owned(),
            parent: value("parent_backup_id").map(str::to_owned),
            timeline: value("timeline").and_then(|text| text.parse().ok()),
            begun_at: value("begin_time").and_then(time),
            ended_at: value("end_time").and_then(time),
            begin: value("begin_xlog").and_then(|text| text.parse().ok()),
            end: value("end_xlog").and_then(|text| text.parse().ok()),
            size: value("size").and_then(|text| text.parse().ok()),
            segment_size: value("xlog_segment_size").and_then(|text| text.parse().ok()),
            system_identifier: value("systemid").and_then(|text| text.parse().ok()),
            version: value("version").and_then(|text| text.parse().ok()),
            compressed: value("compression").is_some(),
            tablespaces: value("tablespaces").map(tablespaces).unwrap_or_default(),
        })
    }

    /// Why it cannot be restored: its state, or what is not there of it.
    pub fn trouble(&self, base: &Path) -> Option<String> {
        if !matches!(self.status.as_str(), "DONE" | "WAITING_FOR_WALS") {
            return Some(format!("Barman says that it is {}", self.status));
        }
        let dir = base.join(&self.id);
        let there = |name: &str| {
            let endings = ["", ".tar", ".tar.gz", ".tar.lz4", ".tar.zst", ".tar.bz2", ".tar.xz", ".tar.snappy"];
            let places = endings
                .iter()
                .flat_map(|end| [dir.join(format!("{name}{end}")), dir.join("data").join(format!("{name}{end}"))]);
            places.into_iter().any(|path| path.exists())
        };
        if !dir.join("data").is_dir() {
            return Some(format!("{} is not there", dir.join("data").display()));
        }
        let lost = self.tablespaces.iter().find(|(_, oid, _)| !there(&oid.to_string()));
        lost.map(|(name, oid, was)| {
            format!("tablespace {name} ({oid}, {was}) is missing: {} is not there", dir.join(oid.to_string()).display())
        })
    }
}

/// A line of xlog.db.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    /// Bytes as stored.
    pub size: u64,
    pub at: Option<Timestamp>,
}

/// Name, size, time and compression, with tabs between.
pub fn xlog_db(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut fields = line.split('\t');
        let (name, size, at) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse::<f64>().ok()?);
        let at = Timestamp::from_millisecond((at * 1000.0) as i64).ok();
        (name.len() >= 16).then(|| Line { name: name.to_owned(), size, at })
    };
    text.lines().filter_map(line).collect()
}

/// `2026-01-31 12:00:00.123456+00:00`, or what older ones wrote: `Sat Jan 31 12:00:00 2026`.
fn time(text: &str) -> Option<Timestamp> {
    let parsed = DateTimeParser::new().parse_timestamp(text).ok();
    parsed.or_else(|| {
        jiff::fmt::strtime::parse("%a %b %d %H:%M:%S %Y", text)
            .ok()?
            .to_datetime()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::system())
            .ok()
            .map(|at| at.timestamp())
    })
}

/// A list of Python's tuples: `[('fast', 16385, '/srv/fast')]`.
fn tablespaces(text: &str) -> Vec<(String, u32, String)> {
    let mut all = Vec::new();
    for tuple in text.split('(').skip(1) {
        let inside = tuple.rsplit_once(')').map_or(tuple, |(inside, _)| inside);
        let mut parts = inside.splitn(3, ", ");
        let (Some(name), Some(oid), Some(place)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let bare = |text: &str| text.trim().trim_matches(['\'', '"']).to_owned();
        if let Ok(oid) = oid.parse() {
            all.push((bare(name), oid, bare(place)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backups_file_is_read() {
        let text = "backup_label=None\nbegin_time=2026-01-31 12:00:00.123456+00:00\nbegin_xlog=0/2000028\ncompression=None\n\
            end_time=2026-01-31 12:00:05+00:00\nend_xlog=0/3000100\nsize=25000000\nstatus=DONE\nsystemid=7123\n\
            tablespaces=[('fast', 16385, '/srv/fast'), ('slow', 16386, '/srv/slow one')]\ntimeline=1\nversion=150005\n\
            xlog_segment_size=16777216\n";
        let info = Info::parse("20260131T120000", text).unwrap();
        assert_eq!((info.begin, info.end), (Some(Lsn(0x0200_0028)), Some(Lsn(0x0300_0100))));
        assert_eq!(info.begun_at.unwrap().to_string(), "2026-01-31T12:00:00.123456Z");
        assert_eq!(info.tablespaces[1], ("slow".into(), 16386, "/srv/slow one".into()));
        assert!(!info.compressed && info.segment_size == Some(16 << 20) && info.version == Some(150_005));
        assert!(info.trouble(Path::new("/nonexistent")).unwrap().ends_with("data is not there"));
        let failed = Info::parse("x", "status=FAILED\n").unwrap();
        assert_eq!(failed.trouble(Path::new("/nonexistent")).unwrap(), "Barman says that it is FAILED");
        assert_eq!(Info::parse("x", "mode=rsync\n"), None);
        let older = Info::parse("x", "status=DONE\nend_time=Sat Jan 31 12:00:05 2026\n").unwrap();
        assert!(older.ended_at.is_some());
    }

    #[test]
    fn the_list_of_wal_is_read() {
        let lines = xlog_db(
            "000000010000000000000002\t16777216\t1769860800.5\tNone\nx\n00000002.history\t41\t1769860801\tgzip\n",
        );
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].size, lines[0].at.unwrap().to_string()), (16 << 20, "2026-01-31T12:00:00.5Z".into()));
    }
}
