//! Connection options as typed, checked values with libpq's defaults.

use crate::connect::{
    ConnectError,
    conninfo::Options,
    environment::Environment,
    tls_settings::{SslMode, TlsSettings},
    wire::RequiredAuth,
};
use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};
use surus_core::{code, secret::Secret};

/// PostgreSQL's port.
pub const DEFAULT_PORT: u16 = 5432;
/// How long one address may take to let us in when `connect_timeout` is not given. libpq waits for ever.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// One host of the connection string.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name, an address or a socket directory; none means the default socket directories.
    pub host: Option<String>,
    /// The address to use instead of resolving `host`.
    pub hostaddr: Option<IpAddr>,
    pub port: u16,
}

impl Endpoint {
    /// Is it reached over a Unix socket?
    pub fn is_local(&self) -> bool {
        self.hostaddr.is_none() && self.host.as_deref().is_none_or(is_directory)
    }

    /// The name that a certificate must be for.
    pub fn name(&self) -> Option<String> {
        self.host.clone().or_else(|| self.hostaddr.map(|address| address.to_string()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) if name.contains(':') => write!(f, "[{name}]:{}", self.port),
            Some(name) => write!(f, "{name}:{}", self.port),
            None => write!(f, "local:{}", self.port),
        }
    }
}

fn is_directory(host: &str) -> bool {
    host.starts_with(['/', '@'])
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionAttrs {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

/// The keepalive options of a TCP connection; zero durations and counts leave the system's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    pub on: bool,
    pub idle: Duration,
    pub interval: Duration,
    pub count: u32,
    pub user_timeout_ms: u32,
}

/// Everything that a connection attempt needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    pub endpoints: Vec<Endpoint>,
    pub user: String,
    pub database: String,
    pub password: Option<Secret>,
    pub passfile: Option<PathBuf>,
    /// For each address; none means no limit.
    pub connect_timeout: Option<Duration>,
    pub session_attrs: SessionAttrs,
    /// `load_balance_hosts=random`.
    pub shuffle: bool,
    pub channel_binding: ChannelBinding,
    pub require_auth: Option<RequiredAuth>,
    pub require_peer: Option<String>,
    /// Command-line options for the backend.
    pub options: Option<String>,
    pub application_name: String,
    pub keepalive: Keepalive,
    pub tls: TlsSettings,
}

impl Settings {
    /// Checks options and fills in the defaults.
    ///
    /// # Errors
    /// `SURUS-C025` names the option whose value is not possible.
    pub fn resolve(options: &Options, environment: &Environment) -> Result<Self, ConnectError> {
        refuse_unsupported(options)?;
        let Some(user) = options.non_empty("user").or_else(|| environment.user()) else {
            return Err(impossible("the operating system's user has no name; give user=…"));
        };
        let tls = TlsSettings::resolve(options, environment)?;
        let application_name = options
            .non_empty("application_name")
            .or_else(|| options.non_empty("fallback_application_name"))
            .unwrap_or("surus");
        Ok(Self {
            endpoints: endpoints(options)?,
            user: user.to_owned(),
            database: options.non_empty("dbname").unwrap_or(user).to_owned(),
            password: options.non_empty("password").map(Secret::new),
            passfile: options.non_empty("passfile").map(PathBuf::from).or_else(|| environment.in_home(".pgpass")),
            connect_timeout: connect_timeout(options)?,
            session_attrs: choice(options, "target_session_attrs", SESSION_ATTRS, SessionAttrs::Any)?,
            shuffle: choice(options, "load_balance_hosts", &[("disable", false), ("random", true)], false)?,
            channel_binding: choice(options, "channel_binding", CHANNEL_BINDING, ChannelBinding::Prefer)?,
            require_auth: options.non_empty("require_auth").map(RequiredAuth::parse).transpose()?,
            require_peer: options.non_empty("requirepeer").map(str::to_owned),
            options: options.non_empty("options").map(str::to_owned),
            application_name: application_name.to_owned(),
            keepalive: keepalive(options)?,
            tls,
        })
    }

    /// Is the connection to this endpoint ever tried with TLS?
    pub fn may_use_tls(&self, endpoint: &Endpoint) -> bool {
        !endpoint.is_local() && self.tls.mode != SslMode::Disable
    }
}

const SESSION_ATTRS: &[(&str, SessionAttrs)] = &[
    ("any", SessionAttrs::Any),
    ("read-write", SessionAttrs::ReadWrite),
    ("read-only", SessionAttrs::ReadOnly),
    ("primary", SessionAttrs::Primary),
    ("standby", SessionAttrs::Standby),
    ("prefer-standby", SessionAttrs::PreferStandby),
];

const CHANNEL_BINDING: &[(&str, ChannelBinding)] =
    &[("disable", ChannelBinding::Disable), ("prefer", ChannelBinding::Prefer), ("require", ChannelBinding::Require)];

pub(crate) fn impossible(message: impl Into<String>) -> ConnectError {
    ConnectError::new(code::CONNECT_OPTION, message)
}

/// An option that has one of a few values; an empty one means the default.
pub(crate) fn choice<T: Copy>(
    options: &Options,
    name: &str,
    values: &[(&str, T)],
    default: T,
) -> Result<T, ConnectError> {
    let Some(given) = options.non_empty(name) else { return Ok(default) };
    values.iter().find(|(value, _)| *value == given).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let known: Vec<_> = values.iter().map(|(value, _)| *value).collect();
        impossible(format!("the option {name} cannot be \"{given}\"; it is one of {}", known.join(", ")))
    })
}

/// An option that is a whole number; an empty one counts as not given.
fn number<T: FromStr>(options: &Options, name: &str) -> Result<Option<T>, ConnectError> {
    let Some(given) = options.non_empty(name) else { return Ok(None) };
    given
        .trim()
        .parse()
        .map(Some)
        .map_err(|_| impossible(format!("the option {name} must be a whole number in range, not \"{given}\"")))
}

fn connect_timeout(options: &Options) -> Result<Option<Duration>, ConnectError> {
    Ok(match number::<i64>(options, "connect_timeout")? {
        None => Some(DEFAULT_TIMEOUT),
        // As for libpq: zero and negative mean to wait for ever.
        Some(given) => u64::try_from(given).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs),
    })
}

fn keepalive(options: &Options) -> Result<Keepalive, ConnectError> {
    let seconds = |name| Ok(Duration::from_secs(number::<u32>(options, name)?.unwrap_or(0).into()));
    Ok(Keepalive {
        on: number::<i32>(options, "keepalives")?.unwrap_or(1) != 0,
        idle: seconds("keepalives_idle")?,
        interval: seconds("keepalives_interval")?,
        count: number(options, "keepalives_count")?.unwrap_or(0),
        user_timeout_ms: number(options, "tcp_user_timeout")?.unwrap_or(0),
    })
}

/// The hosts: `host`, `hostaddr` and `port` are lists of the same length; a single port is everybody's.
fn endpoints(options: &Options) -> Result<Vec<Endpoint>, ConnectError> {
    let list = |name| options.non_empty(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port").unwrap_or_default());
    let count = addresses.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
    if let Some(hosts) = &hosts
        && hosts.len() != count
    {
        return Err(impossible(format!("{} host names do not match {count} hostaddr values", hosts.len())));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(impossible(format!("{} ports do not match {count} hosts", ports.len())));
    }
    (0..count)
        .map(|at| {
            let port = ports.get(at).or(if ports.len() == 1 { ports.first() } else { None });
            let hostaddr = addresses.as_ref().map_or("", |all| all[at]);
            Ok(Endpoint {
                host: hosts.as_ref().map(|all| all[at]).filter(|host| !host.is_empty()).map(str::to_owned),
                hostaddr: (!hostaddr.is_empty()).then(|| address(hostaddr)).transpose()?,
                port: port.filter(|text| !text.is_empty()).map_or(Ok(DEFAULT_PORT), |text| self::port(text))?,
            })
        })
        .collect()
}

fn address(text: &str) -> Result<IpAddr, ConnectError> {
    text.parse().map_err(|_| impossible(format!("the option hostaddr must be a network address, not \"{text}\"")))
}

fn port(text: &str) -> Result<u16, ConnectError> {
    text.parse::<u16>()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| impossible(format!("the option port must be a number from 1 to 65535, not \"{text}\"")))
}

/// Options that would change what is spoken on the wire in a way that surus does not speak.
fn refuse_unsupported(options: &Options) -> Result<(), ConnectError> {
    choice(options, "gssencmode", &[("disable", ()), ("prefer", ()), ("allow", ()), ("require", ())], ())?;
    if options.get("gssencmode") == Some("require") {
        return Err(impossible("gssencmode=require is not possible: surus does not speak GSSAPI; use sslmode"));
    }
    for name in ["scram_client_key", "scram_server_key", "sslkeylogfile"] {
        if options.non_empty(name).is_some() {
            return Err(impossible(format!("the option {name} is not supported by surus")));
        }
    }
    let replication = options.non_empty("replication").unwrap_or("false");
    if !matches!(replication, "false" | "off" | "no" | "0") {
        return Err(impossible("the option replication is not supported here: surus opens an ordinary session"));
    }
    let oldest = options.non_empty("min_protocol_version").unwrap_or("3.0");
    if !matches!(oldest, "3.0") {
        return Err(impossible(format!("min_protocol_version={oldest} is not possible: surus speaks protocol 3.0")));
    }
    Ok(())
}
