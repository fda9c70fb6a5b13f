//! Putting TLS on a socket, and what there is to know about it afterwards.

use crate::connect::{
    ConnectError,
    certificate::{self, Certificate},
    refusal,
    settings::Endpoint,
    tls_settings::{ClientCertificate, RootSource, TlsSettings, TlsVersion},
    trust::{Judge, Verification, WrongName},
    wire::{NotPostgres, Socket},
};
use rustls::{
    CertificateError, ClientConfig,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use surus_core::code;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A session's encryption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub protocol: String,
    /// The cipher suite, e.g. `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The server's certificate.
    pub certificate: Certificate,
    /// How far it was verified.
    pub verification: Verification,
    /// What it was verified against: a file, or `system`.
    pub roots: Option<String>,
    /// Did the server ask for a client certificate and get one?
    pub client_certificate: bool,
    pub(crate) end_point_hash: Option<Vec<u8>>,
}

impl TlsInfo {
    /// Can a SCRAM authentication be bound to this connection?
    pub fn can_bind(&self) -> bool {
        self.end_point_hash.is_some()
    }
}

/// What came of asking for TLS.
pub(crate) enum Negotiated {
    /// The server has none; the socket is still good.
    Plain(Socket),
    Tls(Box<TlsStream<Socket>>, Box<TlsInfo>),
}

/// Asks for TLS and shakes hands.
///
/// # Errors
/// `SURUS-C012`, `C014`, `C015`, `C018` or `C019` by cause.
pub(crate) async fn negotiate(
    mut socket: Socket,
    endpoint: &Endpoint,
    settings: &TlsSettings,
) -> Result<Negotiated, ConnectError> {
    if !settings.direct && !offers_tls(&mut socket, endpoint).await? {
        return Ok(Negotiated::Plain(socket));
    }
    let host = endpoint.name().unwrap_or_default();
    let named = |mut error: ConnectError| {
        error.message = format!("cannot connect to {endpoint}: {}", error.message);
        error.host = Some(endpoint.to_string());
        error
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let judge = Arc::new(Judge::new(settings, &host, &provider).map_err(named)?);
    let own = Arc::new(OwnCertificate::load(settings, &provider).map_err(named)?);
    let config = configured(settings, judge.clone(), own.clone(), provider)
        .map_err(|e| ConnectError::at(code::CONNECT_TLS, endpoint, format!("TLS cannot be set up: {e}")))?;
    // Not every host is a name that TLS can send; the address then stands in, and nothing is sent.
    let name =
        ServerName::try_from(host).unwrap_or_else(|_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()));
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, socket)
        .await
        .map_err(|error| handshake_error(&error, endpoint, settings))?;
    finished(stream, endpoint, settings, &judge, &own)
}

/// `SSLRequest` and its one-byte answer. Source: documentation 53.2.9 and 53.7.
async fn offers_tls(socket: &mut Socket, endpoint: &Endpoint) -> Result<bool, ConnectError> {
    let broken = |error: io::Error| refusal::from_wire(&error, endpoint);
    socket.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.map_err(broken)?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer).await.map_err(broken)?;
    match &answer[..length] {
        [] => Err(broken(io::ErrorKind::UnexpectedEof.into())),
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        // Its text is not shown: anybody could have put it on the way (CVE-2024-10977).
        [b'E', ..] => Err(ConnectError::at(
            code::CONNECT_TLS,
            endpoint,
            "the server answered the request for TLS with an error".into(),
        )),
        // Bytes after the "S" would be taken for the server's in plaintext (CVE-2021-23222).
        strange => Err(refusal::not_postgres(&NotPostgres::from_bytes(strange), endpoint)),
    }
}

fn configured(
    settings: &TlsSettings,
    judge: Arc<Judge>,
    own: Arc<OwnCertificate>,
    provider: Arc<CryptoProvider>,
) -> Result<ClientConfig, rustls::Error> {
    let versions: Vec<_> = [(TlsVersion::V1_2, &TLS12), (TlsVersion::V1_3, &TLS13)]
        .into_iter()
        .filter(|(version, _)| (settings.oldest..=settings.newest).contains(version))
        .map(|(_, supported)| supported)
        .collect();
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .dangerous()
        .with_custom_certificate_verifier(judge)
        .with_client_cert_resolver(own);
    config.enable_sni = settings.sni;
    // As libpq since 17; older servers do not look at it.
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// What is known once hands are shaken.
fn finished(
    stream: TlsStream<Socket>,
    endpoint: &Endpoint,
    settings: &TlsSettings,
    judge: &Judge,
    own: &OwnCertificate,
) -> Result<Negotiated, ConnectError> {
    let failed = |code, why: String| ConnectError::at(code, endpoint, why);
    let (_, connection) = stream.get_ref();
    if settings.direct && connection.alpn_protocol().is_none() {
        return Err(failed(
            code::CONNECT_TLS,
            "the server took TLS directly, but not for PostgreSQL's protocol".into(),
        ));
    }
    if settings.client_certificate == ClientCertificate::Required && !own.sent() {
        return Err(failed(
            code::CONNECT_CLIENT_CERT,
            "sslcertmode=require, but the server did not ask for a client certificate".into(),
        ));
    }
    let der = connection.peer_certificates().and_then(|chain| chain.first());
    let der = der.ok_or_else(|| failed(code::CONNECT_TLS, "the server has shown no certificate".into()))?;
    let parsed = certificate::parsed(der).map_err(|why| failed(code::CONNECT_CERTIFICATE, why))?;
    let verification = judge.verification();
    let roots = match &settings.roots {
        _ if verification == Verification::None => None,
        RootSource::System => Some("system".to_owned()),
        RootSource::File { path, .. } => Some(path.display().to_string()),
        RootSource::Nowhere => None,
    };
    let info = TlsInfo {
        protocol: match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            other => format!("{other:?}"),
        },
        cipher: connection.negotiated_cipher_suite().map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        certificate: Certificate::of(&parsed),
        verification,
        roots,
        client_certificate: own.sent(),
        end_point_hash: certificate::end_point_hash(&parsed, der),
    };
    Ok(Negotiated::Tls(Box::new(stream), Box::new(info)))
}

/// Why hands were not shaken.
fn handshake_error(error: &io::Error, endpoint: &Endpoint, settings: &TlsSettings) -> ConnectError {
    let failed = |code, why: String| ConnectError::at(code, endpoint, why);
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => {
            failed(code::CONNECT_CERTIFICATE, format!("the server's certificate is not accepted: {}", distrust(why)))
        }
        Some(tls) => failed(refusal::alert_code(tls), format!("the TLS handshake failed: {tls}")),
        None if settings.direct => failed(
            code::CONNECT_TLS,
            format!("direct TLS failed ({error}); servers before PostgreSQL 17 do not know sslnegotiation=direct"),
        ),
        None if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            failed(code::CONNECT_CLOSED, "the server closed the connection during the TLS handshake".into())
        }
        None => failed(code::CONNECT_TLS, format!("the TLS handshake failed: {error}")),
    }
}

/// Why a certificate is not trusted, in plain words.
fn distrust(error: &CertificateError) -> String {
    match error {
        CertificateError::Other(other) => match other.0.downcast_ref::<WrongName>() {
            Some(wrong) => wrong.to_string(),
            None => other.0.to_string(),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!("it has expired ({error})"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("it is not valid yet ({error})")
        }
        CertificateError::UnknownIssuer => "no trusted authority has issued it".into(),
        CertificateError::BadSignature => {
            "no trusted authority has issued it: its signature is not by the authority that it names".into()
        }
        CertificateError::Revoked => "its authority has revoked it".into(),
        other => other.to_string(),
    }
}

/// The client's certificate, and whether the server wanted it.
struct OwnCertificate {
    certified: Option<Arc<CertifiedKey>>,
    asked: AtomicBool,
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate").field("present", &self.certified.is_some()).finish_non_exhaustive()
    }
}

impl ResolvesClientCert for OwnCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.certified.is_some()
    }
}

fn unusable(message: String) -> ConnectError {
    ConnectError::new(code::CONNECT_CLIENT_CERT, message)
}

impl OwnCertificate {
    /// Loads `sslcert` and `sslkey`. As for libpq, a certificate file that is missing is no error by itself.
    fn load(settings: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Self, ConnectError> {
        let none = Self { certified: None, asked: AtomicBool::new(false) };
        if settings.client_certificate == ClientCertificate::Never {
            return Ok(none);
        }
        let Some(file) = settings.certificate.as_ref().filter(|file| file.exists()) else {
            if settings.client_certificate == ClientCertificate::Required {
                return Err(unusable("sslcertmode=require, but there is no client certificate; give sslcert".into()));
            }
            return Ok(none);
        };
        let unreadable = |e: &dyn fmt::Display| unusable(format!("the client certificate {}: {e}", file.display()));
        let bytes = std::fs::read(file).map_err(|e| unreadable(&e))?;
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|e| unreadable(&e))?;
        if chain.is_empty() {
            return Err(unreadable(&"it has no certificate in PEM form"));
        }
        let Some(key_file) = settings.key.as_ref().filter(|key| key.exists()) else {
            let path = settings.key.clone().unwrap_or_else(|| PathBuf::from("sslkey"));
            return Err(unusable(format!(
                "there is a client certificate {}, but its private key {} does not exist",
                file.display(),
                path.display()
            )));
        };
        let key = provider
            .key_provider
            .load_private_key(private_key(key_file)?)
            .map_err(|e| unusable(format!("the private key {} cannot be used: {e}", key_file.display())))?;
        let certified = CertifiedKey::new(chain, key);
        if let Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) = certified.keys_match() {
            return Err(unusable(format!(
                "the private key {} does not belong to the client certificate {}",
                key_file.display(),
                file.display()
            )));
        }
        Ok(Self { certified: Some(Arc::new(certified)), ..none })
    }

    fn sent(&self) -> bool {
        self.certified.is_some() && self.asked.load(Ordering::Relaxed)
    }
}

/// Reads a private key that nobody else may read.
fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, ConnectError> {
    let failed = |why: String| unusable(format!("the private key {} {why}", file.display()));
    let metadata = std::fs::metadata(file).map_err(|e| failed(format!("cannot be read: {e}")))?;
    if !metadata.is_file() {
        return Err(failed("is not a plain file".into()));
    }
    // libpq's rule: root may let a group read it (`initialize_SSL` in `fe-secure-openssl.c`).
    let too_open = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & too_open != 0 {
        return Err(failed(format!(
            "can be used by others (mode {:04o}); make it 0600, or 0640 if root owns it",
            metadata.mode() & 0o7777
        )));
    }
    let bytes = std::fs::read(file).map_err(|e| failed(format!("cannot be read: {e}")))?;
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("ENCRYPTED") {
        return Err(failed("is encrypted, which surus does not support; decrypt it into a file of mode 0600".into()));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| failed(format!("is not a private key in PEM form: {e}")))
}
