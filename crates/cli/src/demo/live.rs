//! While the demo runs: one line that says how it goes.

use super::{link, stop::Stop};
use crate::{failure::Failure, paint::Paint, wrap};
use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};
use surus_core::{clock::Stopwatch, size::human_count};
use surus_pg::Session;

/// How often the line is renewed: where somebody watches, and elsewhere.
const EVERY: Duration = Duration::from_secs(1);
const EVERY_IN_LOG: Duration = Duration::from_secs(10);

const SQL: &str = "SELECT (SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database WHERE datname IN ('labdb', 'billing')) AS transactions, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS sessions, \
    (SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND state_change < now() - interval '5 s') AS idle, \
    (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock') AS waiting, \
    (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication) AS lag_bytes, \
    (SELECT archived_count FROM pg_stat_archiver) AS archived";

/// What one look at the primary says.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    transactions: f64,
    sessions: i64,
    idle: i64,
    waiting: i64,
    /// Absent without a connected standby.
    lag_bytes: Option<i64>,
    archived: i64,
}

impl Seen {
    /// Looks.
    pub async fn look(session: &Session) -> Result<Self, Failure> {
        let rows = session.ask(SQL).await.map_err(link::asked)?;
        session.take_asked();
        let read = || {
            let row = rows.first()?;
            Ok(Self {
                transactions: row.f64("transactions")?,
                sessions: row.i64("sessions")?,
                idle: row.i64("idle")?,
                waiting: row.i64("waiting")?,
                lag_bytes: row.opt_f64("lag_bytes")?.map(|bytes| bytes.max(0.0) as i64),
                archived: row.i64("archived")?,
            })
        };
        read().map_err(|error: surus_pg::RowError| Failure::bug(error.to_string()))
    }

    /// Transactions per second since an earlier look.
    pub fn rate_since(&self, earlier: &Self, seconds: f64) -> f64 {
        (self.transactions - earlier.transactions).max(0.0) / seconds.max(0.001)
    }

    /// The line.
    fn line(&self, per_second: f64) -> String {
        let lag = match self.lag_bytes {
            Some(bytes) => format!("standby {} bytes behind", human_count(bytes)),
            None => "standby not connected".to_owned(),
        };
        format!(
            "{per_second:.0} transactions/s · {lag} · {} WAL archived · {} sessions, {} wait for locks, {} idle in transaction",
            self.archived, self.sessions, self.waiting, self.idle
        )
    }
}

/// Shows the line until somebody asks to stop.
///
/// A primary that does not answer is said and looked for again: the user may well have restarted it.
pub async fn watch(connect: impl AsyncFn() -> Result<Session, Failure>, stop: &Stop) {
    let terminal = std::io::stdout().is_terminal();
    let bar = terminal.then(|| {
        let style =
            ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new_spinner().with_style(style);
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    });
    let every = if terminal { EVERY } else { EVERY_IN_LOG };
    // Two looks make the first line, which comes soon.
    let mut pause = EVERY;
    let mut session = None;
    let mut last: Option<(Seen, Stopwatch)> = None;
    while !stop.asked() {
        let text = match look(&connect, &mut session).await {
            Ok(seen) => {
                let text = last
                    .as_ref()
                    .map(|(before, since)| seen.line(seen.rate_since(before, since.elapsed_ms() / 1000.0)));
                last = Some((seen, Stopwatch::start()));
                text
            }
            Err(failure) => {
                (session, last) = (None, None);
                Some(format!("the primary does not answer: {}", failure.message))
            }
        };
        match (&bar, text) {
            (Some(bar), Some(text)) => bar.set_message(wrap::shortened(&text, wrap::width() - 2)),
            (None, Some(text)) => {
                // Whoever closed the output is not interested any more; the servers go on.
                let _ = crate::output::print(&format!("{}\n", Paint::faint(text)));
            }
            (_, None) => {}
        }
        tokio::select! {
            () = stop.wait() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = every;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

async fn look(
    connect: &impl AsyncFn() -> Result<Session, Failure>,
    session: &mut Option<Session>,
) -> Result<Seen, Failure> {
    let open = match session.take().filter(Session::is_open) {
        Some(open) => open,
        None => connect().await?,
    };
    let seen = Seen::look(&open).await?;
    *session = Some(open);
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_and_what_is_not() {
        let seen = Seen { transactions: 900.0, sessions: 14, idle: 2, waiting: 8, lag_bytes: Some(128), archived: 61 };
        let later = Seen { transactions: 1000.0, lag_bytes: None, ..seen.clone() };
        assert_eq!(
            seen.line(38.4),
            "38 transactions/s · standby 128 bytes behind · 61 WAL archived · 14 sessions, 8 wait for locks, \
             2 idle in transaction"
        );
        assert!(later.line(later.rate_since(&seen, 2.0)).starts_with("50 transactions/s"));
        assert!(later.line(0.0).contains("standby not connected"));
    }
}
