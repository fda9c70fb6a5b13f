//! Passwords as the server stores them: does a given password fit? Nothing is sent anywhere.
//!
//! Sources: RFC 5802 and RFC 7677 (SCRAM-SHA-256), PostgreSQL's `scram-common.c` for the stored form, and `md5_crypt`.

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};
use md5::{Digest, Md5};
use std::{fmt, num::NonZeroU32};

/// A stored password, as `pg_authid.rolpassword` has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Verifier {
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
    Scram { iterations: NonZeroU32, salt: Vec<u8>, stored_key: Vec<u8>, server_key: Vec<u8> },
    /// `md5` and the hexadecimal MD5 of the password followed by the role's name.
    Md5 { hash: String },
}

/// Neither of the forms in which PostgreSQL stores passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored password is neither a SCRAM-SHA-256 verifier nor an MD5 hash")]
pub struct UnknownForm;

/// Bytes of a SHA-256 hash.
const KEY_BYTES: usize = 32;

impl Verifier {
    /// Reads a stored password.
    ///
    /// # Errors
    /// When it has another form. Servers before 10 could store the password itself.
    pub fn parse(stored: &str) -> Result<Self, UnknownForm> {
        if let Some(rest) = stored.strip_prefix("SCRAM-SHA-256$") {
            return scram(rest).ok_or(UnknownForm);
        }
        match stored.strip_prefix("md5") {
            Some(hash) if hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self::Md5 { hash: hash.to_ascii_lowercase() })
            }
            _ => Err(UnknownForm),
        }
    }

    /// How often a candidate is hashed: what one comparison costs. 1 for MD5, usually 4096 for SCRAM.
    pub fn iterations(&self) -> u32 {
        match self {
            Self::Scram { iterations, .. } => iterations.get(),
            Self::Md5 { .. } => 1,
        }
    }

    /// Is it the form that is safe to use?
    pub fn is_scram(&self) -> bool {
        matches!(self, Self::Scram { .. })
    }

    /// Is this the role's password?
    pub fn fits(&self, role: &str, password: &str) -> bool {
        match self {
            Self::Scram { iterations, salt, stored_key, .. } => {
                let mut salted = [0; KEY_BYTES];
                let prepared = prepared(password);
                pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, *iterations, salt, prepared.as_bytes(), &mut salted);
                let client_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
                let candidate = digest::digest(&digest::SHA256, client_key.as_ref());
                constant_time::verify_slices_are_equal(candidate.as_ref(), stored_key).is_ok()
            }
            Self::Md5 { hash } => {
                let digest = Md5::new().chain_update(password).chain_update(role).finalize();
                let candidate: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                constant_time::verify_slices_are_equal(candidate.as_bytes(), hash.as_bytes()).is_ok()
            }
        }
    }
}

/// The form only: from the rest, weak passwords can be guessed.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scram { iterations, .. } => write!(f, "Scram {{ iterations: {iterations}, .. }}"),
            Self::Md5 { .. } => f.write_str("Md5 { .. }"),
        }
    }
}

/// What follows `SCRAM-SHA-256$`.
fn scram(text: &str) -> Option<Verifier> {
    let (cost, keys) = text.split_once('$')?;
    let (iterations, salt) = cost.split_once(':')?;
    let (stored_key, server_key) = keys.split_once(':')?;
    let (stored_key, server_key) = (base64(stored_key)?, base64(server_key)?);
    if stored_key.len() != KEY_BYTES || server_key.len() != KEY_BYTES {
        return None;
    }
    Some(Verifier::Scram { iterations: iterations.parse().ok()?, salt: base64(salt)?, stored_key, server_key })
}

/// The password as SCRAM hashes it: normalized by SASLprep (RFC 4013), or as it is when that is not possible, as
/// `pg_be_scram_build_secret` does.
fn prepared(password: &str) -> String {
    if password.is_ascii() {
        return password.to_owned();
    }
    stringprep::saslprep(password).map_or_else(|_| password.to_owned(), std::borrow::Cow::into_owned)
}

/// Decodes base64 with padding (RFC 4648, section 4).
fn base64(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if text.is_empty() || !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0_u32);
    for c in body.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (text, bytes) in [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYmFy", "foobar")] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for wrong in ["", "Zg", "Zg=", "Zh==", "Z===", "Zm9*", "===="] {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_example_of_rfc_7677() {
        // Section 3: user "user", password "pencil". The proof ties the stored key to the published exchange.
        let Some(salt) = base64("W22ZaJ0SNY7soEsUEjb6gQ==") else { panic!("the salt is base64") };
        let mut salted = [0; KEY_BYTES];
        let iterations = NonZeroU32::new(4096).unwrap();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, b"pencil", &mut salted);
        let client_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let messages = "n=user,r=rOprNGfwEbeRWgbNEkqO,\
            r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,\
            c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), messages.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        assert_eq!(Some(proof), base64("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="));
    }

    #[test]
    fn refuses_what_is_no_verifier_and_never_shows_one() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let good = format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}");
        assert_eq!(format!("{:?}", Verifier::parse(&good).unwrap()), "Scram { iterations: 4096, .. }");
        let wrong = [
            "",
            "secret",
            "md5",
            "md5zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
            "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA",
            &good.replace("4096", "0"),
            &good.replace("4096", "x"),
            &good.replace("$4096", ""),
        ];
        for stored in wrong {
            assert_eq!(Verifier::parse(stored), Err(UnknownForm), "{stored}");
        }
    }
}
