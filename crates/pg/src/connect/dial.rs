//! Reaching a host: names become addresses, addresses become open sockets.

use crate::connect::{
    ConnectError,
    settings::{Endpoint, Keepalive},
    wire::Socket,
};
use rustix::net::sockopt;
use std::{
    fmt,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use surus_core::code;
use tokio::net::{TcpStream, UnixStream};

/// One place where a server may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Tcp(SocketAddr),
    /// The socket's own path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The addresses of an endpoint, in the order in which they are tried.
///
/// # Errors
/// `SURUS-C003` when the name cannot be resolved.
pub async fn addresses(endpoint: &Endpoint, defaults: &[PathBuf]) -> Result<Vec<Address>, ConnectError> {
    let port = endpoint.port;
    if let Some(address) = endpoint.hostaddr {
        return Ok(vec![Address::Tcp((address, port).into())]);
    }
    let socket = |directory: &Path| Address::Unix(directory.join(format!(".s.PGSQL.{port}")));
    let Some(host) = &endpoint.host else { return Ok(defaults.iter().map(|dir| socket(dir)).collect()) };
    if endpoint.is_local() {
        return Ok(vec![socket(Path::new(host))]);
    }
    let unresolved = |why: String| ConnectError::at(code::CONNECT_RESOLVE, endpoint, why);
    let found: Vec<_> = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|e| unresolved(format!("the host name \"{host}\" cannot be resolved: {e}")))?
        .map(Address::Tcp)
        .collect();
    if found.is_empty() {
        return Err(unresolved(format!("the host name \"{host}\" has no address")));
    }
    Ok(found)
}

/// Opens a socket.
///
/// # Errors
/// `SURUS-C004` to `C006` by cause.
pub(crate) async fn open(
    endpoint: &Endpoint,
    address: &Address,
    keepalive: Keepalive,
    peer: Option<&str>,
) -> Result<Socket, ConnectError> {
    let failed = |e: std::io::Error| unreachable_because(endpoint, address, &e);
    match address {
        Address::Tcp(to) => {
            let stream = TcpStream::connect(to).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            keep_alive(&stream, keepalive).map_err(|e| failed(e.into()))?;
            Ok(Socket::Tcp(stream))
        }
        Address::Unix(path) => {
            // As for libpq, "@" stands for the zero byte of a socket in the abstract name space.
            let name = path.to_str().and_then(|text| text.strip_prefix('@')).map(|rest| format!("\0{rest}"));
            let stream = match name {
                Some(name) => UnixStream::connect(name).await,
                None => UnixStream::connect(path).await,
            }
            .map_err(failed)?;
            if let Some(wanted) = peer {
                require_peer(endpoint, &stream, wanted)?;
            }
            Ok(Socket::Unix(stream))
        }
    }
}

fn keep_alive(stream: &TcpStream, keepalive: Keepalive) -> rustix::io::Result<()> {
    if keepalive.user_timeout_ms > 0 {
        sockopt::set_tcp_user_timeout(stream, keepalive.user_timeout_ms)?;
    }
    if !keepalive.on {
        return Ok(());
    }
    sockopt::set_socket_keepalive(stream, true)?;
    if !keepalive.idle.is_zero() {
        sockopt::set_tcp_keepidle(stream, keepalive.idle)?;
    }
    if !keepalive.interval.is_zero() {
        sockopt::set_tcp_keepintvl(stream, keepalive.interval)?;
    }
    if keepalive.count > 0 {
        sockopt::set_tcp_keepcnt(stream, keepalive.count)?;
    }
    Ok(())
}

/// `requirepeer`: the server process must belong to this user of the operating system.
fn require_peer(endpoint: &Endpoint, stream: &UnixStream, wanted: &str) -> Result<(), ConnectError> {
    let refused = |why: String| ConnectError::at(code::CONNECT_OTHER, endpoint, why);
    let uid = stream.peer_cred().map_err(|e| refused(format!("who the server is cannot be seen: {e}")))?.uid();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    match name {
        Some(name) if name == wanted => Ok(()),
        Some(name) => Err(refused(format!("requirepeer asks for \"{wanted}\", but the server runs as \"{name}\""))),
        None => Err(refused(format!("requirepeer asks for \"{wanted}\", but the server's user {uid} has no name"))),
    }
}

/// Why a socket could not be opened.
fn unreachable_because(endpoint: &Endpoint, address: &Address, error: &std::io::Error) -> ConnectError {
    let (code, why) = match (address, error.kind()) {
        (Address::Unix(_), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            (code::CONNECT_SOCKET, format!("there is no Unix socket {address}"))
        }
        (Address::Unix(_), ErrorKind::ConnectionRefused) => {
            (code::CONNECT_REFUSED, format!("no server listens on the Unix socket {address}, which a dead one left"))
        }
        (Address::Unix(_), ErrorKind::InvalidInput) => {
            (code::CONNECT_SOCKET, format!("the Unix socket's path {address} is too long"))
        }
        (Address::Unix(_), ErrorKind::PermissionDenied) => {
            (code::CONNECT_SOCKET, format!("the Unix socket {address} may not be used by this user: {error}"))
        }
        (Address::Tcp(_), ErrorKind::ConnectionRefused) => {
            (code::CONNECT_REFUSED, format!("nothing listens on {address} (connection refused)"))
        }
        (
            Address::Tcp(_),
            ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown,
        ) => (code::CONNECT_TIMEOUT, format!("{address} cannot be reached: {error}")),
        _ => (code::CONNECT_OTHER, format!("{address} cannot be reached: {error}")),
    };
    ConnectError::at(code, endpoint, why)
}
