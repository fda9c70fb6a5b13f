//! The end of the server's log, when surus is on its host: which file it is, and its newest entries.
//!
//! Three formats are read: stderr with any log_line_prefix, csvlog and jsonlog. Severities are words in the language of
//! lc_messages, so only English logs are understood.

mod stderr;

use crate::{
    ask::{AskError, AskErrorKind},
    facts::Facts,
    host::state,
    session::Session,
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};
use stderr::Prefix;
use surus_core::finding::Reason;

/// At most this much of the file's end is read, in bytes.
pub const MOST_BYTES: u64 = 4 << 20;

/// At most this much of one message is kept, in characters.
const MESSAGE_CHARS: usize = 2000;

/// How bad an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// DEBUG, INFO, NOTICE.
    Low,
    Log,
    Warning,
    Error,
    Fatal,
    Panic,
}

impl Level {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "PANIC" => Level::Panic,
            "FATAL" => Level::Fatal,
            "ERROR" => Level::Error,
            "WARNING" => Level::Warning,
            "LOG" => Level::Log,
            "INFO" | "NOTICE" | "DEBUG" | "DEBUG1" | "DEBUG2" | "DEBUG3" | "DEBUG4" | "DEBUG5" => Level::Low,
            _ => return None,
        })
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When; absent when the prefix has no time.
    pub at: Option<Timestamp>,
    pub level: Level,
    /// Five characters, where the format or the prefix (%e) has them.
    pub sqlstate: Option<String>,
    /// The client's address or name, where the format or the prefix (%h, %r) has it.
    pub client: Option<String>,
    /// The message's first lines; never shown whole where it may hold a statement.
    pub message: String,
    /// The statement that caused it, where it was logged.
    pub statement: Option<String>,
    /// What the server was doing, one line for each level.
    pub context: Option<String>,
}

/// The end of the log.
#[derive(Debug, Clone, Default)]
pub struct LogTail {
    pub path: PathBuf,
    pub entries: Vec<LogEntry>,
    /// The size of the part that was read, in bytes.
    pub bytes: u64,
    /// The size of the file, in bytes.
    pub file_bytes: u64,
}

impl LogTail {
    /// From the oldest to the newest time in it.
    pub fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let times = || self.entries.iter().filter_map(|entry| entry.at);
        Some((times().min()?, times().max()?))
    }

    /// The entries of the last `seconds` before `now`; those without a time count as recent.
    pub fn since(&self, now: Timestamp, seconds: i64) -> impl Iterator<Item = &LogEntry> {
        let oldest = now.as_second() - seconds;
        self.entries.iter().filter(move |entry| entry.at.is_none_or(|at| at.as_second() >= oldest))
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Format {
    Stderr(Prefix),
    Csv,
    Json,
}

/// The file that the server writes its log to now.
#[derive(Debug, Clone, PartialEq)]
pub struct LogFile {
    pub path: PathBuf,
    format: Format,
    zone: TimeZone,
}

/// Finds the current log file.
///
/// # Errors
/// An inner [`Reason::Log`] says why the log cannot be read and what to do; the outer error is a broken connection.
pub async fn find(session: &Session, facts: &Facts) -> Result<Result<LogFile, Reason>, AskError> {
    let unreadable = |why: String| Ok(Err(Reason::Log(why)));
    if let Err(why) = &facts.host {
        return unreadable(format!("{why}, so its log cannot be read; run surus there"));
    }
    let settings = &facts.settings;
    let language = settings.text("lc_messages").unwrap_or_default();
    if !is_english(language) {
        return unreadable(format!(
            "lc_messages is {language}, and only English logs are understood; set lc_messages = 'C'"
        ));
    }
    let zone = settings.text("log_timezone").and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let prefix = Prefix::parse(settings.text("log_line_prefix").unwrap_or_default());
    let destinations = settings.list("log_destination").unwrap_or_default();
    if settings.on("logging_collector") != Some(true) {
        return Ok(stderr_file(session, &destinations).map(|path| LogFile {
            path,
            format: Format::Stderr(prefix),
            zone,
        }));
    }
    for (name, format) in [("jsonlog", Format::Json), ("csvlog", Format::Csv), ("stderr", Format::Stderr(prefix))] {
        if !destinations.contains(&name) {
            continue;
        }
        let rows = match session.ask(&format!("SELECT pg_catalog.pg_current_logfile('{name}') AS file")).await {
            Ok(rows) => rows,
            Err(error) if error.kind == AskErrorKind::Closed => return Err(error),
            Err(error) => return unreadable(format!("{}: GRANT pg_monitor to the role", error.message)),
        };
        let Some(file) = rows.first().ok().and_then(|row| row.text("file").ok()).filter(|file| !file.is_empty()) else {
            continue;
        };
        let Some(data) = facts.data_directory() else {
            return unreadable("the role may not see data_directory: GRANT pg_monitor to it".into());
        };
        return Ok(Ok(LogFile { path: data.join(file), format, zone }));
    }
    unreadable(format!("log_destination is {}, which surus does not read", destinations.join(", ")))
}

/// Where the postmaster's standard error goes, when the server's own collector does not take it.
fn stderr_file(session: &Session, destinations: &[&str]) -> Result<PathBuf, Reason> {
    let unreadable =
        |why: &str| Err(Reason::Log(format!("{why}; with logging_collector = on the server keeps files of its own")));
    if !destinations.contains(&"stderr") {
        return unreadable("the log goes to syslog or the event log, which surus does not read");
    }
    let Some(postmaster) = session.backend_pid().and_then(state::parent_of) else {
        return unreadable("the server's main process is not visible");
    };
    let target = match fs::read_link(format!("/proc/{postmaster}/fd/2")) {
        Ok(target) => target,
        Err(_) => {
            return unreadable("surus may not see where the server's standard error goes (run it as postgres or root)");
        }
    };
    match target.to_str() {
        Some("/dev/null") => unreadable("the server's standard error goes to /dev/null: the log is lost"),
        Some(text) if text.ends_with(" (deleted)") => unreadable("the server writes to a log file that was deleted"),
        Some(text) if text.starts_with('/') && target.is_file() => Ok(target),
        _ => unreadable("the server's standard error goes to another program (journalctl may have it)"),
    }
}

fn is_english(language: &str) -> bool {
    matches!(language, "" | "C" | "POSIX") || language.starts_with("C.") || language.starts_with("en")
}

impl LogFile {
    /// Reads the file's end.
    ///
    /// # Errors
    /// [`Reason::Log`]: the file cannot be opened or read.
    pub fn read_tail(&self) -> Result<LogTail, Reason> {
        let failed = |error: io::Error| {
            Reason::Log(format!("{} cannot be read: {error} (run surus as postgres or root)", self.path.display()))
        };
        let (text, file_bytes) = read_end(&self.path, MOST_BYTES).map_err(failed)?;
        let entries = match &self.format {
            Format::Stderr(prefix) => stderr::entries(&text, prefix, &self.zone),
            Format::Csv => csv_records(&text).iter().filter_map(|record| self.of_csv(record)).collect(),
            Format::Json => text.lines().filter_map(|line| self.of_json(line)).collect(),
        };
        Ok(LogTail { path: self.path.clone(), entries, bytes: text.len() as u64, file_bytes })
    }

    /// Column numbers: documentation, Using CSV-Format Log Output; the same from 13 to 18 as far as they are used.
    fn of_csv(&self, record: &[String]) -> Option<LogEntry> {
        let column = |at: usize| record.get(at).filter(|text| !text.is_empty()).cloned();
        let client = column(4).map(|from| from.rsplit_once(':').map_or(from.clone(), |(host, _)| host.to_owned()));
        Some(LogEntry {
            at: time(record.first()?, &self.zone),
            level: Level::of(record.get(11)?)?,
            sqlstate: column(12),
            client,
            message: cut(record.get(13)?),
            statement: column(19).map(|text| cut(&text)),
            context: column(18).map(|text| cut(&text)),
        })
    }

    fn of_json(&self, line: &str) -> Option<LogEntry> {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
        Some(LogEntry {
            at: text("timestamp").and_then(|stamp| time(stamp, &self.zone)),
            level: Level::of(text("error_severity")?)?,
            sqlstate: text("state_code").map(str::to_owned),
            client: text("remote_host").map(str::to_owned),
            message: cut(text("message").unwrap_or_default()),
            statement: text("statement").map(cut),
            context: text("context").map(cut),
        })
    }
}

/// The last `most` bytes, from the first whole line on, and the file's size.
fn read_end(path: &Path, most: u64) -> io::Result<(String, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let start = size.saturating_sub(most);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match text.find('\n').filter(|_| start > 0) {
        Some(end) => Ok((text[end + 1..].to_owned(), size)),
        None => Ok((text, size)),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MESSAGE_CHARS).collect()
}

/// Reads `2026-11-21 15:02:09.085 CET`. The abbreviation is not unique, so log_timezone decides.
fn time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let mut words = text.split(' ');
    let (day, clock) = (words.next()?, words.next()?);
    let local: DateTime = format!("{day}T{clock}").parse().ok()?;
    Some(zone.to_zoned(local).ok()?.timestamp())
}

/// Splits CSV as PostgreSQL writes it. A first record that began before the text is dropped.
fn csv_records(text: &str) -> Vec<Vec<String>> {
    let starts_record = |rest: &str| {
        let head = rest.as_bytes();
        head.len() > 19
            && head[..4].iter().all(u8::is_ascii_digit)
            && head[4] == b'-'
            && head[10] == b' '
            && head[13] == b':'
    };
    let mut start = 0;
    while !starts_record(&text[start..]) {
        match text[start..].find('\n') {
            Some(end) => start += end + 1,
            None => return Vec::new(),
        }
    }
    let mut records = Vec::new();
    let (mut record, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = text[start..].chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            other => field.push(other),
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(format: Format) -> LogFile {
        LogFile { path: PathBuf::new(), format, zone: TimeZone::UTC }
    }

    #[test]
    fn csv_is_read_with_quotes_and_line_ends() {
        let text = "rest of a record\"\n2026-11-21 15:02:09.085 UTC,\"app\",\"shop\",42,\"10.0.0.7:51234\",x,3,\"SELECT\",\
                    2026-11-21 15:00:00 UTC,3/4,0,ERROR,22012,\"division \"\"by\"\" zero\",,,,,,\"SELECT\n1/0\",,,\"psql\",\"client backend\",,0\n";
        let records = csv_records(text);
        assert_eq!(records.len(), 1);
        let entry = file(Format::Csv).of_csv(&records[0]).unwrap();
        assert_eq!((entry.level, entry.sqlstate.as_deref()), (Level::Error, Some("22012")));
        assert_eq!((entry.client.as_deref(), entry.message.as_str()), (Some("10.0.0.7"), "division \"by\" zero"));
        assert_eq!(entry.statement.as_deref(), Some("SELECT\n1/0"));
        assert_eq!(entry.at.unwrap().to_string(), "2026-11-21T15:02:09.085Z");
    }

    #[test]
    fn json_is_read() {
        let line = r#"{"timestamp":"2026-11-21 15:02:09.085 UTC","pid":7,"remote_host":"10.0.0.7","error_severity":"FATAL","state_code":"28P01","message":"password authentication failed for user \"app\""}"#;
        let entry = file(Format::Json).of_json(line).unwrap();
        assert_eq!(
            (entry.level, entry.sqlstate.as_deref(), entry.client.as_deref()),
            (Level::Fatal, Some("28P01"), Some("10.0.0.7"))
        );
    }

    #[test]
    fn only_whole_lines_of_the_end_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "first line\nsecond line\nthird\n").unwrap();
        assert_eq!(read_end(&path, 15).unwrap(), ("third\n".to_owned(), 29));
        assert_eq!(read_end(&path, 100).unwrap().0.lines().count(), 3);
    }

    #[test]
    fn languages() {
        assert!(is_english("C") && is_english("en_US.UTF-8") && is_english("C.UTF-8") && !is_english("de_DE.UTF-8"));
    }
}
