//! TLS for the demo: a certificate authority of its own and a certificate for localhost.

use crate::failure::Failure;
use jiff::ToSpan;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use surus_core::clock;

/// How long the certificates are good. Longer than anybody runs a demo, and not about to end.
const DAYS: i64 = 365;

/// Everything in PEM. The authority's key is forgotten: nothing else is ever signed with it.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub root: String,
    pub server: String,
    pub server_key: String,
}

impl Certificates {
    /// New ones, for localhost, 127.0.0.1 and ::1.
    pub fn make() -> Result<Self, Failure> {
        Self::signed().map_err(|error| Failure::bug(format!("the demo's certificates were not made: {error}")))
    }

    fn signed() -> Result<Self, Box<dyn std::error::Error>> {
        let mut authority = params(Vec::new(), "surus demo CA")?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority_key = KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?.pem();
        let issuer = Issuer::new(authority, authority_key);
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let mut server = params(names, "localhost")?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = server.signed_by(&key, &issuer)?.pem();
        Ok(Self { root, server: certificate, server_key: key.serialize_pem() })
    }
}

fn params(names: Vec<String>, common_name: &str) -> Result<CertificateParams, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    let day = |offset: i64| {
        let at = clock::now().checked_add((24 * offset).hours())?.to_zoned(jiff::tz::TimeZone::UTC);
        Ok::<_, jiff::Error>(rcgen::date_time_ymd(i32::from(at.year()), at.month() as u8, at.day() as u8))
    };
    (params.not_before, params.not_after) = (day(-1)?, day(DAYS)?);
    Ok(params)
}
