//! Reaching the target, losing it, and reaching it again.

use super::Watch;
use crate::{
    activity::Average,
    asking,
    changes::{Change, Pulse},
    gate::{Extension, Extensions},
    why::Why,
};
use serde_json::json;
use std::{path::PathBuf, sync::Arc, time::Duration};
use surus_core::{clock, code};
use surus_pg::{Facts, Manners, RowError, Session, Target};

/// What is known of a target that was reached.
pub(super) struct Known {
    pub facts: Arc<Facts>,
    /// Extensions of the database that the first session is in.
    pub extensions: Arc<Extensions>,
    pub pulse: Pulse,
    /// `host:port`.
    pub server: String,
    /// Where the server's files are, when surus is on its host.
    pub places: Option<Vec<PathBuf>>,
}

/// A session with a server that surus can watch.
pub(super) struct Entered {
    pub session: Session,
    pub known: Known,
}

/// The manners of every session that watches.
pub(super) fn manners(statement_timeout: Duration) -> Manners {
    Manners { statement_timeout, ..Manners::looking() }
}

/// Opens a session with PostgreSQL itself, of a version that surus knows.
pub(crate) async fn open(target: &Target, statement_timeout: Duration) -> Result<Session, Why> {
    let session = target.connect(&manners(statement_timeout)).await.map_err(|error| Why::from(&error))?;
    if session.pooled() {
        let text = format!("{} is a connection pooler; nothing is collected there", target.label());
        return Err(Why::error(code::CONNECT_POOLER, text));
    }
    if !session.version().is_supported() {
        let text = format!("{} runs PostgreSQL {}; nothing is collected there", target.label(), session.version());
        return Err(Why::error(code::CONNECT_VERSION, text));
    }
    // Each view is read once per query, so a cache of statistics for the transaction would only cost (15 and newer). A
    // server may end idle sessions (14 and newer), and this one is meant to stay.
    let own = match session.version().major() {
        15.. => "SET stats_fetch_consistency = none; SET idle_session_timeout = 0",
        14 => "SET idle_session_timeout = 0",
        _ => return Ok(session),
    };
    session.run(own).await.map_err(|error| Why::from(&error))?;
    Ok(session)
}

async fn enter(target: Target, statement_timeout: Duration, within: Duration) -> Result<Entered, Why> {
    let label = target.label();
    let entering = async {
        let session = open(&target, statement_timeout).await?;
        let facts = Facts::gather_without_hba(&session).await.map_err(|error| Why::from(&error))?;
        let extensions = extensions(&session, statement_timeout).await?;
        let endpoint = session.endpoint();
        let server = format!("{}:{}", endpoint.host.as_deref().unwrap_or("localhost"), endpoint.port);
        let pulse = pulse(&session, statement_timeout).await?;
        let places = places(&session, &facts, statement_timeout).await;
        let known = Known { places, facts: Arc::new(facts), extensions: Arc::new(extensions), pulse, server };
        Ok(Entered { session, known })
    };
    tokio::time::timeout(within, entering).await.unwrap_or_else(|_| {
        let text = format!("{label} did not let surus in within {} s", within.as_secs_f64());
        Err(Why::error(code::CONNECT_TIMEOUT, text))
    })
}

/// The extensions of the database that the session is in.
pub(super) async fn extensions(session: &Session, statement_timeout: Duration) -> Result<Extensions, Why> {
    const SQL: &str =
        "SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace";
    let rows = asking::ask(session, SQL, statement_timeout).await.map_err(|error| Why::from(&error))?;
    let read = |row: surus_pg::Row<'_>| {
        let extension = Extension { version: row.text("extversion")?, schema: row.text("nspname")? };
        Ok((row.text("extname")?, extension))
    };
    rows.iter().map(read).collect::<Result<_, RowError>>().map_err(|error| Why::from(&error))
}

/// The data directory and the tablespaces, when surus is on the server's host.
async fn places(session: &Session, facts: &Facts, statement_timeout: Duration) -> Option<Vec<PathBuf>> {
    const SQL: &str = "SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace WHERE oid > 1664 LIMIT 1000";
    facts.host.as_ref().ok()?;
    let mut places: Vec<PathBuf> = facts.data_directory().into_iter().collect();
    if let Ok(rows) = asking::ask(session, SQL, statement_timeout).await {
        places.extend(rows.iter().filter_map(|row| row.text("place").ok()).map(PathBuf::from));
    }
    Some(places)
}

/// Is it there, and is it still what it was?
pub(super) async fn pulse(session: &Session, statement_timeout: Duration) -> Result<Pulse, Why> {
    let rows = asking::ask(session, Pulse::SQL, statement_timeout).await.map_err(|error| Why::from(&error))?;
    Pulse::read(&rows).map_err(|error| Why::from(&error))
}

impl Watch {
    /// Begins to connect when there is no session and the pause is over.
    pub(super) fn connect_if_due(&mut self) {
        if self.session.is_some() || self.connecting.is_some() {
            return;
        }
        // A longer pause than there is means that the clock was set back.
        let left = self.standing.retry_at_ms - clock::now_ms();
        if left > 0 && u128::from(left.unsigned_abs()) <= self.settings.retry_at_most.as_millis() {
            return;
        }
        let entering = enter(self.target.clone(), self.settings.statement_timeout, self.settings.connect_timeout);
        self.connecting = Some(tokio::spawn(entering));
    }

    /// An attempt to connect has ended; none when its task broke.
    pub(super) fn entered(&mut self, entered: Option<Result<Entered, Why>>) {
        let now_ms = clock::now_ms();
        match entered {
            Some(Ok(Entered { session, known })) => {
                self.session = Some(session);
                if let Some(before) = self.known.replace(known) {
                    self.compare(&before, now_ms);
                }
                self.standing.attempts = 0;
                self.grids.hasten(now_ms);
            }
            Some(Err(why)) => self.not_reached(why, now_ms),
            None => self.not_reached(Why::error(code::BUG, "the attempt to connect broke off"), now_ms),
        }
    }

    fn not_reached(&mut self, why: Why, now_ms: i64) {
        // Whether it is there is told at once, and then with every cycle.
        if self.standing.attempts == 0 {
            self.grids.counters.hasten(now_ms);
        }
        self.standing.attempts += 1;
        self.standing.retry_at_ms = now_ms + self.retry_after_ms();
        self.down(why, now_ms);
        self.show();
    }

    /// Half a second, doubling up to the bound.
    fn retry_after_ms(&self) -> i64 {
        let pause = Duration::from_millis(500).saturating_mul(1 << self.standing.attempts.saturating_sub(1).min(10));
        i64::try_from(pause.min(self.settings.retry_at_most).as_millis()).unwrap_or(i64::MAX)
    }

    /// The session is gone: its answers end here, and a new one is tried for at once.
    pub(super) fn lost(&mut self, why: Why, at_ms: i64) {
        self.session = None;
        if let Some(trip) = &mut self.trip {
            trip.break_off();
        }
        self.standing.retry_at_ms = clock::now_ms();
        self.runs.forget_answers(&why);
        self.writing.end_all(at_ms);
        self.average = Average::default();
        self.down(why, at_ms);
        self.show();
    }

    fn down(&mut self, why: Why, at_ms: i64) {
        if self.standing.trouble.as_ref() != Some(&why) {
            tracing::warn!(target = %self.watched.name, code = why.code, "not reached: {}", why.text);
        }
        if self.standing.up {
            let detail = json!({ "code": why.code, "reason": why.text });
            self.happened(at_ms, Change::new("down", format!("Not reached: {}", why.text), detail));
            (self.standing.up, self.standing.since_ms) = (false, at_ms);
        }
        self.standing.trouble = Some(why);
    }

    /// The target answered.
    pub(super) fn answered(&mut self, at_ms: i64) {
        if !self.standing.up {
            tracing::info!(target = %self.watched.name, "reached");
            if self.known_before {
                let seconds = (at_ms - self.standing.since_ms) / 1000;
                let detail = json!({ "down_since_ms": self.standing.since_ms });
                self.happened(at_ms, Change::new("up", format!("Reached again after {seconds} s"), detail));
            }
            self.known_before = true;
            (self.standing.up, self.standing.since_ms) = (true, at_ms);
        }
        self.standing.trouble = None;
    }
}
