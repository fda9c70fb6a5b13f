//! An open session with good manners, and the queries asked in it.

use crate::{ask::AskError, rows::Rows};
use std::{sync::Mutex, time::Duration};
use surus_core::{clock::Stopwatch, version::Version};
use tokio_postgres::SimpleQueryMessage;

/// How a session behaves on the server: the limits of a good guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// `application_name`, so that an operator sees who it is.
    pub application_name: String,
    /// `statement_timeout`.
    pub statement_timeout: Duration,
    /// `lock_timeout`.
    pub lock_timeout: Duration,
    /// `default_transaction_read_only`.
    pub read_only: bool,
}

impl Manners {
    /// For looking: read-only, 5 s a statement, 100 ms for a lock.
    pub fn looking() -> Self {
        Self {
            application_name: "surus".into(),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_millis(100),
            read_only: true,
        }
    }

    /// For changing what the user asked for: no statement limit, 2 s for a lock.
    pub fn changing() -> Self {
        Self {
            statement_timeout: Duration::ZERO,
            lock_timeout: Duration::from_secs(2),
            read_only: false,
            ..Self::looking()
        }
    }

    /// The statements that put them in force. `search_path` is pinned so that no user object can shadow the catalog.
    pub(crate) fn as_sql(&self) -> String {
        format!(
            "SET application_name = {}; SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = 60000; SET jit = off; SET search_path = pg_catalog; \
             SET default_transaction_read_only = {}; SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; \
             SET IntervalStyle = 'postgres'; SET extra_float_digits = 1",
            crate::quote::literal(&self.application_name),
            self.statement_timeout.as_millis(),
            self.lock_timeout.as_millis(),
            if self.read_only { "on" } else { "off" },
        )
    }
}

/// A query that was asked, for those who want to show what surus did on their server.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub sql: String,
    pub duration_ms: f64,
    pub rows: usize,
    /// Size of the answer's values, in bytes of text.
    pub bytes: u64,
}

/// An open session with one database of one instance.
#[derive(Debug)]
pub struct Session {
    /// Every query asked since the last [`Session::take_asked`].
    asked: Mutex<Vec<Asked>>,
    client: tokio_postgres::Client,
    version: Version,
    encrypted: bool,
    backend_pid: Option<u32>,
}

impl Session {
    pub(crate) fn new(
        client: tokio_postgres::Client,
        version: Version,
        encrypted: bool,
        backend_pid: Option<u32>,
    ) -> Self {
        Self { asked: Mutex::default(), client, version, encrypted, backend_pid }
    }

    /// The server's version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Is the session encrypted with TLS?
    pub fn encrypted(&self) -> bool {
        self.encrypted
    }

    /// The backend's process id on its host.
    pub fn backend_pid(&self) -> Option<u32> {
        self.backend_pid
    }

    /// Is the connection still open?
    pub fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Runs SQL by the simple query protocol and returns the rows of its last statement that has any.
    ///
    /// # Errors
    /// Whatever the server refuses, classified; a broken connection is [`crate::AskErrorKind::Closed`].
    pub async fn ask(&self, sql: &str) -> Result<Rows, AskError> {
        let watch = Stopwatch::start();
        let answer = self.answer(sql).await;
        let (rows, bytes) = answer.as_ref().map_or((0, 0), |rows| (rows.len(), rows.bytes()));
        let asked = Asked { sql: sql.to_owned(), duration_ms: watch.elapsed_ms(), rows, bytes };
        self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(asked);
        answer
    }

    /// What was asked since the last call, in order.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    async fn answer(&self, sql: &str) -> Result<Rows, AskError> {
        let mut columns = Vec::new();
        let mut values = Vec::new();
        for message in self.client.simple_query(sql).await? {
            match message {
                SimpleQueryMessage::RowDescription(described) => {
                    columns = described.iter().map(|column| column.name().to_owned()).collect();
                    values.clear();
                }
                SimpleQueryMessage::Row(row) => {
                    values.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                }
                _ => {}
            }
        }
        Ok(Rows::new(columns, values))
    }

    /// Runs SQL for its effect.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn run(&self, sql: &str) -> Result<(), AskError> {
        Ok(self.client.batch_execute(sql).await?)
    }

    /// Changes the session's manners.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn behave(&self, manners: &Manners) -> Result<(), AskError> {
        self.run(&manners.as_sql()).await
    }
}
