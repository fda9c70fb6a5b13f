//! The options that start with `ssl`, checked, with libpq's defaults.

use crate::connect::{
    ConnectError,
    conninfo::Options,
    environment::Environment,
    settings::{choice, impossible},
};
use std::path::PathBuf;
use surus_core::secret::Secret;

/// `sslmode`. Ordered: each mode asks for at least what the ones before it ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plaintext first; TLS when the server refuses that.
    Allow,
    /// TLS first; plaintext when the server refuses that.
    Prefer,
    /// TLS; the certificate is verified only if a root certificate file is there.
    Require,
    /// TLS with a certificate from a trusted authority.
    VerifyCa,
    /// As `VerifyCa`, and the certificate is for this host.
    VerifyFull,
}

impl SslMode {
    /// As it is written in a connection string.
    pub fn as_str(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }
}

const MODES: &[(&str, SslMode)] = &[
    ("disable", SslMode::Disable),
    ("allow", SslMode::Allow),
    ("prefer", SslMode::Prefer),
    ("require", SslMode::Require),
    ("verify-ca", SslMode::VerifyCa),
    ("verify-full", SslMode::VerifyFull),
];

/// `sslcertmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    Never,
    IfThere,
    Required,
}

/// Where trust comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// `sslrootcert=system`: the machine's own list of authorities.
    System,
    /// A file of certificates; `given` when the user named it.
    File { path: PathBuf, given: bool },
    /// No home directory and nothing given.
    Nowhere,
}

/// A TLS version, as `ssl_min_protocol_version` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

const VERSIONS: &[(&str, TlsVersion)] = &[
    ("TLSv1", TlsVersion::V1_0),
    ("TLSv1.1", TlsVersion::V1_1),
    ("TLSv1.2", TlsVersion::V1_2),
    ("TLSv1.3", TlsVersion::V1_3),
];

/// How TLS is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    pub mode: SslMode,
    /// `sslnegotiation=direct`: TLS from the first byte, without asking.
    pub direct: bool,
    pub roots: RootSource,
    /// Revocation lists: a file and a directory.
    pub crl: Option<PathBuf>,
    pub crl_directory: Option<PathBuf>,
    /// The client certificate and its key.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password: Option<Secret>,
    pub client_certificate: ClientCertificate,
    /// Is the host's name sent to the server?
    pub sni: bool,
    pub oldest: TlsVersion,
    pub newest: TlsVersion,
}

impl TlsSettings {
    /// Checks the options and fills in the defaults.
    ///
    /// # Errors
    /// `SURUS-C025` names the option whose value is not possible.
    pub fn resolve(options: &Options, environment: &Environment) -> Result<Self, ConnectError> {
        let file = |option: &str, name: &str| {
            options.non_empty(option).map(PathBuf::from).or_else(|| environment.in_home(&format!(".postgresql/{name}")))
        };
        let roots = match options.non_empty("sslrootcert") {
            Some("system") => RootSource::System,
            Some(path) => RootSource::File { path: path.into(), given: true },
            None => environment
                .in_home(".postgresql/root.crt")
                .map_or(RootSource::Nowhere, |path| RootSource::File { path, given: false }),
        };
        let system = roots == RootSource::System;
        let default_mode = if system { SslMode::VerifyFull } else { SslMode::Prefer };
        let mode = choice(options, "sslmode", MODES, default_mode)?;
        if system && mode != SslMode::VerifyFull {
            // Any public authority signs for anybody, so without the name it would prove nothing.
            return Err(impossible(format!("sslrootcert=system needs sslmode=verify-full, not {}", mode.as_str())));
        }
        let direct = choice(options, "sslnegotiation", &[("postgres", false), ("direct", true)], false)?;
        if direct && mode < SslMode::Require {
            return Err(impossible(format!(
                "sslnegotiation=direct needs sslmode=require or more, not {}",
                mode.as_str()
            )));
        }
        let oldest = choice(options, "ssl_min_protocol_version", VERSIONS, TlsVersion::V1_2)?;
        let newest = choice(options, "ssl_max_protocol_version", VERSIONS, TlsVersion::V1_3)?;
        if oldest > newest {
            return Err(impossible("ssl_min_protocol_version is newer than ssl_max_protocol_version"));
        }
        if newest < TlsVersion::V1_2 {
            return Err(impossible("surus speaks TLSv1.2 and TLSv1.3 only; raise ssl_max_protocol_version"));
        }
        let certificate_modes = &[
            ("disable", ClientCertificate::Never),
            ("allow", ClientCertificate::IfThere),
            ("require", ClientCertificate::Required),
        ];
        Ok(Self {
            mode,
            direct,
            roots,
            crl: file("sslcrl", "root.crl"),
            crl_directory: options.non_empty("sslcrldir").map(PathBuf::from),
            certificate: file("sslcert", "postgresql.crt"),
            key: file("sslkey", "postgresql.key"),
            key_password: options.non_empty("sslpassword").map(Secret::new),
            client_certificate: choice(options, "sslcertmode", certificate_modes, ClientCertificate::IfThere)?,
            sni: choice(options, "sslsni", &[("0", false), ("1", true)], true)?,
            oldest,
            newest,
        })
    }
}
