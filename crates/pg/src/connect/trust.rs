//! Judging a server's certificate as libpq and OpenSSL do.
//!
//! webpki decides wherever it can. It cannot read version 1 certificates, and refuses a certificate authority that is
//! also the server's certificate; PostgreSQL's own documentation tells how to make both, so these two are judged here.

use crate::connect::{
    ConnectError, certificate,
    tls_settings::{RootSource, SslMode, TlsSettings},
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm, UnixTime,
        pem::PemObject,
    },
};
use std::{fmt, path::Path, sync::Arc};
use surus_core::code;

/// How far a server's certificate was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// Not at all: anybody could have answered.
    None,
    /// A trusted authority issued it, for whomever.
    Chain,
    /// A trusted authority issued it for this host.
    ChainAndName,
}

/// The certificate is for other names than the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrongName {
    pub host: String,
    pub names: Vec<String>,
}

impl fmt::Display for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is for {}, not for {}", self.names.join(", "), self.host)
    }
}

impl std::error::Error for WrongName {}

/// What certificates are measured against.
#[derive(Debug)]
struct Trust {
    webpki: Arc<WebPkiServerVerifier>,
    /// The same authorities for the certificates that webpki does not read.
    certificates: Vec<CertificateDer<'static>>,
    revocation: bool,
}

/// The verifier of one connection.
#[derive(Debug)]
pub(crate) struct Judge {
    trust: Option<Trust>,
    /// The name that the certificate must be for, with `sslmode=verify-full`.
    host: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

fn failed(message: String) -> ConnectError {
    ConnectError::new(code::CONNECT_CERTIFICATE, message)
}

impl Judge {
    /// A verifier as the settings say. As for libpq, a root certificate file that is there is used in every mode.
    ///
    /// # Errors
    /// `SURUS-C014` when what to trust cannot be read.
    pub(crate) fn new(
        settings: &TlsSettings,
        host: &str,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, ConnectError> {
        let trust = match roots(settings)? {
            Some(certificates) => Some(Trust::new(certificates, settings, provider)?),
            None => None,
        };
        Ok(Self {
            trust,
            host: (settings.mode == SslMode::VerifyFull).then(|| host.to_owned()),
            algorithms: provider.signature_verification_algorithms,
        })
    }

    /// How far it verifies.
    pub(crate) fn verification(&self) -> Verification {
        match (&self.trust, &self.host) {
            (None, _) => Verification::None,
            (Some(_), None) => Verification::Chain,
            (Some(_), Some(_)) => Verification::ChainAndName,
        }
    }

    /// Was the certificate issued by somebody who is trusted?
    fn verify_chain(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        // The name is compared afterwards by libpq's rule, which knows common names; webpki does so last.
        let any_name = ServerName::try_from("name.invalid").map_err(|_| Error::General("name".into()))?;
        match trust.webpki.verify_server_cert(end_entity, intermediates, &any_name, &[], now) {
            Ok(_)
            | Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(()),
            Err(error) if trust.revocation => Err(error),
            Err(error) => self.verify_old_style(trust, end_entity, now).unwrap_or(Err(error)),
        }
    }

    /// Judges a self-signed certificate that is itself trusted, or one of version 1 that a trusted authority issued.
    /// None when it is neither.
    fn verify_old_style(
        &self,
        trust: &Trust,
        end_entity: &CertificateDer<'_>,
        now: UnixTime,
    ) -> Option<Result<(), Error>> {
        let own = certificate::parsed(end_entity).ok()?;
        let itself = own.tbs_certificate.subject == own.tbs_certificate.issuer
            && trust.certificates.iter().any(|root| root.as_ref() == end_entity.as_ref());
        if itself {
            return Some(in_time(&own, now));
        }
        if own.tbs_certificate.version != x509_cert::Version::V1 {
            return None;
        }
        let signed = certificate::signed_parts(&own)?;
        let issued_by = |root: &x509_cert::Certificate| {
            root.tbs_certificate.subject == own.tbs_certificate.issuer
                && certificate::public_key(root).is_some_and(|(kind, key)| {
                    self.algorithms.all.iter().any(|algorithm| {
                        algorithm.public_key_alg_id().as_ref() == kind
                            && algorithm.signature_alg_id().as_ref() == signed.algorithm
                            && algorithm.verify_signature(&key, &signed.message, &signed.signature).is_ok()
                    })
                })
        };
        let roots = trust.certificates.iter().filter_map(|root| certificate::parsed(root).ok());
        match roots.into_iter().find(issued_by) {
            Some(root) => Some(in_time(&own, now).and_then(|()| in_time(&root, now))),
            None => Some(Err(CertificateError::UnknownIssuer.into())),
        }
    }

    /// Verifies the handshake's signature by a certificate that webpki does not read.
    fn verify_with_key(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = || Error::from(CertificateError::BadSignature);
        let own = certificate::parsed(certificate).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        let (kind, key) = certificate::public_key(&own).ok_or_else(bad)?;
        let candidates: &[&dyn SignatureVerificationAlgorithm] = self
            .algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signed.scheme)
            .map_or(&[], |(_, algorithms)| *algorithms);
        let valid = candidates.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == kind
                && algorithm.verify_signature(&key, message, signed.signature()).is_ok()
        });
        if valid { Ok(HandshakeSignatureValid::assertion()) } else { Err(bad()) }
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        self.verify_chain(trust, end_entity, intermediates, now)?;
        if let Some(host) = &self.host {
            let own = certificate::parsed(end_entity).map_err(|_| Error::from(CertificateError::BadEncoding))?;
            if !certificate::is_for(&own, host) {
                let said = certificate::Certificate::of(&own);
                let names = if said.names.is_empty() { said.common_name.into_iter().collect() } else { said.names };
                let wrong = WrongName { host: host.clone(), names };
                return Err(CertificateError::Other(OtherError(Arc::new(wrong))).into());
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_version_1(cert) {
            return self.verify_with_key(message, cert, dss);
        }
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if is_version_1(cert) {
            return self.verify_with_key(message, cert, dss);
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_version_1(certificate: &CertificateDer<'_>) -> bool {
    certificate::parsed(certificate).is_ok_and(|own| own.tbs_certificate.version == x509_cert::Version::V1)
}

/// Is it a certificate of now?
fn in_time(certificate: &x509_cert::Certificate, now: UnixTime) -> Result<(), Error> {
    let validity = &certificate.tbs_certificate.validity;
    if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
        return Err(CertificateError::Expired.into());
    }
    if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
        return Err(CertificateError::NotValidYet.into());
    }
    Ok(())
}

impl Trust {
    fn new(
        certificates: Vec<CertificateDer<'static>>,
        settings: &TlsSettings,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, ConnectError> {
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if added == 0 {
            return Err(failed("none of the root certificates can be read".into()));
        }
        let lists = revocation_lists(settings)?;
        let revocation = !lists.is_empty();
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        if revocation {
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        let webpki =
            builder.build().map_err(|e| failed(format!("what is trusted cannot be used for verifying: {e}")))?;
        Ok(Self { webpki, certificates, revocation })
    }
}

/// The root certificates; none when nothing asks for verifying.
fn roots(settings: &TlsSettings) -> Result<Option<Vec<CertificateDer<'static>>>, ConnectError> {
    let needed = settings.mode >= SslMode::VerifyCa;
    let missing = |what: String| {
        failed(format!(
            "{what}, and sslmode={} has to verify the server; give sslrootcert=<file> or sslrootcert=system",
            settings.mode.as_str()
        ))
    };
    match &settings.roots {
        RootSource::System => {
            let found = rustls_native_certs::load_native_certs();
            if found.certs.is_empty() {
                return Err(missing("this machine has no list of trusted authorities".into()));
            }
            Ok(Some(found.certs))
        }
        RootSource::File { path, .. } if path.exists() => certificates_in(path).map(Some),
        RootSource::File { path, .. } if needed => {
            Err(missing(format!("the root certificate file {} does not exist", path.display())))
        }
        RootSource::Nowhere if needed => Err(missing("there is no root certificate file".into())),
        RootSource::File { .. } | RootSource::Nowhere => Ok(None),
    }
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let unreadable = |e: &dyn fmt::Display| failed(format!("the root certificate file {}: {e}", path.display()));
    let bytes = std::fs::read(path).map_err(|e| unreadable(&e))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(|e| unreadable(&e))?;
    if found.is_empty() { Err(unreadable(&"it has no certificate in PEM form")) } else { Ok(found) }
}

/// The revocation lists of `sslcrl` and `sslcrldir`.
fn revocation_lists(settings: &TlsSettings) -> Result<Vec<CertificateRevocationListDer<'static>>, ConnectError> {
    let mut files: Vec<_> = settings.crl.iter().filter(|path| path.exists()).cloned().collect();
    if let Some(directory) = &settings.crl_directory {
        let entries = std::fs::read_dir(directory)
            .map_err(|e| failed(format!("the directory of revocation lists {}: {e}", directory.display())))?;
        files.extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()));
    }
    let mut lists = Vec::new();
    for file in files {
        let unreadable = |e: &dyn fmt::Display| failed(format!("the revocation list {}: {e}", file.display()));
        let bytes = std::fs::read(&file).map_err(|e| unreadable(&e))?;
        for list in CertificateRevocationListDer::pem_slice_iter(&bytes) {
            lists.push(list.map_err(|e| unreadable(&e))?);
        }
    }
    Ok(lists)
}
