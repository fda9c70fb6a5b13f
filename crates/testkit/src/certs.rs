//! Certificates for TLS tests: a certificate authority of our own, a server certificate, client certificates.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A certificate authority with one server certificate. Its files go when it is dropped.
#[derive(Debug)]
pub struct Certs {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: String,
    server: (String, String),
}

/// A client's certificate and key, as `sslcert` and `sslkey` take them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCert {
    pub cert: PathBuf,
    /// Mode 0600, as libpq demands.
    pub key: PathBuf,
}

impl Certs {
    /// A server certificate for localhost, 127.0.0.1 and ::1 that is valid now.
    pub fn new() -> Self {
        Self::with(&["localhost", "127.0.0.1", "::1"], false)
    }

    /// A server certificate for localhost and 127.0.0.1 that ran out at the end of 2020.
    pub fn expired() -> Self {
        Self::with(&["localhost", "127.0.0.1", "::1"], true)
    }

    /// A server certificate for another name or address than the one that is connected to.
    pub fn for_name(name: &str) -> Self {
        Self::with(&[name], false)
    }

    fn with(names: &[&str], expired: bool) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.distinguished_name.push(DnType::CommonName, "surus test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let root = params.self_signed(&key).expect("the CA certificate can be signed").pem();
        let issuer = Issuer::new(params, key);
        let dir = tempfile::tempdir().expect("a directory can be made");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("the names are valid");
        params.distinguished_name.push(DnType::CommonName, names[0].clone());
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 12, 31));
        }
        let server = signed(&params, &issuer);
        write(&dir.path().join("root.crt"), &root);
        Self { dir, issuer, root, server }
    }

    /// The file with the CA certificate, for `sslrootcert`.
    pub fn root_cert(&self) -> PathBuf {
        self.dir.path().join("root.crt")
    }

    /// The CA certificate, PEM.
    pub fn root_pem(&self) -> &str {
        &self.root
    }

    /// The server's certificate, PEM.
    pub fn server_cert_pem(&self) -> &str {
        &self.server.0
    }

    /// The server's key, PEM.
    pub fn server_key_pem(&self) -> &str {
        &self.server.1
    }

    /// A client certificate whose common name is this role, signed by the same CA.
    pub fn client(&self, role: &str) -> ClientCert {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.distinguished_name.push(DnType::CommonName, role);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (cert_pem, key_pem) = signed(&params, &self.issuer);
        let (cert, key) = (self.dir.path().join(format!("{role}.crt")), self.dir.path().join(format!("{role}.key")));
        write(&cert, &cert_pem);
        write(&key, &key_pem);
        ClientCert { cert, key }
    }
}

impl Default for Certs {
    fn default() -> Self {
        Self::new()
    }
}

/// Certificate and key, PEM.
fn signed(params: &CertificateParams, issuer: &Issuer<'static, KeyPair>) -> (String, String) {
    let key = KeyPair::generate().expect("a key can be made");
    let cert = params.signed_by(&key, issuer).expect("a certificate can be signed");
    (cert.pem(), key.serialize_pem())
}

fn write(path: &Path, text: &str) {
    let file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("a certificate file can be written");
}
