//! A server's certificate: what it says, for which names it is, and its hash for channel binding.

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::net::IpAddr;
use x509_cert::{
    der::{
        Decode, Encode, SliceReader, TagNumber,
        asn1::{ContextSpecific, ObjectIdentifier},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
    spki::AlgorithmIdentifierOwned,
};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// As RFC 4514 writes it, e.g. `CN=db.example,O=Example`.
    pub subject: String,
    pub issuer: String,
    /// The subject's first common name.
    pub common_name: Option<String>,
    /// The DNS names and addresses of the subject's alternative names.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The usual name of the algorithm that signed it, or its object identifier.
    pub signature_algorithm: String,
    /// Has it issued itself?
    pub self_signed: bool,
    /// The serial number in hexadecimal.
    pub serial: String,
}

impl Certificate {
    /// Reads a certificate.
    ///
    /// # Errors
    /// When it is not X.509.
    pub fn from_der(der: &[u8]) -> Result<Self, String> {
        Ok(Self::of(&parsed(der)?))
    }

    /// Reads the first certificate of a PEM text, which is the server's own in a file of `ssl_cert_file`.
    ///
    /// # Errors
    /// When there is none, or it is not X.509.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let der = CertificateDer::from_pem_slice(text).map_err(|e| format!("the certificate cannot be read: {e}"))?;
        Self::from_der(&der)
    }

    /// Is it for this host name or address? By libpq's rule, as [`is_for`], on the names as text.
    pub fn names_host(&self, host: &str) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        let matching = |name: &String| match name.parse::<IpAddr>() {
            Ok(named) => address == Some(named),
            Err(_) => matches_pattern(name, host),
        };
        let same_kind = self.names.iter().any(|name| name.parse::<IpAddr>().is_ok() == address.is_some());
        let by_common_name = || self.common_name.as_deref().is_some_and(|name| matches_pattern(name, host));
        self.names.iter().any(matching) || (!same_kind && by_common_name())
    }

    pub(crate) fn of(certificate: &x509_cert::Certificate) -> Self {
        let fields = &certificate.tbs_certificate;
        let (_, names) = alternative_names(certificate);
        let oid = certificate.signature_algorithm.oid;
        Self {
            subject: fields.subject.to_string(),
            issuer: fields.issuer.to_string(),
            common_name: common_name(certificate),
            names,
            not_before: timestamp(fields.validity.not_before),
            not_after: timestamp(fields.validity.not_after),
            signature_algorithm: known(oid).map_or_else(|| oid.to_string(), |(name, _)| name.to_owned()),
            self_signed: fields.subject == fields.issuer,
            serial: fields.serial_number.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

pub(crate) fn parsed(der: &[u8]) -> Result<x509_cert::Certificate, String> {
    x509_cert::Certificate::from_der(der).map_err(|e| format!("the certificate cannot be read: {e}"))
}

fn timestamp(time: x509_cert::time::Time) -> Timestamp {
    // X.509 times end with the year 9999, as this type does.
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A name of the subject, of a kind that a host can have.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Dns(String),
    Address(IpAddr),
}

/// The alternative names, typed and as text.
fn alternative_names(certificate: &x509_cert::Certificate) -> (Vec<Name>, Vec<String>) {
    let listed = certificate.tbs_certificate.get::<SubjectAltName>().ok().flatten();
    let names: Vec<Name> =
        listed.into_iter().flat_map(|(_, names)| names.0).filter_map(|name| host_name(&name)).collect();
    let texts = names
        .iter()
        .map(|name| match name {
            Name::Dns(name) => name.clone(),
            Name::Address(address) => address.to_string(),
        })
        .collect();
    (names, texts)
}

fn host_name(name: &GeneralName) -> Option<Name> {
    match name {
        GeneralName::DnsName(name) => Some(Name::Dns(name.as_str().to_owned())),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(Name::Address)
        }
        _ => None,
    }
}

fn common_name(certificate: &x509_cert::Certificate) -> Option<String> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let attributes = certificate.tbs_certificate.subject.0.iter().flat_map(|relative| relative.0.iter());
    let found = attributes.into_iter().find(|attribute| attribute.oid == COMMON_NAME)?;
    String::from_utf8(found.value.value().to_vec()).ok()
}

/// Is the certificate for this host?
///
/// libpq's rule (`pq_verify_peer_name_matches_certificate` in `fe-secure-common.c`): any alternative name that matches;
/// the common name only when no alternative name is of the host's kind.
pub(crate) fn is_for(certificate: &x509_cert::Certificate, host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    let (names, _) = alternative_names(certificate);
    let matching = names.iter().any(|name| match name {
        Name::Dns(pattern) => matches_pattern(pattern, host),
        Name::Address(named) => address == Some(*named),
    });
    let same_kind = names.iter().any(|name| matches!(name, Name::Address(_)) == address.is_some());
    matching || (!same_kind && common_name(certificate).is_some_and(|name| matches_pattern(&name, host)))
}

/// Does a name, perhaps with `*` as its leftmost label, match a host? RFC 6125, as libpq reads it.
fn matches_pattern(pattern: &str, host: &str) -> bool {
    if pattern.contains('\0') {
        return false;
    }
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !domain.is_empty()
                && !label.is_empty()
                && domain.eq_ignore_ascii_case(rest)
                && host.parse::<IpAddr>().is_err()
        }
        _ => false,
    }
}

/// The hash functions that signatures use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    /// MD5 or SHA-1.
    Weak,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    /// The algorithm's parameters say which.
    InParameters,
    /// The algorithm has none of its own.
    Absent,
}

/// Names and hashes of signature algorithms. Sources: RFC 3279, 4055, 5758, 8410.
const ALGORITHMS: &[(&str, &str, Hash)] = &[
    ("1.2.840.113549.1.1.4", "md5WithRSAEncryption", Hash::Weak),
    ("1.2.840.113549.1.1.5", "sha1WithRSAEncryption", Hash::Weak),
    ("1.2.840.113549.1.1.10", "rsassaPss", Hash::InParameters),
    ("1.2.840.113549.1.1.14", "sha224WithRSAEncryption", Hash::Sha224),
    ("1.2.840.113549.1.1.11", "sha256WithRSAEncryption", Hash::Sha256),
    ("1.2.840.113549.1.1.12", "sha384WithRSAEncryption", Hash::Sha384),
    ("1.2.840.113549.1.1.13", "sha512WithRSAEncryption", Hash::Sha512),
    ("1.2.840.10045.4.1", "ecdsa-with-SHA1", Hash::Weak),
    ("1.2.840.10045.4.3.1", "ecdsa-with-SHA224", Hash::Sha224),
    ("1.2.840.10045.4.3.2", "ecdsa-with-SHA256", Hash::Sha256),
    ("1.2.840.10045.4.3.3", "ecdsa-with-SHA384", Hash::Sha384),
    ("1.2.840.10045.4.3.4", "ecdsa-with-SHA512", Hash::Sha512),
    ("1.3.101.112", "ED25519", Hash::Absent),
    ("1.3.101.113", "ED448", Hash::Absent),
];

fn known(oid: ObjectIdentifier) -> Option<(&'static str, Hash)> {
    let text = oid.to_string();
    ALGORITHMS.iter().find(|(id, ..)| *id == text).map(|(_, name, hash)| (*name, *hash))
}

/// The hash function of an `RSASSA-PSS` signature (RFC 4055: `hashAlgorithm [0]`, SHA-1 when absent).
fn pss_hash(algorithm: &AlgorithmIdentifierOwned) -> Option<Hash> {
    let parameters = algorithm.parameters.as_ref()?;
    let mut reader = SliceReader::new(parameters.value()).ok()?;
    let named = ContextSpecific::<AlgorithmIdentifierOwned>::decode_explicit(&mut reader, TagNumber::N0).ok()?;
    let Some(named) = named else { return Some(Hash::Weak) };
    match named.value.oid.to_string().as_str() {
        "2.16.840.1.101.3.4.2.4" => Some(Hash::Sha224),
        "2.16.840.1.101.3.4.2.1" => Some(Hash::Sha256),
        "2.16.840.1.101.3.4.2.2" => Some(Hash::Sha384),
        "2.16.840.1.101.3.4.2.3" => Some(Hash::Sha512),
        "1.3.14.3.2.26" | "1.2.840.113549.2.5" => Some(Hash::Weak),
        _ => None,
    }
}

/// The `tls-server-end-point` channel binding: the certificate hashed with its signature's hash function, SHA-256 in
/// place of MD5 and SHA-1 (RFC 5929, section 4.1). None when the signature has no hash function, as for Ed25519.
pub(crate) fn end_point_hash(certificate: &x509_cert::Certificate, der: &[u8]) -> Option<Vec<u8>> {
    let (_, hash) = known(certificate.signature_algorithm.oid)?;
    let hash = if hash == Hash::InParameters { pss_hash(&certificate.signature_algorithm)? } else { hash };
    let function = match hash {
        Hash::Weak | Hash::Sha256 => &digest::SHA256,
        Hash::Sha224 => &digest::SHA224,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
        Hash::InParameters | Hash::Absent => return None,
    };
    Some(digest::digest(function, der).as_ref().to_vec())
}

/// The DER of the parts that verifying a signature needs.
pub(crate) struct SignedParts {
    /// What was signed.
    pub message: Vec<u8>,
    /// The contents of the signature's `AlgorithmIdentifier`.
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
}

pub(crate) fn signed_parts(certificate: &x509_cert::Certificate) -> Option<SignedParts> {
    Some(SignedParts {
        message: certificate.tbs_certificate.to_der().ok()?,
        algorithm: contents(&certificate.signature_algorithm)?,
        signature: certificate.signature.raw_bytes().to_vec(),
    })
}

/// The subject's public key: the contents of its `AlgorithmIdentifier`, and the key.
pub(crate) fn public_key(certificate: &x509_cert::Certificate) -> Option<(Vec<u8>, Vec<u8>)> {
    let info = &certificate.tbs_certificate.subject_public_key_info;
    Some((contents(&info.algorithm)?, info.subject_public_key.raw_bytes().to_vec()))
}

/// An `AlgorithmIdentifier` without its outer tag and length.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    x509_cert::der::asn1::AnyRef::from_der(&der).ok().map(|any| any.value().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let cases = [
            ("db.example.org", "DB.example.ORG", true),
            ("*.example.org", "db.example.org", true),
            ("*.example.org", "a.db.example.org", false),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", false),
            ("*", "db", false),
            ("*.0.0.1", "127.0.0.1", false),
            ("d*.example.org", "db.example.org", false),
            ("db.example.org\0.evil", "db.example.org", false),
        ];
        for (pattern, host, wanted) in cases {
            assert_eq!(matches_pattern(pattern, host), wanted, "{pattern} {host}");
        }
    }
}
