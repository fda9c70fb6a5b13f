//! Trials: connections that are made to see whether they are let in.
//!
//! A trial never sends a password over an unencrypted connection, and leaves nothing behind but a line in the server's
//! log.

use crate::{
    connect::{
        ConnectError, Target,
        tls::TlsInfo,
        tls_settings::{RootSource, SslMode},
        wire::AuthMethod,
    },
    session::Manners,
};
use surus_core::code;

/// What came of a plaintext connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server does not talk to this user, database and address without TLS.
    Refused,
    /// It does: it opened a session or asked for a password.
    Accepted,
    /// It could not be seen.
    Unknown,
}

/// A trial and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub outcome: Outcome,
    /// One sentence: what was seen, or why nothing could be.
    pub how: String,
    /// The server's five-character code, when it was the server that refused.
    pub sqlstate: Option<String>,
}

/// Tries to connect without TLS, and without a password: a server that asks for one has accepted plaintext.
///
/// The answer holds for the target's user, database and the address that the connection comes from, as `pg_hba.conf`
/// decides by these.
pub async fn plaintext_refused(target: &Target) -> Trial {
    let unknown = |how: String| Trial { outcome: Outcome::Unknown, how, sqlstate: None };
    if target.settings().endpoints.iter().any(|endpoint| endpoint.is_local()) {
        return unknown("the target is a Unix socket, which needs no TLS".into());
    }
    let plaintext = [
        ("sslmode", "disable"),
        ("sslnegotiation", ""),
        ("sslrootcert", ""),
        ("channel_binding", "disable"),
        ("require_auth", ""),
        ("password", ""),
        // A password file is never needed here; this one cannot hold anything.
        ("passfile", "/dev/null"),
    ];
    let trial = match target.with_options(&plaintext) {
        Ok(trial) => trial,
        Err(error) => return unknown(error.message),
    };
    match trial.connect(&Manners::looking()).await {
        Ok(session) => {
            let how = match session.auth_method() {
                AuthMethod::None => "a session was opened without TLS, and no password was asked for".to_owned(),
                method => format!("a session was opened without TLS, after authentication by {}", method.as_str()),
            };
            session.close().await;
            Trial { outcome: Outcome::Accepted, how, sqlstate: None }
        }
        Err(error) => judged(error),
    }
}

fn judged(error: ConnectError) -> Trial {
    // `ClientAuthentication` refuses before anybody is asked for anything; `auth_failed` after that.
    let tried = error.routine.as_deref() == Some("auth_failed");
    let (outcome, how) = match error.code {
        code::CONNECT_HBA if tried => (Outcome::Accepted, "the server went on to authentication without TLS".into()),
        code::CONNECT_HBA => (Outcome::Refused, error.message),
        code::CONNECT_NO_PASSWORD => (Outcome::Accepted, "the server asks for the password without TLS".into()),
        code::CONNECT_AUTH_METHOD | code::CONNECT_PASSWORD => {
            (Outcome::Accepted, "the server goes on to authentication without TLS".into())
        }
        code::CONNECT_ROLE | code::CONNECT_DATABASE | code::CONNECT_SESSION_ATTRS => {
            (Outcome::Accepted, format!("the server let the connection in without TLS, and then: {}", error.message))
        }
        _ => (Outcome::Unknown, error.message),
    };
    Trial { outcome, how, sqlstate: error.sqlstate }
}

/// What came of connecting with `sslmode=verify-full`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyFull {
    /// A session was opened; the certificate is trusted and for this host.
    Verified(Box<TlsInfo>),
    /// TLS, the certificate or its name did not hold.
    Failed(ConnectError),
    /// It could not be seen, for this reason.
    Unknown(String),
}

/// Connects with `sslmode=verify-full`, trusting `sslrootcert` if it is given or in its default place, else the
/// machine's own list of authorities.
pub async fn verify_full(target: &Target) -> VerifyFull {
    if target.settings().endpoints.iter().any(|endpoint| endpoint.is_local()) {
        return VerifyFull::Unknown("the target is a Unix socket, which needs no TLS".into());
    }
    let mut changes = vec![("sslmode", SslMode::VerifyFull.as_str())];
    match &target.settings().tls.roots {
        RootSource::System => {}
        RootSource::File { given: true, .. } => {}
        RootSource::File { path, given: false } if path.exists() => {}
        RootSource::File { .. } | RootSource::Nowhere => changes.push(("sslrootcert", "system")),
    }
    let trial = match target.with_options(&changes) {
        Ok(trial) => trial,
        Err(error) => return VerifyFull::Unknown(error.message),
    };
    match trial.connect(&Manners::looking()).await {
        Ok(session) => {
            let info = session.tls().cloned();
            session.close().await;
            match info {
                Some(info) => VerifyFull::Verified(Box::new(info)),
                None => VerifyFull::Unknown("the session was opened without TLS".into()),
            }
        }
        Err(error) => match error.code {
            code::CONNECT_TLS | code::CONNECT_NO_TLS | code::CONNECT_CERTIFICATE | code::CONNECT_CLIENT_CERT => {
                VerifyFull::Failed(error)
            }
            _ => VerifyFull::Unknown(error.message),
        },
    }
}
