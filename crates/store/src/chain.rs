//! How entries hang together: what is hashed, and what one entry must fulfil. `docs/format/ledger.md` specifies it.

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use surus_core::proof::{Outcome, Proof};

use crate::{Result, StoreError};

/// The hash before the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An entry as the file or an export has it, not yet believed.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub number: i64,
    pub body: String,
    pub previous_hash: String,
    pub hash: String,
}

/// The columns that repeat parts of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    pub kind: String,
    pub cluster: String,
    pub subject: String,
    pub outcome: String,
    pub started_at: String,
    pub finished_at: String,
    pub expires_at: Option<String>,
}

impl Columns {
    pub(crate) fn of(proof: &Proof) -> Self {
        Self {
            kind: proof.kind.clone(),
            cluster: proof.cluster.clone(),
            subject: proof.subject.clone(),
            outcome: outcome_text(proof.outcome).to_owned(),
            started_at: time_text(proof.started_at),
            finished_at: time_text(proof.finished_at),
            expires_at: proof.expires_at.map(time_text),
        }
    }
}

fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed => "failed",
    }
}

/// A time as the columns have it: always nine digits, so that text order is time order.
pub(crate) fn time_text(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// SHA-256, in lower-case hexadecimal, over previous hash, number and body, each followed by a line feed.
pub(crate) fn hash(previous_hash: &str, number: i64, body: &str) -> String {
    let digest = Sha256::new()
        .chain_update(previous_hash)
        .chain_update(b"\n")
        .chain_update(number.to_string())
        .chain_update(b"\n")
        .chain_update(body)
        .chain_update(b"\n")
        .finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The canonical text of a proof. Refuses one that would not read back the same, such as one with a NaN.
pub(crate) fn body(proof: &Proof) -> Result<String> {
    let refuse = |why: String| StoreError::NotRecordable { why };
    let text = serde_json::to_string(proof).map_err(|error| refuse(error.to_string()))?;
    let back: Proof = serde_json::from_str(&text).map_err(|error| refuse(format!("it does not read back: {error}")))?;
    if back != *proof {
        return Err(refuse("it reads back differently".to_owned()));
    }
    for time in [Some(proof.started_at), Some(proof.finished_at), proof.expires_at].into_iter().flatten() {
        if time.as_second() < YEAR_ZERO {
            return Err(refuse(format!("{time} is before the year 0")));
        }
    }
    Ok(text)
}

/// 0000-01-01T00:00:00Z in seconds since 1970. Years before it are written with a sign, which breaks text order.
const YEAR_ZERO: i64 = -62_167_219_200;

impl Raw {
    /// The proof, when this entry is intact and follows `previous` (number and hash of the entry before it).
    pub(crate) fn check(&self, previous: (i64, &str)) -> std::result::Result<Proof, String> {
        if self.number != previous.0 + 1 {
            return Err(format!("it comes after entry {}", previous.0));
        }
        if self.previous_hash != previous.1 {
            return Err("its previous hash is not the hash of the entry before it".to_owned());
        }
        if self.hash != hash(&self.previous_hash, self.number, &self.body) {
            return Err("its content does not have its hash".to_owned());
        }
        serde_json::from_str(&self.body).map_err(|error| format!("its content is no proof: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number that `printf '%064d\n1\n{}\n' 0 | sha256sum` prints.
    #[test]
    fn the_hash_is_what_sha256sum_says() {
        assert_eq!(hash(GENESIS, 1, "{}"), "2a2d41417df775a4a97eae238ccf98045cb3f7998c01520e99b9b67e8183b053");
    }

    #[test]
    fn time_text_sorts_as_time_does() {
        let times = ["0000-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:01Z"];
        let texts: Vec<_> = times.iter().map(|time| time_text(time.parse().unwrap())).collect();
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(texts[2], "2026-01-01T00:00:00.500000000Z");
        assert_eq!("0000-01-01T00:00:00Z".parse::<Timestamp>().unwrap().as_second(), YEAR_ZERO);
    }
}
