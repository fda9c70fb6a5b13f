//! What the acts of all kinds share: the session they use, what takes them back, and what came of them.

use crate::run::enter;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use surus_pg::{ConnectError, Manners, Session, Target};

/// What takes an act back; recorded before it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Previous {
    /// The setting's entry in postgresql.auto.conf as it was and as surus wrote it; `None` for no entry.
    Setting { name: String, previous: Option<String>, written: Option<String> },
    /// SQL that takes it back.
    Sql { database: Option<String>, sql: String },
    /// A line of pg_hba.conf as it was and as surus wrote it.
    Hba { file: String, line: u32, previous: String, written: String },
    /// Nothing takes it back.
    Nothing { why: String },
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    InForce,
    AfterRestart,
}

/// How long a change waits for the locks that others hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often a transaction that meets a lock is tried.
    pub tries: u32,
    /// The pause before the second try; it doubles from one to the next.
    pub pause: Duration,
    /// How long a transaction waits for a lock. Others queue behind it meanwhile, so it is short.
    pub lock_wait: Duration,
    /// How long what runs alone waits. CREATE INDEX CONCURRENTLY and VACUUM take SHARE UPDATE EXCLUSIVE: nobody who
    /// reads or writes queues behind them.
    pub lock_wait_alone: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            pause: Duration::from_millis(500),
            lock_wait: Duration::from_secs(2),
            lock_wait_alone: Duration::from_secs(60),
        }
    }
}

/// Where an act happens: an open session, and how to open another in the same database.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub session: &'a Session,
    pub target: &'a Target,
    pub database: Option<&'a str>,
}

/// Opens a session for changes in a database (the target's own when `None`).
pub(super) async fn session(target: &Target, database: Option<&str>) -> Result<Session, ConnectError> {
    let manners = Manners { application_name: "surus fix".into(), ..Manners::changing() };
    match database {
        Some(database) => enter(&target.with_database(database), &manners).await,
        None => enter(target, &manners).await,
    }
}
