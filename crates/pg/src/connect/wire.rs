//! The byte stream below a session: a TCP or Unix socket, with or without TLS, and an ear on the server's first answer.
//!
//! The ear tells PostgreSQL from other programs before anything waits for bytes that will never come, notes which
//! authentication the server asks for, and keeps `require_auth` before a password leaves the process.

use crate::connect::{ConnectError, settings::impossible};
use std::{
    fmt,
    io::{self, ErrorKind},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Sleep,
};

/// How a server wants a client to show who he is; the names are those of `require_auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// Nothing is asked: `trust`, `peer`, or a client certificate.
    None,
    /// The password itself.
    Password,
    Md5,
    Gss,
    Sspi,
    /// A SASL mechanism: SCRAM-SHA-256, or OAuth.
    Scram,
    /// A number that this program does not know.
    Other(i32),
}

impl AuthMethod {
    /// Source: PostgreSQL documentation, 53.7 "Message Formats", Authentication*.
    fn from_request(number: i32) -> Self {
        match number {
            0 => Self::None,
            3 => Self::Password,
            5 => Self::Md5,
            7 => Self::Gss,
            9 => Self::Sspi,
            10 => Self::Scram,
            other => Self::Other(other),
        }
    }

    /// Its name in `require_auth`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Gss => "gss",
            Self::Sspi => "sspi",
            Self::Scram => "scram-sha-256",
            Self::Other(2) => "krb5",
            Self::Other(_) => "unknown",
        }
    }
}

/// `require_auth`: the methods that the server may ask for, or may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredAuth {
    methods: Vec<String>,
    negated: bool,
}

impl RequiredAuth {
    /// Reads a list such as `scram-sha-256,none` or `!password,!md5`.
    ///
    /// # Errors
    /// `SURUS-C025` for an unknown method or a mixed list.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        const KNOWN: [&str; 7] = ["password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none"];
        let entries: Vec<&str> = text.split(',').map(str::trim).collect();
        let negated = entries.iter().filter(|entry| entry.starts_with('!')).count();
        if negated != 0 && negated != entries.len() {
            return Err(impossible("require_auth cannot mix methods with and without \"!\""));
        }
        let methods: Vec<String> = entries.iter().map(|entry| entry.trim_start_matches('!').to_owned()).collect();
        if let Some(unknown) = methods.iter().find(|method| !KNOWN.contains(&method.as_str())) {
            return Err(impossible(format!("require_auth does not know the method \"{unknown}\"")));
        }
        Ok(Self { methods, negated: negated != 0 })
    }

    fn admits(&self, method: AuthMethod) -> bool {
        self.methods.iter().any(|known| known == method.as_str()) != self.negated
    }
}

/// The first bytes are not those of a PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotPostgres {
    /// The beginning of what came, made printable.
    pub seen: String,
}

impl NotPostgres {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self { seen: bytes[..bytes.len().min(24)].escape_ascii().to_string() }
    }
}

impl fmt::Display for NotPostgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer begins with \"{}\", which is not PostgreSQL's protocol", self.seen)
    }
}

impl std::error::Error for NotPostgres {}

/// The server asked for an authentication that `require_auth` does not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AuthNotAdmitted(pub AuthMethod);

impl fmt::Display for AuthNotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server asks for authentication by \"{}\", which require_auth does not admit", self.0.as_str())
    }
}

impl std::error::Error for AuthNotAdmitted {}

/// A socket without TLS.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What the server said first; shared with whoever opened the connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard(Arc<OnceLock<AuthMethod>>);

impl Heard {
    /// The authentication that the server asked for, once it has.
    pub(crate) fn method(&self) -> Option<AuthMethod> {
        self.0.get().copied()
    }
}

/// What carries the bytes.
#[derive(Debug)]
pub(crate) enum Carrier {
    Plain(Socket),
    Tls(Box<tokio_rustls::client::TlsStream<Socket>>),
}

/// The stream that is handed to the protocol.
#[derive(Debug)]
pub(crate) struct Wire {
    carrier: Carrier,
    /// The hash of the server's certificate for channel binding.
    pub(crate) end_point: Option<Vec<u8>>,
    required: Option<RequiredAuth>,
    heard: Heard,
    /// What was read ahead and where the reader is in it.
    held: Vec<u8>,
    given: usize,
    judged: bool,
    /// The server takes no more; what it said before is still to be read.
    deaf: bool,
    /// Runs while we wait for the server to hang up after our goodbye.
    farewell: Option<Pin<Box<Sleep>>>,
}

/// A server hangs up within a moment of our goodbye, or it is none of our business any more.
const HANGS_UP_WITHIN: Duration = Duration::from_secs(1);

/// Bytes needed to judge an authentication request: type, length, number.
const REQUEST_BYTES: usize = 9;

impl Wire {
    pub(crate) fn new(carrier: Carrier, end_point: Option<Vec<u8>>, required: Option<RequiredAuth>) -> Self {
        Self {
            carrier,
            end_point,
            required,
            heard: Heard::default(),
            held: Vec::new(),
            given: 0,
            judged: false,
            deaf: false,
            farewell: None,
        }
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Judges the beginning of the server's first message; `false` while too little of it has come.
    ///
    /// The limits of the lengths are libpq's (`CONNECTION_AWAITING_RESPONSE` in `fe-connect.c`).
    fn judge(&self) -> io::Result<bool> {
        let strange = || io::Error::new(ErrorKind::InvalidData, NotPostgres::from_bytes(&self.held));
        let Some(kind) = self.held.first() else { return Ok(false) };
        if !b"REv".contains(kind) {
            return Err(strange());
        }
        let Some(length) = self.held.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes) else {
            return Ok(false);
        };
        match kind {
            b'R' if !(8..=2000).contains(&length) => return Err(strange()),
            b'E' | b'v' if !(8..=30_000).contains(&length) => return Err(strange()),
            b'R' => {}
            _ => return Ok(true),
        }
        let Some(number) = self.held.get(5..9).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes) else {
            return Ok(false);
        };
        let method = AuthMethod::from_request(number);
        let _ = self.heard.0.set(method);
        match &self.required {
            Some(required) if !required.admits(method) => {
                Err(io::Error::new(ErrorKind::PermissionDenied, AuthNotAdmitted(method)))
            }
            _ => Ok(true),
        }
    }

    /// Reads until the first message can be judged.
    fn poll_judged(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.judge()? {
            let mut bytes = [0; REQUEST_BYTES];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.carrier).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            self.held.extend_from_slice(buffer.filled());
        }
        self.judged = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.judged {
            ready!(self.poll_judged(cx))?;
        }
        if self.given < self.held.len() {
            let end = self.held.len().min(self.given + buf.remaining());
            buf.put_slice(&self.held[self.given..end]);
            self.given = end;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.carrier).poll_read(cx, buf)
    }
}

impl Wire {
    /// Waits until the server has hung up, which its backend does last of all: only then is its place free for another
    /// session of the same role.
    fn poll_hung_up(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [0; 256];
        loop {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.carrier).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        self.farewell.as_mut().map_or(Poll::Ready(()), |farewell| farewell.as_mut().poll(cx))
    }

    /// Forgives that the server has hung up: why it did lies in its last message, which reading will find, and reading
    /// will end soon after. libpq does the same (`pqSendSome` in `fe-misc.c`).
    fn forgiven<T>(&mut self, done: io::Result<T>, instead: T) -> io::Result<T> {
        match done {
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                self.deaf = true;
                Ok(instead)
            }
            other => other,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let done = ready!(Pin::new(&mut self.carrier).poll_write(cx, buf));
        Poll::Ready(self.forgiven(done, buf.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let done = ready!(Pin::new(&mut self.carrier).poll_flush(cx));
        Poll::Ready(self.forgiven(done, ()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        if self.farewell.is_none() {
            let done = ready!(Pin::new(&mut self.carrier).poll_shutdown(cx));
            self.forgiven(done, ())?;
            self.farewell = Some(Box::pin(tokio::time::sleep(HANGS_UP_WITHIN)));
        }
        self.poll_hung_up(cx).map(Ok)
    }
}

/// Forwards reading and writing to whichever variant is there.
macro_rules! forward {
    ($name:ident $($variant:ident)*) => {
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(inner) => Pin::new(inner).poll_read(cx, buf),)* }
            }
        }
        impl AsyncWrite for $name {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                match self.get_mut() { $(Self::$variant(inner) => Pin::new(inner).poll_write(cx, buf),)* }
            }
            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(inner) => Pin::new(inner).poll_flush(cx),)* }
            }
            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() { $(Self::$variant(inner) => Pin::new(inner).poll_shutdown(cx),)* }
            }
        }
    };
}
forward!(Socket Tcp Unix);
forward!(Carrier Plain Tls);

impl tokio_postgres::tls::TlsStream for Wire {
    fn channel_binding(&self) -> tokio_postgres::tls::ChannelBinding {
        match &self.end_point {
            Some(hash) => tokio_postgres::tls::ChannelBinding::tls_server_end_point(hash.clone()),
            None => tokio_postgres::tls::ChannelBinding::none(),
        }
    }
}

/// Tells the protocol that TLS is in place already, so that it takes the stream as it is.
pub(crate) struct InPlace;

impl<S: tokio_postgres::tls::TlsStream + Unpin> tokio_postgres::tls::TlsConnect<S> for InPlace {
    type Stream = S;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<S, Self::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        std::future::ready(Ok(stream))
    }
}
