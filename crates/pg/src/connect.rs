//! Opening a session as libpq does: where to, in which order, with or without TLS, and what is on the other side.
//!
//! Source: PostgreSQL documentation, 34.1 "Database Connection Control Functions", and `PQconnectPoll` in
//! `fe-connect.c`.

pub mod certificate;
pub mod conninfo;
pub mod dial;
pub mod environment;
pub mod passfile;
pub(crate) mod refusal;
pub mod service;
pub mod settings;
pub mod tls;
pub mod tls_settings;
pub mod trust;
pub mod wire;

use self::{
    conninfo::{KEYWORDS, Options},
    dial::Address,
    environment::Environment,
    passfile::Found,
    refusal::{Circumstances, PasswordOrigin},
    settings::{ChannelBinding, Endpoint, SessionAttrs, Settings},
    tls::TlsInfo,
    tls_settings::SslMode,
    wire::{AuthMethod, Carrier, InPlace, Socket, Wire},
};
use crate::{
    ask::{AskError, AskErrorKind},
    rows::RowError,
    session::{Manners, Session, Surroundings},
};
use std::time::Duration;
use surus_core::{
    code::{self, Code},
    secret::Secret,
    version::Version,
};
use tokio::io::AsyncReadExt;

/// Where to connect, fully resolved: connection string, environment and service file merged and checked.
#[derive(Debug, Clone)]
pub struct Target {
    options: Options,
    environment: Environment,
    settings: Settings,
}

/// A session could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConnectError {
    pub code: Code,
    /// What was not done and why; never a password.
    pub message: String,
    /// The server's five-character code, when it was the server that refused.
    pub sqlstate: Option<String>,
    /// The host and port that it is about, when it is about one.
    pub host: Option<String>,
    /// The server's routine that refused; unlike the message it is never translated.
    pub routine: Option<String>,
}

impl ConnectError {
    /// An error that is about no host.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), sqlstate: None, host: None, routine: None }
    }

    /// An error that is about one host.
    pub(crate) fn at(code: Code, endpoint: &Endpoint, why: String) -> Self {
        let host = endpoint.to_string();
        Self {
            code,
            message: format!("cannot connect to {host}: {why}"),
            sqlstate: None,
            host: Some(host),
            routine: None,
        }
    }
}

/// A failed attempt and whether libpq would try on.
pub(crate) struct Failure {
    pub error: ConnectError,
    /// Try the same address the other way: with TLS, or without.
    pub other_way: bool,
    /// Try the next address or host.
    pub next_host: bool,
}

impl Failure {
    pub(crate) fn final_one(error: ConnectError) -> Self {
        Self { error, other_way: false, next_host: false }
    }
    pub(crate) fn of_host(error: ConnectError) -> Self {
        Self { error, other_way: false, next_host: true }
    }
    fn of_way(error: ConnectError) -> Self {
        Self { error, other_way: true, next_host: false }
    }
}

/// What is opened over a socket: an ordinary session, or a connection for replication.
pub(crate) trait Opening: Sync {
    type Opened: Send;

    /// The database's name by which password files know the connection; `named` is the target's.
    fn database<'a>(&self, named: &'a str) -> &'a str;

    /// Says who we are, and sees to it that the server is of the wanted kind.
    fn open(
        &self,
        reached: Reached<'_>,
        wanted: SessionAttrs,
    ) -> impl Future<Output = Result<Self::Opened, Failure>> + Send;
}

/// A server that was reached, with TLS where that is the way, before the first word is said.
pub(crate) struct Reached<'a> {
    pub target: &'a Target,
    pub endpoint: &'a Endpoint,
    pub address: &'a Address,
    pub wire: Wire,
    pub tls: Option<TlsInfo>,
    pub password: Option<Secret>,
    pub origin: PasswordOrigin,
}

/// How an address is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    /// TLS if the server offers it.
    Offered,
    Tls,
}

impl Target {
    /// Resolves a connection string as libpq does, with this process's environment.
    ///
    /// # Errors
    /// When the string, the service file or an option is not valid.
    pub fn parse(dsn: &str) -> Result<Self, ConnectError> {
        Self::parse_in(dsn, &Environment::read())
    }

    /// As [`Target::parse`], in a given environment.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn parse_in(dsn: &str, environment: &Environment) -> Result<Self, ConnectError> {
        let mut options = conninfo::parse(dsn)?;
        let service = options.non_empty("service").or_else(|| environment.variable("PGSERVICE"));
        if let Some(name) = service.filter(|name| !name.is_empty()) {
            let defined = service::lookup(name, options.non_empty("servicefile"), environment)?;
            options.fill_from(&defined);
        }
        let mut variables = Options::default();
        for keyword in KEYWORDS {
            if let Some(value) = keyword.variable.and_then(|name| environment.variable(name)) {
                variables.set(keyword.name, value)?;
            }
        }
        if variables.get("sslmode").is_none()
            && environment.variable("PGREQUIRESSL").is_some_and(|v| v.starts_with('1'))
        {
            variables.set("sslmode", "require")?;
        }
        options.fill_from(&variables);
        let settings = Settings::resolve(&options, environment)?;
        Ok(Self { options, environment: environment.clone(), settings })
    }

    /// The same server, another database.
    #[must_use]
    pub fn with_database(&self, database: &str) -> Self {
        let mut other = self.clone();
        database.clone_into(&mut other.settings.database);
        // The keyword is known; were it not, the settings above would still count.
        let _ = other.options.set("dbname", database);
        other
    }

    /// The same target with some options changed.
    ///
    /// # Errors
    /// When an option or the values together are not possible.
    pub fn with_options(&self, changes: &[(&str, &str)]) -> Result<Self, ConnectError> {
        let mut options = self.options.clone();
        for (keyword, value) in changes {
            options.set(keyword, *value)?;
        }
        let mut settings = Settings::resolve(&options, &self.environment)?;
        // Narrowing by `at` is kept, unless the hosts themselves are changed.
        if !changes.iter().any(|(keyword, _)| matches!(*keyword, "host" | "hostaddr" | "port")) {
            settings.endpoints.clone_from(&self.settings.endpoints);
        }
        Ok(Self { options, environment: self.environment.clone(), settings })
    }

    /// The same target, but this one of its hosts only.
    #[must_use]
    pub fn at(&self, endpoint: &Endpoint) -> Self {
        let mut other = self.clone();
        other.settings.endpoints = vec![endpoint.clone()];
        other
    }

    /// The checked settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The role that it connects as.
    pub fn user(&self) -> &str {
        &self.settings.user
    }

    /// The database that it connects to.
    pub fn database(&self) -> &str {
        &self.settings.database
    }

    /// A connection string without password by which the same server can be found again later, from the ledger for
    /// `surus undo`: hosts, ports, user, database and TLS options.
    pub fn reference(&self) -> String {
        let left_out = |name: &str| matches!(name, "service" | "servicefile" | "application_name" | "options");
        let mut parts = Vec::new();
        for keyword in KEYWORDS.iter().filter(|keyword| !keyword.secret && !left_out(keyword.name)) {
            let value = match keyword.name {
                "user" => Some(self.user()),
                "dbname" => Some(self.database()),
                name => self.options.non_empty(name),
            };
            if let Some(value) = value {
                parts.push(format!("{}='{}'", keyword.name, value.replace('\\', "\\\\").replace('\'', "\\'")));
            }
        }
        parts.join(" ")
    }

    /// How to name it to people: `user@host:port/database`, never a password.
    pub fn label(&self) -> String {
        let hosts: Vec<_> = self.settings.endpoints.iter().map(|endpoint| self.shown(endpoint).to_string()).collect();
        format!("{}@{}/{}", self.settings.user, hosts.join(","), self.settings.database)
    }

    /// The endpoint with the default socket directory in place of nothing.
    pub(crate) fn shown(&self, endpoint: &Endpoint) -> Endpoint {
        let mut shown = endpoint.clone();
        if shown.name().is_none() {
            shown.host = self.environment.socket_directories().first().map(|dir| dir.display().to_string());
        }
        shown
    }

    /// Opens a session.
    ///
    /// The hosts are tried in order; the first that lets us in and is of the wanted kind is taken. A refusal of the
    /// user or password ends the search, as for libpq. Through a pooler the session is opened without `manners`,
    /// because `SET` would change the sessions of other clients; see [`Session::pooled`].
    ///
    /// # Errors
    /// Each cause has its own code; see [`surus_core::code`].
    pub async fn connect(&self, manners: &Manners) -> Result<Session, ConnectError> {
        self.open(&Ordinary { manners }).await
    }

    /// Tries the hosts in order.
    pub(crate) async fn open<O: Opening>(&self, opening: &O) -> Result<O::Opened, ConnectError> {
        let passes: &[SessionAttrs] = match self.settings.session_attrs {
            SessionAttrs::PreferStandby => &[SessionAttrs::Standby, SessionAttrs::Any],
            ref other => std::slice::from_ref(other),
        };
        let mut failures = Vec::new();
        for wanted in passes {
            failures.clear();
            for endpoint in self.in_order(&self.settings.endpoints) {
                match self.try_endpoint(&endpoint, *wanted, opening).await {
                    Ok(opened) => return Ok(opened),
                    Err(failure) if failure.next_host => failures.push(failure.error),
                    Err(failure) => return Err(failure.error),
                }
            }
        }
        Err(summed_up(failures))
    }

    /// As they stand, or shuffled when `load_balance_hosts=random`.
    fn in_order<T: Clone>(&self, all: &[T]) -> Vec<T> {
        let mut all = all.to_vec();
        if self.settings.shuffle {
            shuffle(&mut all);
        }
        all
    }

    async fn try_endpoint<O: Opening>(
        &self,
        endpoint: &Endpoint,
        wanted: SessionAttrs,
        opening: &O,
    ) -> Result<O::Opened, Failure> {
        let limit = self.settings.connect_timeout;
        let addresses = within(limit, endpoint, dial::addresses(endpoint, self.environment.socket_directories()))
            .await
            .flatten()
            .map_err(Failure::of_host)?;
        let mut failures: Vec<ConnectError> = Vec::new();
        for address in self.in_order(&addresses) {
            let attempt = self.try_address(endpoint, &address, wanted, opening);
            match within(limit, endpoint, attempt).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(failure)) if !failure.next_host => return Err(failure),
                Ok(Err(Failure { error, .. })) | Err(error) => failures.push(error),
            }
        }
        Err(Failure::of_host(summed_up(failures)))
    }

    /// Tries one address with and without TLS as `sslmode` says.
    async fn try_address<O: Opening>(
        &self,
        endpoint: &Endpoint,
        address: &Address,
        wanted: SessionAttrs,
        opening: &O,
    ) -> Result<O::Opened, Failure> {
        let ways: &[Way] = match self.settings.tls.mode {
            _ if !self.settings.may_use_tls(endpoint) => &[Way::Plain],
            SslMode::Disable => &[Way::Plain],
            SslMode::Allow => &[Way::Plain, Way::Tls],
            SslMode::Prefer => &[Way::Offered, Way::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Tls],
        };
        let mut first: Option<ConnectError> = None;
        for (at, way) in ways.iter().enumerate() {
            let failure = match self.try_way(endpoint, address, *way, wanted, opening).await {
                Ok(opened) => return Ok(opened),
                Err(failure) => failure,
            };
            match first.take() {
                None if failure.other_way && at + 1 < ways.len() => first = Some(failure.error),
                None => return Err(failure),
                Some(earlier) => return Err(Failure { error: both(earlier, failure.error), ..failure }),
            }
        }
        Err(Failure::final_one(summed_up(first.into_iter().collect())))
    }

    async fn try_way<O: Opening>(
        &self,
        endpoint: &Endpoint,
        address: &Address,
        way: Way,
        wanted: SessionAttrs,
        opening: &O,
    ) -> Result<O::Opened, Failure> {
        let settings = &self.settings;
        let socket = dial::open(endpoint, address, settings.keepalive, settings.require_peer.as_deref())
            .await
            .map_err(Failure::of_host)?;
        let (wire, tls) = self.wired(endpoint, socket, way).await?;
        let (password, origin) = self.password(endpoint, opening.database(&settings.database));
        opening.open(Reached { target: self, endpoint, address, wire, tls, password, origin }, wanted).await
    }

    /// Puts TLS on a socket if that is the way.
    async fn wired(&self, endpoint: &Endpoint, socket: Socket, way: Way) -> Result<(Wire, Option<TlsInfo>), Failure> {
        let required = self.settings.require_auth.clone();
        let tried = match way {
            Way::Plain => Ok(tls::Negotiated::Plain(socket)),
            Way::Offered | Way::Tls => tls::negotiate(socket, endpoint, &self.settings.tls).await,
        };
        match tried.map_err(Failure::of_way)? {
            tls::Negotiated::Plain(_) if way == Way::Tls => Err(Failure::of_way(ConnectError::at(
                code::CONNECT_NO_TLS,
                endpoint,
                format!("the server does not offer TLS and sslmode={} asks for it", self.settings.tls.mode.as_str()),
            ))),
            tls::Negotiated::Plain(socket) => Ok((Wire::new(Carrier::Plain(socket), None, required), None)),
            tls::Negotiated::Tls(stream, info) => {
                let end_point = info.end_point_hash.clone();
                Ok((Wire::new(Carrier::Tls(stream), end_point, required), Some(*info)))
            }
        }
    }

    /// The password for a host, and where it comes from.
    fn password(&self, endpoint: &Endpoint, database: &str) -> (Option<Secret>, PasswordOrigin) {
        let settings = &self.settings;
        if let Some(password) = &settings.password {
            return (Some(password.clone()), PasswordOrigin::Given);
        }
        let Some(file) = &settings.passfile else { return (None, PasswordOrigin::Missing(None)) };
        let defaults = self.environment.socket_directories();
        let host = match endpoint.name() {
            Some(name) if !defaults.iter().any(|directory| directory.as_os_str() == name.as_str()) => name,
            _ => "localhost".to_owned(),
        };
        let key = passfile::Key { host: &host, port: endpoint.port, database, user: &settings.user };
        match passfile::lookup(file, key) {
            Found::Password(password) => (Some(password), PasswordOrigin::File(file.clone())),
            Found::Nothing => (None, PasswordOrigin::Missing(None)),
            Found::Ignored(why) => (None, PasswordOrigin::Missing(Some(why))),
        }
    }

    /// The startup message's contents.
    fn startup(&self, password: Option<&Secret>, encrypted: bool) -> tokio_postgres::Config {
        let settings = &self.settings;
        let mut config = tokio_postgres::Config::new();
        config.user(&settings.user).dbname(&settings.database).application_name(&settings.application_name);
        if let Some(options) = &settings.options {
            config.options(options);
        }
        if let Some(password) = password {
            config.password(password.reveal());
        }
        config.channel_binding(match settings.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
        // TLS is negotiated before; "direct" keeps the protocol from asking for it once more.
        if encrypted {
            config.ssl_mode(tokio_postgres::config::SslMode::Require);
            config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
        } else {
            config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        }
        config
    }
}

/// How an ordinary session is opened.
struct Ordinary<'a> {
    manners: &'a Manners,
}

impl Opening for Ordinary<'_> {
    type Opened = Session;

    fn database<'a>(&self, named: &'a str) -> &'a str {
        named
    }

    async fn open(&self, reached: Reached<'_>, wanted: SessionAttrs) -> Result<Session, Failure> {
        let Reached { target, endpoint, address, wire, tls, password, origin } = reached;
        let heard = wire.heard();
        let config = target.startup(password.as_ref(), tls.is_some());
        let case = Circumstances {
            endpoint,
            user: &target.settings.user,
            password: &origin,
            binding_required: target.settings.channel_binding == ChannelBinding::Require,
        };
        let (client, connection) =
            config.connect_raw(wire, InPlace).await.map_err(|error| refusal::failure(error.into(), case))?;
        let version = connection.parameter("server_version").unwrap_or_default().to_owned();
        let around = Surroundings {
            version: Version::from_text(&version).unwrap_or(Version::from_num(0)),
            tls,
            backend_pid: 0,
            pooled: false,
            in_recovery: false,
            endpoint: target.shown(endpoint),
            address: address.clone(),
            auth_method: heard.method().unwrap_or(AuthMethod::None),
        };
        let session = Session::start(client, connection, around);
        if version.contains("bouncer") {
            let why = format!("this is PgBouncer's own console (version {version})");
            return Err(Failure::final_one(ConnectError::at(code::CONNECT_POOLER, endpoint, why)));
        }
        settle(session, endpoint, wanted, self.manners).await
    }
}

/// Looks who is there, and takes on good manners.
async fn settle(
    mut session: Session,
    endpoint: &Endpoint,
    wanted: SessionAttrs,
    manners: &Manners,
) -> Result<Session, Failure> {
    let announced = announced_pid(session.client()).await;
    let seen = look_around(&session).await.map_err(|error| Failure::final_one(not_like_postgres(endpoint, &error)))?;
    let around = session.around_mut();
    around.backend_pid = seen.pid;
    around.pooled = announced.is_some_and(|announced| announced != seen.pid);
    around.in_recovery = seen.in_recovery;
    if let Some(why) = unwanted(wanted, &seen) {
        return Err(Failure::of_host(ConnectError::at(code::CONNECT_SESSION_ATTRS, endpoint, why.to_owned())));
    }
    if !session.pooled() {
        session.behave(manners).await.map_err(|error| {
            let why = format!("the server refuses the session's settings: {}", error.message);
            let mut failure = ConnectError::at(code::CONNECT_OTHER, endpoint, why);
            failure.sqlstate = error.sqlstate;
            Failure::final_one(failure)
        })?;
    }
    Ok(session)
}

/// What a session finds on the other side.
pub(crate) struct Seen {
    pub pid: u32,
    pub in_recovery: bool,
    pub read_only: bool,
}

/// One query that every PostgreSQL since 9.0 answers.
async fn look_around(session: &Session) -> Result<Seen, AskError> {
    let rows = session
        .ask(
            "SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.pg_is_in_recovery() AS in_recovery, \
             pg_catalog.current_setting('transaction_read_only') AS read_only",
        )
        .await?;
    let strange = |error: RowError| AskError {
        kind: AskErrorKind::Undefined,
        sqlstate: None,
        message: error.to_string(),
        detail: None,
        hint: None,
    };
    let row = rows.first().map_err(strange)?;
    Ok(Seen {
        pid: row.i64("pid").map_err(strange)?.try_into().unwrap_or(0),
        in_recovery: row.bool("in_recovery").map_err(strange)?,
        read_only: row.str("read_only").map_err(strange)? == "on",
    })
}

/// The error when that query is not answered.
fn not_like_postgres(endpoint: &Endpoint, error: &AskError) -> ConnectError {
    let code = match error.kind {
        AskErrorKind::Closed => code::CONNECT_CLOSED,
        AskErrorKind::Undefined => code::CONNECT_NOT_POSTGRES,
        _ if error.message.contains("not allowed") => code::CONNECT_POOLER,
        _ => code::CONNECT_OTHER,
    };
    let mut failure = ConnectError::at(
        code,
        endpoint,
        format!("the session was opened, but its first query failed: {}", error.message),
    );
    failure.sqlstate.clone_from(&error.sqlstate);
    failure
}

/// Why this server is not of the wanted kind.
pub(crate) fn unwanted(wanted: SessionAttrs, seen: &Seen) -> Option<&'static str> {
    match wanted {
        SessionAttrs::ReadWrite if seen.read_only => Some("the session is read-only"),
        SessionAttrs::ReadOnly if !seen.read_only => Some("the session is not read-only"),
        SessionAttrs::Primary if seen.in_recovery => Some("the server is a standby"),
        SessionAttrs::Standby if !seen.in_recovery => Some("the server is not a standby"),
        _ => None,
    }
}

/// The process id that the server announced in `BackendKeyData`.
///
/// The client keeps it to itself, but writes it into every cancel request: one is written into a socket pair that
/// leads back here, so nothing is sent and nothing is cancelled. Behind a pooler this is the pooler's invention.
async fn announced_pid(client: &tokio_postgres::Client) -> Option<u32> {
    let (ours, mut theirs) = tokio::net::UnixStream::pair().ok()?;
    let wire = Wire::new(Carrier::Plain(Socket::Unix(ours)), None, None);
    let token = client.cancel_token();
    // Hangs up as soon as it has been told, as a server does.
    let told = async move {
        let mut request = [0; 16];
        theirs.read_exact(&mut request).await.ok().map(|_| request)
    };
    let (sent, request) = futures_util::future::join(token.cancel_query_raw(wire, InPlace), told).await;
    sent.ok()?;
    let request = request?;
    // Length 16, then the request's number; source: documentation 53.7, CancelRequest.
    if request[..8] != [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e] {
        return None;
    }
    Some(u32::from_be_bytes([request[8], request[9], request[10], request[11]]))
}

/// Limits how long something may take.
async fn within<T>(
    limit: Option<Duration>,
    endpoint: &Endpoint,
    work: impl Future<Output = T>,
) -> Result<T, ConnectError> {
    let Some(limit) = limit else { return Ok(work.await) };
    tokio::time::timeout(limit, work).await.map_err(|_| {
        ConnectError::at(code::CONNECT_TIMEOUT, endpoint, format!("no answer within {} s", limit.as_secs()))
    })
}

/// One error for all hosts that were tried.
fn summed_up(failures: Vec<ConnectError>) -> ConnectError {
    let mut failures = failures;
    // Servers that answered but are of the wrong kind tell more than those that did not.
    let telling = failures.iter().position(|failure| failure.code == code::CONNECT_SESSION_ATTRS).unwrap_or(0);
    if failures.len() < 2 {
        return failures.pop().unwrap_or_else(|| ConnectError::new(code::BUG, "no host was tried"));
    }
    let mut messages: Vec<_> = failures.iter().map(|failure| failure.message.clone()).collect();
    messages.dedup();
    ConnectError { message: messages.join("; "), ..failures.swap_remove(telling) }
}

/// One error for the two ways, TLS and plaintext, of an address. The one that says more than "pg_hba.conf does not
/// admit this way" counts: it was met on the way that the server admits.
fn both(first: ConnectError, second: ConnectError) -> ConnectError {
    if first.message == second.message {
        return first;
    }
    let message = format!("{}; and tried the other way: {}", first.message, second.message);
    let weak = |error: &ConnectError| matches!(error.code, code::CONNECT_HBA | code::CONNECT_NO_TLS);
    if weak(&first) && !weak(&second) { ConnectError { message, ..second } } else { ConnectError { message, ..first } }
}

/// Fisher and Yates's shuffle, with randomness from the cryptographic library.
fn shuffle<T>(all: &mut [T]) {
    for at in (1..all.len()).rev() {
        let mut bytes = [0; 8];
        if aws_lc_rs::rand::fill(&mut bytes).is_err() {
            return;
        }
        // The modulo's bias over lists of hosts is below 2^-50.
        let with = u64::from_le_bytes(bytes) % (at as u64 + 1);
        all.swap(at, usize::try_from(with).unwrap_or(at));
    }
}
