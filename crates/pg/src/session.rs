//! An open session with good manners, and the queries asked in it.

use crate::{
    ask::{AskError, AskErrorKind},
    connect::{dial::Address, settings::Endpoint, tls::TlsInfo, wire::AuthMethod, wire::Wire},
    rows::Rows,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use surus_core::{clock::Stopwatch, version::Version};
use tokio::task::JoinHandle;
use tokio_postgres::{
    AsyncMessage, SimpleQueryMessage,
    error::{DbError, Severity},
};

/// How a session behaves on the server: the limits of a good guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// `application_name`, so that an operator sees who it is; it replaces the connection string's.
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

    /// The statements that put them in force. Parallel workers would take more of the server than one session should.
    /// `search_path` is pinned so that no user object can shadow the catalog.
    pub(crate) fn as_sql(&self, version: Version) -> String {
        // Settings that older servers do not have: jit came with 11.
        // Who changes something may be silent for long between two statements: a backup, while files are read.
        let idle = if version.num() >= 140_000 && !self.read_only { "SET idle_session_timeout = 0; " } else { "" };
        let jit = if version.num() >= 110_000 { "SET jit = off; " } else { "" };
        format!(
            "SET application_name = {}; SET statement_timeout = {}; SET lock_timeout = {}; \
             SET idle_in_transaction_session_timeout = 60000; SET max_parallel_workers_per_gather = 0; \
             {jit}{idle}SET search_path = pg_catalog; \
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

/// The server did what it was asked for, or a part of it, and warned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The server's five-character code.
    pub sqlstate: String,
    pub message: String,
}

impl Warning {
    /// `None` for what is only a notice.
    fn of(notice: &DbError) -> Option<Self> {
        let warned = notice.parsed_severity() == Some(Severity::Warning);
        warned.then(|| Self { sqlstate: notice.code().code().to_owned(), message: notice.message().to_owned() })
    }
}

/// What is known about a session from the way it was opened.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub version: Version,
    pub tls: Option<TlsInfo>,
    pub backend_pid: u32,
    pub pooled: bool,
    pub in_recovery: bool,
    pub endpoint: Endpoint,
    pub address: Address,
    pub auth_method: AuthMethod,
}

/// An open session with one database of one instance.
#[derive(Debug)]
pub struct Session {
    /// Every query asked since the last [`Session::take_asked`].
    asked: Mutex<Vec<Asked>>,
    client: tokio_postgres::Client,
    /// Every warning since the last [`Session::take_warnings`].
    warnings: Arc<Mutex<Vec<Warning>>>,
    /// Drives the connection; ends when the client is dropped or the connection breaks.
    driver: JoinHandle<()>,
    /// Why the connection broke, if it did.
    broken: Arc<OnceLock<AskError>>,
    around: Surroundings,
}

impl Session {
    /// Starts to drive a connection that was let in.
    pub(crate) fn start(
        client: tokio_postgres::Client,
        connection: tokio_postgres::Connection<Wire, Wire>,
        around: Surroundings,
    ) -> Self {
        let broken = Arc::<OnceLock<AskError>>::default();
        let warnings = Arc::<Mutex<Vec<Warning>>>::default();
        let (reason, warned) = (broken.clone(), warnings.clone());
        let driver = tokio::spawn(async move {
            let mut connection = connection;
            while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
                match message {
                    // A warning comes before the answer that it belongs to.
                    Ok(AsyncMessage::Notice(notice)) => locked(&warned).extend(Warning::of(&notice)),
                    Ok(_) => {}
                    // The reason must be there before dropping the connection wakes those who wait for an answer.
                    Err(error) => {
                        let _ = reason.set(error.into());
                        break;
                    }
                }
            }
        });
        Self { asked: Mutex::default(), client, warnings, driver, broken, around }
    }

    pub(crate) fn client(&self) -> &tokio_postgres::Client {
        &self.client
    }

    pub(crate) fn around_mut(&mut self) -> &mut Surroundings {
        &mut self.around
    }

    /// The server's version.
    pub fn version(&self) -> Version {
        self.around.version
    }

    /// Is the session encrypted with TLS?
    pub fn encrypted(&self) -> bool {
        self.around.tls.is_some()
    }

    /// The encryption and the server's certificate; none without TLS.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.around.tls.as_ref()
    }

    /// The backend's process id on its host; none behind a pooler, which may change it with every transaction.
    pub fn backend_pid(&self) -> Option<u32> {
        (!self.around.pooled).then_some(self.around.backend_pid)
    }

    /// Is there a connection pooler in between?
    ///
    /// Seen by the process id that was announced when connecting, which is not the backend's own: PgBouncer, Odyssey,
    /// PgCat, RDS Proxy and others invent one. Pgpool-II hands the backend's own on and is not seen.
    pub fn pooled(&self) -> bool {
        self.around.pooled
    }

    /// Was the server a standby when the session was opened?
    pub fn in_recovery(&self) -> bool {
        self.around.in_recovery
    }

    /// Which of the target's hosts it is; [`crate::Target::at`] makes a target of it alone.
    pub fn endpoint(&self) -> &Endpoint {
        &self.around.endpoint
    }

    /// The address or socket that the session goes to.
    pub fn address(&self) -> &Address {
        &self.around.address
    }

    /// How the server wanted us to show who we are.
    pub fn auth_method(&self) -> AuthMethod {
        self.around.auth_method
    }

    /// Says goodbye and waits until the server has ended its side, so that the place is free for another session.
    pub async fn close(self) {
        let Self { client, mut driver, .. } = self;
        drop(client);
        // A server that does not take the message is none of our business any more.
        if tokio::time::timeout(Duration::from_secs(2), &mut driver).await.is_err() {
            driver.abort();
        }
    }

    /// The reason why the connection broke in place of "it is closed".
    fn explained(&self, error: AskError) -> AskError {
        match self.broken.get() {
            Some(reason) if error.kind == AskErrorKind::Closed && error.sqlstate.is_none() => reason.clone(),
            _ => error,
        }
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
        locked(&self.asked).push(asked);
        answer
    }

    /// May the role read a view of the catalog that shows what a function (without arguments) gives? Asking first keeps
    /// a refusal, which is an error there, out of the server's log.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub async fn may_read(&self, view: &str, function: &str) -> Result<bool, AskError> {
        let [view, function] = [view.to_owned(), format!("{function}()")].map(|name| crate::quote::literal(&name));
        let sql = format!(
            "SELECT has_table_privilege({view}, 'SELECT') AND has_function_privilege({function}, 'EXECUTE') AS may"
        );
        let rows = self.ask(&sql).await?;
        Ok(rows.first().and_then(|row| row.bool("may")).unwrap_or(false))
    }

    /// What was asked since the last call, in order.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut locked(&self.asked))
    }

    /// What the server warned of since the last call, in order.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut locked(&self.warnings))
    }

    async fn answer(&self, sql: &str) -> Result<Rows, AskError> {
        let mut columns = Vec::new();
        let mut values = Vec::new();
        for message in self.client.simple_query(sql).await.map_err(|error| self.explained(error.into()))? {
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
        self.client.batch_execute(sql).await.map_err(|error| self.explained(error.into()))
    }

    /// Changes the session's manners.
    ///
    /// # Errors
    /// As [`Session::ask`]; and through a pooler, where `SET` would stay behind in sessions of other clients.
    pub async fn behave(&self, manners: &Manners) -> Result<(), AskError> {
        if self.pooled() {
            return Err(AskError {
                kind: AskErrorKind::Server,
                sqlstate: None,
                message: "the session's settings cannot be changed through a connection pooler: \
                          they would stay behind for other clients"
                    .into(),
                detail: None,
                hint: None,
            });
        }
        self.run(&manners.as_sql(self.version())).await
    }
}

fn locked<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_servers_are_not_asked_for_what_they_do_not_know() {
        let sql = |num| Manners::looking().as_sql(Version::from_num(num));
        assert!(!sql(100_023).contains("jit") && sql(110_000).contains("SET jit = off"));
        let changing = |num| Manners::changing().as_sql(Version::from_num(num)).contains("idle_session_timeout = 0");
        assert!(!changing(130_023) && changing(140_000));
    }
}
