//! One private server for one test.

use crate::{certs::Certs, log, majors, run_dir::RunDir, template};
use std::{future::Future, path::Path, sync::Mutex, thread, time::Duration};
use surus_pg::{
    AskError, Manners, Programs, Rows, Session, Target,
    server::{InitOptions, LocalServer, Mode},
};

/// How long a server may take to start or be promoted on a busy machine.
pub(crate) const START_WITHIN: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 40;

/// A running PostgreSQL that belongs to one test. Dropping it stops it, reads its log and removes its directory.
#[derive(Debug)]
pub struct Server {
    // Field order is drop order: the server stops before its directory goes.
    local: LocalServer,
    run_dir: RunDir,
    expected: Mutex<Vec<String>>,
}

/// What kind of server a test needs.
#[derive(Debug, Clone)]
pub struct Builder {
    major: Option<u16>,
    settings: Vec<(String, String)>,
    small: bool,
    hba: Vec<String>,
    loopback: bool,
    /// Certificate, key and CA certificate, PEM.
    tls: Option<[String; 3]>,
    options: InitOptions,
}

impl Default for Builder {
    fn default() -> Self {
        let options = InitOptions { wal_segment_mib: 1, sync: false, ..InitOptions::default() };
        Self { major: None, settings: Vec::new(), small: true, hba: Vec::new(), loopback: false, tls: None, options }
    }
}

impl Builder {
    /// This major instead of the newest complete one.
    #[must_use]
    pub fn major(mut self, major: u16) -> Self {
        self.major = Some(major);
        self
    }

    /// A line for postgresql.conf.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Nothing in postgresql.conf but what initdb wrote and the socket: none of the small and fast settings that tests
    /// otherwise run with (fsync off, 16 MB shared_buffers, 30 connections), and WAL segments of 16 MB.
    #[must_use]
    pub fn untuned(mut self) -> Self {
        self.small = false;
        self.options.wal_segment_mib = InitOptions::default().wal_segment_mib;
        self
    }

    /// Autovacuum on (as by default) or off.
    #[must_use]
    pub fn autovacuum(self, on: bool) -> Self {
        self.setting("autovacuum", if on { "on" } else { "off" })
    }

    /// Lines of pg_hba.conf, in place of initdb's. Before them stand two `local … trust` lines for the superuser
    /// (ordinary and replication), so that the test itself can always get in.
    #[must_use]
    pub fn hba(mut self, lines: &str) -> Self {
        self.hba.extend(lines.lines().map(str::to_owned));
        self
    }

    /// Listen on 127.0.0.1 too; passwords (SCRAM) are asked for there unless [`Builder::hba`] says otherwise.
    /// PostgreSQL 13 makes SCRAM verifiers only with `password_encryption = 'scram-sha-256'`.
    #[must_use]
    pub fn tcp(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// TLS with these certificates, on 127.0.0.1; client certificates of the same CA are accepted.
    #[must_use]
    pub fn tls(mut self, certs: &Certs) -> Self {
        self.tls = Some([certs.server_cert_pem(), certs.server_key_pem(), certs.root_pem()].map(str::to_owned));
        self.tcp()
    }

    /// A further argument for initdb.
    #[must_use]
    pub fn initdb_arg(mut self, argument: &str) -> Self {
        self.options.extra_args.push(argument.to_owned());
        self
    }

    /// With or without data checksums (with, by default).
    #[must_use]
    pub fn checksums(mut self, on: bool) -> Self {
        self.options.checksums = on;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the major is not here or the server does not start; the message carries the log's end.
    pub fn start(self) -> Server {
        let programs = match self.major {
            Some(major) => majors::installed().iter().find(|programs| programs.major() == major),
            None => majors::preferred(),
        };
        let programs =
            programs.unwrap_or_else(|| panic!("PostgreSQL {:?} is not here (cargo xtask pg fetch)", self.major));
        let run_dir = RunDir::create();
        template::copy_to(programs, &self.options, run_dir.path());
        let mut local = ok(LocalServer::adopt(programs, run_dir.path(), &self.options.superuser));
        if self.small {
            ok(local.write_settings(SMALL));
        }
        if self.loopback {
            ok(local.listen_on_loopback());
        }
        if let Some(pem) = &self.tls {
            for (file, text) in ["server.crt", "server.key", "root.crt"].iter().zip(pem) {
                ok(local.write_private(&local.data_dir().join(file), text));
            }
            ok(local.write_settings(&[("ssl", "on"), ("ssl_ca_file", "root.crt")]));
        }
        ok(local.write_settings(&self.settings));
        ok(local.write_hba(&self.hba_text()));
        ok(local.start(START_WITHIN));
        Server::around(local, run_dir)
    }

    fn hba_text(&self) -> String {
        let own = ["local all postgres trust", "local replication postgres trust"].map(str::to_owned);
        let default = ["local all all trust", "host all all 127.0.0.1/32 scram-sha-256"].map(str::to_owned);
        let rest = if self.hba.is_empty() { &default[..] } else { &self.hba[..] };
        own.iter().chain(rest).map(|line| format!("{line}\n")).collect()
    }
}

const SMALL: &[(&str, &str)] = &[("fsync", "off"), ("shared_buffers", "16MB"), ("max_connections", "30")];

impl Server {
    /// A server of the newest complete major that is here, with the settings for tests.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// A server to be described.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn around(local: LocalServer, run_dir: RunDir) -> Self {
        Self { local, run_dir, expected: Mutex::default() }
    }

    /// The server control underneath: stop, restart, reload, promote, settings, paths.
    pub fn local(&self) -> &LocalServer {
        &self.local
    }

    /// As [`Server::local`], for what changes its state.
    pub fn local_mut(&mut self) -> &mut LocalServer {
        &mut self.local
    }

    /// Its programs, and so its version.
    pub fn programs(&self) -> &Programs {
        self.local.programs()
    }

    /// Its major version.
    pub fn major(&self) -> u16 {
        self.programs().major()
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        self.local.data_dir()
    }

    /// A connection string for the superuser through the Unix socket.
    pub fn dsn(&self, database: &str) -> String {
        self.local.dsn(self.local.superuser(), database)
    }

    /// A connection string with a password: through 127.0.0.1 if the server listens there, else through the socket.
    pub fn dsn_as(&self, user: &str, password: &str, database: &str) -> String {
        let dsn = if self.local.listens_on_loopback() {
            self.local.loopback_dsn(user, database)
        } else {
            self.local.dsn(user, database)
        };
        format!("{dsn} password='{}'", password.replace('\\', "\\\\").replace('\'', "\\'"))
    }

    /// Runs SQL in database postgres as the superuser, with the server's own settings (search_path, timeouts).
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn sql(&self, sql: &str) {
        self.query(sql);
    }

    /// As [`Server::sql`], in another database.
    pub fn sql_in(&self, database: &str, sql: &str) {
        self.query_in(database, sql);
    }

    /// The rows of the last statement that has any.
    ///
    /// # Panics
    /// When the server refuses it.
    pub fn query(&self, sql: &str) -> Rows {
        self.query_in("postgres", sql)
    }

    /// As [`Server::query`], in another database.
    pub fn query_in(&self, database: &str, sql: &str) -> Rows {
        self.try_query_in(database, sql).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// As [`Server::query_in`], for SQL that may be refused.
    ///
    /// # Errors
    /// What the server answered.
    ///
    /// # Panics
    /// When no connection can be made.
    pub fn try_query_in(&self, database: &str, sql: &str) -> Result<Rows, AskError> {
        let dsn = self.dsn(database);
        wait_for(async {
            let session = open(&dsn).await;
            let answer = session.ask(sql).await;
            // Whoever leaves before the server has said all after an error makes it complain in its log.
            session.close().await;
            answer
        })
    }

    /// The first column named `v` of the first row, e.g. of `SELECT count(*) AS v FROM t`; NULL is empty.
    ///
    /// # Panics
    /// When the server refuses it, or there is no row or no such column.
    pub fn value(&self, sql: &str) -> String {
        let rows = self.query(sql);
        rows.first().and_then(|row| row.text("v")).unwrap_or_else(|error| panic!("{error}\nin: {sql}"))
    }

    /// Makes a database.
    pub fn create_database(&self, name: &str) {
        self.sql(&format!("CREATE DATABASE {}", surus_pg::quote::ident(name)));
    }

    /// A session as product code has it.
    ///
    /// # Panics
    /// When no connection can be made.
    pub async fn session(&self, database: &str, manners: &Manners) -> Session {
        let target = Target::parse(&self.dsn(database)).unwrap_or_else(|error| panic!("{error}"));
        target.connect(manners).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Announces that log lines with this text are part of the test.
    pub fn expect_log(&self, text: &str) {
        self.expected.lock().expect("no test panics while it holds this").push(text.to_owned());
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        self.local.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let log = self.log();
        // A test that ends in the middle of the server's work must not fail for the server's complaint about it.
        let stopped = self.local.stop(Mode::Immediate);
        if thread::panicking() {
            eprintln!("{}'s log ends with:\n{}", self.run_dir.path().display(), log::tail(&log, LOG_TAIL_LINES));
            return;
        }
        let expected = self.expected.lock().expect("no test panics while it holds this");
        let unexpected = log::unexpected(&log, &expected);
        assert!(
            unexpected.is_empty(),
            "the server's log has lines that the test did not announce with expect_log:\n{}\nThe log ends with:\n{}",
            unexpected.join("\n"),
            log::tail(&log, LOG_TAIL_LINES)
        );
        stopped.expect("the server stops");
    }
}

async fn open(dsn: &str) -> Session {
    let manners = Manners { application_name: "testkit".into(), ..Manners::changing() };
    let target = Target::parse(dsn).unwrap_or_else(|error| panic!("{error}"));
    let session = target.connect(&manners).await.unwrap_or_else(|error| panic!("{error}\nto: {dsn}"));
    // The test wants the server's own behaviour, not surus's manners.
    session.run("RESET ALL").await.unwrap_or_else(|error| panic!("{error}"));
    session
}

/// Blocks on a future; on a thread of its own, so that it also works inside an async test.
fn wait_for<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime can be made").block_on(future)
    };
    thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(crate) fn ok<T>(result: Result<T, surus_pg::LocalError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
