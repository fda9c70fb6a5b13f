//! The server's side of a backup: begin, end, and what it says of itself.

use super::spaces;
use crate::{
    control::{self, Control},
    error::{BackupError, Result},
    manifest::{Origin, Tablespace},
};
use jiff::Timestamp;
use std::{
    fs,
    path::{Path, PathBuf},
};
use surus_core::{code, lsn::Lsn};
use surus_pg::{AskError, Manners, Session, Target, host};

/// What the server says of itself before the backup.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    pub system_identifier: u64,
    pub version: u32,
    pub origin: Origin,
    pub segment_size: u64,
    pub page_size: u32,
    /// Pages of a relation's file.
    pub segment_pages: u32,
    pub checksums: bool,
    pub tablespaces: Vec<Tablespace>,
    /// Where the server says its data directory is; `None` when the role may not know.
    pub data_directory: Option<PathBuf>,
    /// When surus's own session began by the server's clock, in seconds since 1970.
    pub session_began: f64,
}

/// A backup that the server knows has begun. It ends with the session.
pub struct Begun {
    session: Session,
    pub facts: ServerFacts,
    pub start_lsn: Lsn,
    pub started_at: Timestamp,
}

/// What the server said at the end.
#[derive(Debug, Clone)]
pub struct Ended {
    pub stop_lsn: Lsn,
    pub stopped_at: Timestamp,
    pub timeline: u32,
    pub backup_label: String,
    pub tablespace_map: Option<String>,
    /// Those that there were when the backup began.
    pub tablespaces: Vec<Tablespace>,
    /// The next transaction id, with its epoch.
    pub next_xid: Option<u64>,
}

/// Opens a session and asks what must be known before.
///
/// # Errors
/// When the server cannot be asked, or is behind a pooler, where a session is not one.
pub async fn connect(target: &Target) -> Result<(Session, ServerFacts)> {
    let mut manners = Manners::changing();
    manners.application_name = "surus backup".into();
    let session = target.connect(&manners).await?;
    if session.pooled() {
        let text = "a connection pooler answers there, and a backup needs a session of its own".to_owned();
        return Err(BackupError::refused(code::CONNECT_POOLER, text));
    }
    // The role may lack the right to see data_directory; then the files cannot be read here either.
    let rows = session
        .ask(
            "SELECT (SELECT system_identifier FROM pg_control_system()) AS system, pg_is_in_recovery() AS standby, \
             (SELECT pg_size_bytes(current_setting('wal_segment_size'))) AS segment_size, \
             current_setting('block_size')::int8 AS page_size, \
             (SELECT setting::int8 FROM pg_settings WHERE name = 'segment_size') AS segment_pages, \
             current_setting('data_checksums') AS checksums, \
             (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS data, \
             (SELECT extract(epoch FROM backend_start)::float8 FROM pg_stat_activity WHERE pid = pg_backend_pid()) \
             AS session_began, current_setting('wal_level') AS wal_level",
        )
        .await?;
    let row = rows.first()?;
    let origin = if row.bool("standby")? { Origin::Standby } else { Origin::Primary };
    if origin == Origin::Primary && row.str("wal_level")? == "minimal" {
        let text = "wal_level is minimal: what WAL leaves out then, a backup cannot be made whole with".to_owned();
        return Err(BackupError::refused(code::BACKUP_REFUSED, text));
    }
    let facts = ServerFacts {
        system_identifier: row.i64("system")?.cast_unsigned(),
        version: session.version().num(),
        origin,
        segment_size: row.i64("segment_size")?.unsigned_abs(),
        page_size: u32::try_from(row.i64("page_size")?).unwrap_or(0),
        segment_pages: row.opt_i64("segment_pages")?.and_then(|pages| u32::try_from(pages).ok()).unwrap_or(0),
        checksums: row.str("checksums")? == "on",
        tablespaces: tablespaces(&session).await?,
        data_directory: row.opt_str("data")?.map(PathBuf::from),
        session_began: row.opt_f64("session_began")?.unwrap_or(0.0),
    };
    Ok((session, facts))
}

/// All tablespaces but the default ones.
pub(super) async fn tablespaces(session: &Session) -> Result<Vec<Tablespace>> {
    let sql = "SELECT oid::int8, pg_tablespace_location(oid) AS path FROM pg_tablespace \
               WHERE pg_tablespace_location(oid) <> '' ORDER BY oid";
    let rows = session.ask(sql).await?;
    let spaces = rows
        .iter()
        .map(|row| Ok(Tablespace { oid: u32::try_from(row.i64("oid")?).unwrap_or(0), path: row.text("path")? }));
    spaces.collect()
}

/// The data directory, when it is on this machine and ours to read: same cluster, and its server is the one that
/// answers.
///
/// # Errors
/// Why the files cannot be read from here.
pub fn local_data_directory(session: &Session, facts: &ServerFacts) -> std::result::Result<PathBuf, String> {
    let data = facts.data_directory.clone().ok_or("the role may not see where the data directory is")?;
    if !session.backend_pid().is_some_and(|pid| host::is_our_backend(pid, facts.session_began)) {
        return Err("the server runs on another machine".into());
    }
    let bytes = fs::read(data.join(control::PATH)).map_err(|error| format!("{}: {error}", data.display()))?;
    match read_control(&data, &bytes) {
        Some(control) if control.system_identifier == facts.system_identifier => Ok(data),
        _ => Err(format!("{} is the directory of another cluster", data.display())),
    }
}

fn read_control(data: &Path, bytes: &[u8]) -> Option<Control> {
    Control::parse(bytes).ok().or_else(|| Control::parse(&fs::read(data.join(control::PATH)).ok()?).ok())
}

impl Begun {
    /// Tells the server that a backup begins; with `fast` its checkpoint is not spread over time.
    ///
    /// # Errors
    /// When the server refuses, e.g. for want of the right.
    pub async fn begin(session: Session, mut facts: ServerFacts, label: &str, fast: bool) -> Result<Self> {
        let function = if facts.version >= 150_000 { "pg_backup_start" } else { "pg_start_backup" };
        let exclusive = if facts.version >= 150_000 { "" } else { ", false" };
        let sql = format!(
            "SELECT {function}({}, {fast}{exclusive}) AS lsn, extract(epoch FROM clock_timestamp())::float8 AS at",
            surus_pg::quote::literal(&format!("surus {label}"))
        );
        let rows = session.ask(&sql).await?;
        let row = rows.first()?;
        let (start_lsn, started_at) = (lsn(row.str("lsn")?)?, moment(row.f64("at")?)?);
        // Again: one may have been made since the first look.
        facts.tablespaces = tablespaces(&session).await?;
        Ok(Self { session, facts, start_lsn, started_at })
    }

    /// Tells the server that the files were read.
    ///
    /// # Errors
    /// When the session is gone or the server says that the backup is worthless: it was promoted, or ran without
    /// `full_page_writes`.
    pub async fn end(self) -> Result<Ended> {
        let function = match self.facts.version >= 150_000 {
            true => "pg_backup_stop(false)",
            false => "pg_stop_backup(false, false)",
        };
        let sql = format!(
            "SELECT lsn, labelfile, spcmapfile, extract(epoch FROM clock_timestamp())::float8 AS at FROM {function}"
        );
        let rows = self.session.ask(&sql).await.map_err(given_up)?;
        let row = rows.first()?;
        // A statement of its own: the one above saw the transactions that there were before it stopped the backup.
        let next_xid = next_xid(&self.session).await?;
        let backup_label = row.text("labelfile")?;
        let map = row.opt_str("spcmapfile")?.map(str::trim_end).filter(|map| !map.is_empty());
        let timeline = line_of(&backup_label, "START TIMELINE: ").and_then(|text| text.parse().ok());
        let odd = || BackupError::refused(code::QUERY_UNEXPECTED, "the server's backup label has no timeline");
        if self.facts.origin == Origin::Standby {
            let sql = "SELECT min_recovery_end_timeline::int8 AS timeline FROM pg_control_recovery()";
            stayed(timeline.ok_or_else(odd)?, self.session.ask(sql).await?.first()?.i64("timeline")?)?;
        }
        let ended = Ended {
            stop_lsn: lsn(row.str("lsn")?)?,
            stopped_at: moment(row.f64("at")?)?,
            timeline: timeline.ok_or_else(odd)?,
            tablespaces: spaces::at_start(map, &self.facts.tablespaces),
            tablespace_map: map.map(|map| format!("{map}\n")),
            next_xid,
            backup_label,
        };
        self.session.close().await;
        Ok(ended)
    }
}

/// The error of a server that ends a backup which it had begun: SQLSTATE 55000 says that the backup is worthless, for
/// the server was promoted or ran without `full_page_writes` meanwhile.
pub(super) fn given_up(error: AskError) -> BackupError {
    if error.sqlstate.as_deref() != Some("55000") {
        return error.into();
    }
    let hint = error.hint.map_or_else(String::new, |hint| format!(". {hint}"));
    let text = format!("the server gave the backup up: {}{hint}", error.message);
    BackupError::refused(code::BACKUP_ABORTED, text)
}

/// A standby whose primary was replaced meanwhile has gone over to another timeline: its label names the one of the
/// beginning, its end is on the other.
fn stayed(began_on: u32, ends_on: i64) -> Result<()> {
    // 0 where the server does not say.
    if ends_on == 0 || ends_on == i64::from(began_on) {
        return Ok(());
    }
    let text = format!("the server went over from timeline {began_on} to {ends_on} during the backup; take it again");
    Err(BackupError::refused(code::BACKUP_ABORTED, text))
}

/// The first transaction that has not begun.
pub(super) async fn next_xid(session: &Session) -> Result<Option<u64>> {
    let next = session.ask("SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS xid").await?;
    Ok(next.first()?.opt_str("xid")?.and_then(|xid| xid.parse().ok()))
}

/// What follows `key` on its line.
fn line_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key))
}

fn lsn(text: &str) -> Result<Lsn> {
    let odd = |_| BackupError::refused(code::QUERY_UNEXPECTED, format!("the server said {text:?} for an LSN"));
    text.parse().map_err(odd)
}

pub(super) fn moment(seconds: f64) -> Result<Timestamp> {
    let odd = |_| BackupError::refused(code::QUERY_UNEXPECTED, format!("the server's clock says {seconds}"));
    Timestamp::from_microsecond((seconds * 1e6) as i64).map_err(odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_went_over_to_another_timeline_has_no_backup() {
        assert!(stayed(1, 1).is_ok() && stayed(1, 0).is_ok());
        assert_eq!(stayed(1, 2).unwrap_err().code(), code::BACKUP_ABORTED);
    }
}
