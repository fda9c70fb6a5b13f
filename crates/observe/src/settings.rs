//! What is watched, and how often.

use crate::{collector::Collector, collectors, remote_write::RemoteWrite};
use std::{fmt, sync::Arc, time::Duration};

/// A target as the configuration names it.
#[derive(Clone, PartialEq, Eq)]
pub struct Watched {
    /// Its name: the label `instance` of its series.
    pub name: String,
    /// A connection string, as libpq takes it. It may hold a password and is never shown.
    pub dsn: String,
    /// The name of the cluster that it belongs to: the label `cluster`, when it is known.
    pub cluster: Option<String>,
    /// How often a heartbeat row is written while it is a primary; none: never.
    pub heartbeat: Option<Duration>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("name", &self.name).field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Intervals and limits, the same for every target.
#[derive(Clone)]
pub struct Settings {
    /// Distance of the activity samples.
    pub activity: Duration,
    /// Distance of the cycles of [`crate::collector::Tier::Counters`].
    pub counters: Duration,
    /// Distance of the cycles of [`crate::collector::Tier::Detail`].
    pub detail: Duration,
    /// Distance of the cycles of [`crate::collector::Tier::Slow`].
    pub slow: Duration,
    /// Distance of two readings of pg_stat_statements.
    pub statements: Duration,
    /// How often answers that are read more seldom than this are written again, so that the look-back of a query
    /// (5 min) always finds one. At most 60 s.
    pub repeat: Duration,
    /// The longest pause between two attempts to reach a server that is away.
    pub retry_at_most: Duration,
    /// `statement_timeout` of surus's sessions.
    pub statement_timeout: Duration,
    /// How long it may take to connect and to gather the first facts.
    pub connect_timeout: Duration,
    /// Databases of one target that are looked into, at most.
    pub databases_at_most: usize,
    /// Sessions in one activity sample, at most.
    pub sessions_at_most: usize,
    /// Statements in one reading of pg_stat_statements, at most.
    pub statements_at_most: usize,
    /// Read the machine's own state when surus runs on a target's host?
    pub host: bool,
    /// Which collectors run: all of the catalogue.
    pub collectors: &'static [&'static Collector],
    /// What sends every cycle on, once it is stored.
    pub remote_write: Option<Arc<RemoteWrite>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            activity: Duration::from_secs(1),
            counters: Duration::from_secs(10),
            detail: Duration::from_secs(30),
            slow: Duration::from_secs(600),
            statements: Duration::from_secs(60),
            repeat: Duration::from_secs(60),
            retry_at_most: Duration::from_secs(15),
            statement_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            databases_at_most: 100,
            sessions_at_most: 3_500,
            statements_at_most: 20_000,
            host: true,
            collectors: collectors::ALL,
            remote_write: None,
        }
    }
}

impl Settings {
    /// Is looked as often, and as closely?
    pub(crate) fn same_pace(&self, other: &Self) -> bool {
        let spans = |one: &Self| {
            let tiers = [one.activity, one.counters, one.detail, one.slow, one.statements, one.repeat];
            (tiers, [one.retry_at_most, one.statement_timeout, one.connect_timeout])
        };
        let limits = |one: &Self| (one.databases_at_most, one.sessions_at_most, one.statements_at_most, one.host);
        spans(self) == spans(other) && limits(self) == limits(other) && std::ptr::eq(self.collectors, other.collectors)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tiers = [self.activity, self.counters, self.detail, self.slow, self.statements, self.repeat];
        f.debug_struct("Settings").field("tiers", &tiers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_not_shown() {
        let watched = Watched { name: "a".into(), dsn: "password=hush".into(), cluster: None, heartbeat: None };
        assert!(!format!("{watched:?}").contains("hush"));
    }
}
