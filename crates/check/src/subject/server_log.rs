//! The end of the server's log, for the checks that read it.

use crate::{rule::Access, scene::Scene, verdict::Trouble};
use surus_core::{clock, finding::Finding, size::human_seconds};
use surus_pg::log_tail::{self, LogEntry, LogTail};

/// How far back these checks look, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// Reads the log's end.
///
/// # Errors
/// Unknown: surus is not on the host, or the log is not in a file that it may read.
pub(crate) async fn tail(scene: &Scene<'_>, access: Access<'_>) -> Result<LogTail, Trouble> {
    Ok(log_tail::find(access.session, scene.facts).await??.read_tail()?)
}

/// How long ago the entry was written, in words; "at an unknown time" without one.
pub(crate) fn when(entry: &LogEntry) -> String {
    match entry.at {
        Some(at) => {
            format!("{} ago", human_seconds((clock::now().as_millisecond() - at.as_millisecond()) as f64 / 1000.0))
        }
        None => "at an unknown time".to_owned(),
    }
}

/// Which part of the log a finding rests on.
pub(crate) fn from_log(finding: Finding, tail: &LogTail) -> Finding {
    let finding = finding.saw("log file", tail.path.display().to_string());
    match tail.span() {
        Some((from, to)) => finding.saw("log read from", from.to_string()).saw("log read to", to.to_string()),
        None => finding,
    }
}
