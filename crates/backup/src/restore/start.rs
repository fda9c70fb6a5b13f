//! The restored server is started, comes to its target, and is left running.

use super::{directory::JOURNAL, target::Action};
use crate::{
    control::{self, Control},
    error::{BackupError, Result},
};
use serde::Serialize;
use std::{fs, path::Path, thread, time::Duration};
use surus_core::{
    clock::{Deadline, Stopwatch},
    code,
    monitor::Monitor,
};
use surus_pg::{
    programs::Programs,
    server::{LocalServer, Mode},
};

const POLL: Duration = Duration::from_millis(100);
/// `DBState` of a server that takes writes.
const IN_PRODUCTION: u32 = 6;

/// How the server came up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Arrival {
    pub port: u16,
    pub socket_directory: String,
    pub log: String,
    /// The server's words about where it stopped, e.g. `recovery stopping after commit of transaction 740, time …`.
    pub stopped: Option<String>,
    /// The last position that was replayed, and the time of the last transaction that was.
    pub lsn: Option<String>,
    pub time: Option<String>,
    /// The new timeline; `None` while it waits in recovery.
    pub timeline: Option<u32>,
    pub seconds: f64,
}

/// Starts the server in `data` and waits until it has come to its target.
///
/// # Errors
/// When it does not come up, or not to its target, within that time. It does not run then.
pub fn start(
    programs: &Programs,
    data: &Path,
    port: Option<u16>,
    action: Action,
    within: Duration,
    monitor: &dyn Monitor,
) -> Result<(LocalServer, Arrival)> {
    let failed = |text: String| BackupError::refused(code::RESTORE_START, text);
    if data.join(JOURNAL).exists() {
        let text =
            format!("{} is not whole: its restore was broken off; the same command goes on with it", data.display());
        return Err(failed(text));
    }
    come_up(LocalServer::in_place(programs, data, "postgres", port)?, action, within, monitor)
}

/// As [`start`], for a server that somebody has set up already.
///
/// # Errors
/// As [`start`].
pub fn come_up(
    mut server: LocalServer,
    action: Action,
    within: Duration,
    monitor: &dyn Monitor,
) -> Result<(LocalServer, Arrival)> {
    let failed = |text: String| BackupError::refused(code::RESTORE_START, text);
    let watch = Stopwatch::start();
    let data = server.data_dir().to_owned();
    monitor.begin("recovery", None);
    let deadline = Deadline::after(within);
    server.start(within).map_err(|error| failed(error.to_string()))?;
    while !arrived(&data, &server, action) {
        if !server.is_running() {
            return Err(failed(format!("the server ended during recovery; its log ends with:\n{}", server.log_tail())));
        }
        if deadline.passed() {
            let tail = server.log_tail();
            server.stop(Mode::Fast)?;
            let text =
                format!("recovery was not done within {} s; the server's log ends with:\n{tail}", within.as_secs());
            return Err(failed(text));
        }
        thread::sleep(POLL);
    }
    monitor.end("recovery", "");
    let said = Said::from_log(&server.log());
    let arrival = Arrival {
        port: server.port(),
        socket_directory: server.socket_dir().display().to_string(),
        log: server.log_file().display().to_string(),
        stopped: said.stopped,
        lsn: said.lsn,
        time: said.time,
        timeline: said.timeline,
        seconds: watch.elapsed().as_secs_f64(),
    };
    Ok((server, arrival))
}

/// Does it take writes, or, where it was to wait at its target, wait?
fn arrived(data: &Path, server: &LocalServer, action: Action) -> bool {
    let control = fs::read(data.join(control::PATH)).ok().and_then(|bytes| Control::parse(&bytes).ok());
    control.is_some_and(|control| control.state == IN_PRODUCTION)
        || (action == Action::Pause && server.log().contains("pausing at the end of recovery"))
}

/// What the log says of recovery. Source: the messages of PostgreSQL's `xlogrecovery.c`, the same from 13 to 18.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    stopped: Option<String>,
    lsn: Option<String>,
    time: Option<String>,
    timeline: Option<u32>,
}

impl Said {
    fn from_log(log: &str) -> Self {
        let mut said = Self::default();
        for line in log.lines() {
            let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim());
            let word = |text: &str| text.split_whitespace().next().map(str::to_owned);
            if let Some(rest) = after("recovery stopping ") {
                said.stopped = Some(format!("recovery stopping {rest}"));
            } else if let Some(rest) = after("redo done at ") {
                said.lsn = word(rest);
            } else if let Some(rest) = after("last completed transaction was at log time ") {
                said.time = Some(rest.to_owned());
            } else if let Some(rest) = after("selected new timeline ID: ") {
                said.timeline = rest.parse().ok();
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_where_recovery_stopped() {
        let log = "\
2026-01-01 10:00:00.000 UTC [1] LOG:  recovery stopping after commit of transaction 740, time 2026-01-01 09:00:00.1+00
2026-01-01 10:00:00.000 UTC [1] LOG:  redo done at 0/5000100 system usage: CPU: user: 0.00 s
2026-01-01 10:00:00.000 UTC [1] LOG:  last completed transaction was at log time 2026-01-01 09:00:00.1+00
2026-01-01 10:00:00.000 UTC [1] LOG:  selected new timeline ID: 3
";
        let said = Said::from_log(log);
        assert_eq!(said.lsn.as_deref(), Some("0/5000100"));
        assert_eq!(said.time.as_deref(), Some("2026-01-01 09:00:00.1+00"));
        assert_eq!(said.timeline, Some(3));
        assert!(said.stopped.unwrap().contains("after commit of transaction 740"));
    }
}
