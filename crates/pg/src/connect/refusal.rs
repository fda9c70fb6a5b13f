//! Why a server that was reached did not let us in: each cause with its own code.
//!
//! SQLSTATE and the name of the server's routine decide, because messages are translated (`lc_messages`); texts only
//! refine. PgBouncer has neither, so its texts are known here.

use crate::connect::{
    ConnectError, Failure,
    settings::Endpoint,
    wire::{AuthNotAdmitted, NotPostgres},
};
use rustls::AlertDescription;
use std::{error::Error, io, path::PathBuf};
use surus_core::code::{self, Code};
use tokio_postgres::error::{DbError, Severity};

/// Where the password that was used came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PasswordOrigin {
    /// The connection string, the service file or `PGPASSWORD`.
    Given,
    File(PathBuf),
    /// There is none; the text says which password file was not used and why, if that is so.
    Missing(Option<String>),
}

/// What was being tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub endpoint: &'a Endpoint,
    pub user: &'a str,
    pub password: &'a PasswordOrigin,
    pub binding_required: bool,
}

/// An error of the server, as its message carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// It ends the connection.
    pub fatal: bool,
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub routine: Option<String>,
}

impl Said {
    /// From the body of an ErrorResponse. Source: PostgreSQL documentation, 53.8 "Error and Notice Message Fields".
    pub(crate) fn parse(body: &[u8]) -> Self {
        let mut said = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((kind, text)) = field.split_first() else { continue };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'V' => said.fatal = matches!(text.as_str(), "FATAL" | "PANIC"),
                b'C' => said.sqlstate = text,
                b'M' => said.message = text,
                b'D' => said.detail = Some(text),
                b'H' => said.hint = Some(text),
                b'R' => said.routine = Some(text),
                _ => {}
            }
        }
        said
    }
}

impl From<&DbError> for Said {
    fn from(error: &DbError) -> Self {
        Self {
            fatal: matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
            sqlstate: error.code().code().to_owned(),
            message: error.message().to_owned(),
            detail: error.detail().map(str::to_owned),
            hint: error.hint().map(str::to_owned),
            routine: error.routine().map(str::to_owned),
        }
    }
}

/// Why a server that was reached did not let us in, whichever client spoke with it.
#[derive(Debug)]
pub(crate) enum StartupError {
    Server(Box<Said>),
    Wire(io::Error),
    Closed,
    PasswordMissing,
    /// Channel binding is required and was not used.
    NoBinding,
    /// The server asks for an authentication that is not spoken.
    Method,
    /// The server does not show that it knows the password.
    Impostor(String),
    /// An answer that is out of place.
    Unexpected,
    Other(String),
}

impl From<io::Error> for StartupError {
    fn from(error: io::Error) -> Self {
        Self::Wire(error)
    }
}

impl From<tokio_postgres::Error> for StartupError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::Server(Box::new(server.into()));
        }
        let text = deepest(&error).to_string();
        // The client's kinds of error have no other name than their text.
        let kind = error.to_string();
        if error.is_closed() {
            return Self::Closed;
        }
        match text.as_str() {
            "password missing" => return Self::PasswordMissing,
            "server did not use channel binding" => return Self::NoBinding,
            "unsupported authentication method" | "unsupported SASL mechanism" => return Self::Method,
            // What remains of SCRAM are answers that do not fit: the server does not know the password's verifier.
            _ if kind == "authentication error" => return Self::Impostor(text),
            _ if kind == "unexpected message from server" => return Self::Unexpected,
            _ => {}
        }
        match error.into_source().map(|cause| cause.downcast::<io::Error>()) {
            Some(Ok(io)) => Self::Wire(*io),
            _ => Self::Other(format!("{kind}: {text}")),
        }
    }
}

/// The failed attempt: whether to try the other way or the next host, and why.
pub(crate) fn failure(error: StartupError, case: Circumstances<'_>) -> Failure {
    let error = explain(error, case);
    let refused = error.sqlstate.as_deref().is_some_and(|state| state.starts_with("28"));
    Failure { other_way: refused, next_host: error.code == code::CONNECT_STARTING, error }
}

/// Explains an error of the startup: of the protocol, of the wire, or of the server.
fn explain(error: StartupError, case: Circumstances<'_>) -> ConnectError {
    let failed = |code, why: String| ConnectError::at(code, case.endpoint, why);
    match error {
        StartupError::Server(said) => from_server(&said, case),
        StartupError::Wire(io) => from_wire(&io, case.endpoint),
        StartupError::Closed => {
            failed(code::CONNECT_CLOSED, "the server closed the connection before it let us in".into())
        }
        StartupError::PasswordMissing => {
            let mut why = format!("the server asks for the password of \"{}\" and none was given", case.user);
            if let PasswordOrigin::Missing(Some(reason)) = case.password {
                why = format!("{why}; {reason}");
            }
            failed(code::CONNECT_NO_PASSWORD, why)
        }
        StartupError::NoBinding => failed(
            code::CONNECT_CHANNEL_BINDING,
            "channel_binding=require, but the server authenticated without channel binding".into(),
        ),
        StartupError::Method => failed(
            code::CONNECT_AUTH_METHOD,
            "the server asks for an authentication method that surus does not speak (GSSAPI, SSPI, OAuth or older)"
                .into(),
        ),
        StartupError::Impostor(text) => failed(
            code::CONNECT_OTHER,
            format!("the server could not show that it knows the password; it may be an impostor ({text})"),
        ),
        StartupError::Unexpected => {
            failed(code::CONNECT_NOT_POSTGRES, "the answer does not follow PostgreSQL's protocol".into())
        }
        StartupError::Other(text) => failed(code::CONNECT_OTHER, text),
    }
}

fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// An error of the byte stream.
pub(crate) fn from_wire(error: &io::Error, endpoint: &Endpoint) -> ConnectError {
    let inner = error.get_ref();
    if let Some(strange) = inner.and_then(|inner| inner.downcast_ref::<NotPostgres>()) {
        return not_postgres(strange, endpoint);
    }
    if let Some(refused) = inner.and_then(|inner| inner.downcast_ref::<AuthNotAdmitted>()) {
        return ConnectError::at(code::CONNECT_AUTH_METHOD, endpoint, refused.to_string());
    }
    if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        // With TLS 1.3 the server judges the client's certificate after the handshake.
        return ConnectError::at(alert_code(tls), endpoint, format!("TLS failed: {tls}"));
    }
    // The decoder's own error for an end inside a message has no kind.
    let cut_off = error.kind() == io::ErrorKind::Other && error.to_string() == "bytes remaining on stream";
    match error.kind() {
        _ if cut_off => ConnectError::at(
            code::CONNECT_CLOSED,
            endpoint,
            "the server closed the connection in the middle of a message".to_owned(),
        ),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => ConnectError::at(
            code::CONNECT_CLOSED,
            endpoint,
            "the server closed the connection before it let us in".to_owned(),
        ),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => ConnectError::at(
            code::CONNECT_NOT_POSTGRES,
            endpoint,
            format!("the answer does not follow PostgreSQL's protocol ({error})"),
        ),
        _ => ConnectError::at(code::CONNECT_OTHER, endpoint, error.to_string()),
    }
}

pub(crate) fn not_postgres(strange: &NotPostgres, endpoint: &Endpoint) -> ConnectError {
    let who = match strange.seen.as_str() {
        seen if seen.starts_with("HTTP/") => "an HTTP server answers: ",
        seen if seen.starts_with("SSH-") => "an SSH server answers: ",
        _ => "",
    };
    ConnectError::at(code::CONNECT_NOT_POSTGRES, endpoint, format!("{who}{strange}"))
}

/// Is it the client's certificate that the server does not want, or the connection?
pub(crate) fn alert_code(error: &rustls::Error) -> Code {
    match error {
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::NoCertificate,
        ) => code::CONNECT_CLIENT_CERT,
        _ => code::CONNECT_TLS,
    }
}

/// The server's own refusal.
fn from_server(server: &Said, case: Circumstances<'_>) -> ConnectError {
    let code = code_of(&server.sqlstate, server.routine.as_deref(), &server.message, case.binding_required);
    let mut why = format!("the server says: {}", server.message);
    for (title, more) in [("detail", &server.detail), ("hint", &server.hint)] {
        if let Some(more) = more {
            why = format!("{why} ({title}: {more})");
        }
    }
    if code == code::CONNECT_PASSWORD
        && let PasswordOrigin::File(file) = case.password
    {
        why = format!("{why}; the password came from {}", file.display());
    }
    let mut error = ConnectError::at(code, case.endpoint, why);
    error.sqlstate = Some(server.sqlstate.clone());
    error.routine.clone_from(&server.routine);
    error
}

/// The code for a server's refusal. Source of SQLSTATEs: PostgreSQL documentation, appendix A; of routines:
/// `auth.c`, `miscinit.c`, `postinit.c`, `backend_startup.c`; of PgBouncer's texts: its `client.c` and `objects.c`.
fn code_of(sqlstate: &str, routine: Option<&str>, message: &str, binding_required: bool) -> Code {
    let says = |text: &str| message.contains(text);
    match sqlstate {
        "28P01" => code::CONNECT_PASSWORD,
        "28000" => match routine {
            Some("InitializeSessionUserId" | "InitializeSessionUserIdStandalone") => code::CONNECT_ROLE,
            _ if says("client certificate") || says("certificate authentication failed") => code::CONNECT_CLIENT_CERT,
            _ if says("no such user") || (says("role") && says("does not exist")) => code::CONNECT_ROLE,
            _ => code::CONNECT_HBA,
        },
        "3D000" => code::CONNECT_DATABASE,
        "57P03" => code::CONNECT_STARTING,
        "57P01" | "57P02" => code::CONNECT_CLOSED,
        "53300" => code::CONNECT_TOO_MANY,
        _ if says("no such database") || says("bouncer config error: no such database") => code::CONNECT_DATABASE,
        _ if says("unsupported startup parameter") || says("pgbouncer") => code::CONNECT_POOLER,
        _ if says("no such user") => code::CONNECT_ROLE,
        _ if says("no more connections allowed") => code::CONNECT_TOO_MANY,
        _ if says("SASL authentication failed") || says("password authentication failed") => code::CONNECT_PASSWORD,
        _ if ["login rejected", "SSL required", "TLS required", "connection is insecure"]
            .iter()
            .any(|text| says(text)) =>
        {
            code::CONNECT_HBA
        }
        _ if says("channel binding") && binding_required => code::CONNECT_CHANNEL_BINDING,
        _ => code::CONNECT_OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_message_changes_nothing() {
        let german = "Rolle »nobody« existiert nicht";
        assert_eq!(code_of("28000", Some("InitializeSessionUserId"), german, false), code::CONNECT_ROLE);
        let entry = "kein pg_hba.conf-Eintrag für Host »::1«";
        assert_eq!(code_of("28000", Some("ClientAuthentication"), entry, false), code::CONNECT_HBA);
        assert_eq!(
            code_of("3D000", Some("InitPostgres"), "Datenbank »x« existiert nicht", false),
            code::CONNECT_DATABASE
        );
    }

    #[test]
    fn knows_pgbouncers_texts() {
        let cases = [
            ("no such database: nowhere", code::CONNECT_DATABASE),
            ("unsupported startup parameter: options", code::CONNECT_POOLER),
            ("no more connections allowed (max_client_conn)", code::CONNECT_TOO_MANY),
            ("SASL authentication failed", code::CONNECT_PASSWORD),
        ];
        for (message, wanted) in cases {
            assert_eq!(code_of("08P01", None, message, false), wanted, "{message}");
        }
    }
}
