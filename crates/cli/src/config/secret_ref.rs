//! References to secrets: the configuration says where a secret is, never what it is.

use crate::failure::Failure;
use serde::{Deserialize, Deserializer, de::Error};
use surus_core::{code, secret::Secret};

/// The longest secret that is read from a file, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// `env:NAME` or `file:/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRef(String);

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let wrong = |_| D::Error::custom("secrets do not stand in this file: write \"env:NAME\" or \"file:/path\"");
        Self::parse(&String::deserialize(from)?).map_err(wrong)
    }
}

impl SecretRef {
    /// From text. What is wrong does not repeat it: it may be the secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.starts_with("env:") || text.starts_with("file:") {
            true => Ok(Self(text.to_owned())),
            false => Err("a secret is given by reference: env:NAME or file:/path".into()),
        }
    }

    /// As it is written; it is no secret itself.
    pub fn reference(&self) -> &str {
        &self.0
    }

    /// The secret; the file's last line end does not belong to it.
    pub fn resolve(&self, key: &str) -> Result<Secret, Failure> {
        let absent = |why: String| Failure::new(code::SERVE_SECRET, format!("{key}: {}: {why}", self.0));
        let text = match (self.0.strip_prefix("env:"), self.0.strip_prefix("file:")) {
            (Some(name), _) => {
                std::env::var(name).map_err(|_| absent("the environment has no such variable".into()))?
            }
            (None, path) => read(path.unwrap_or_default()).map_err(|error| absent(error.to_string()))?,
        };
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(absent("it is empty".into()));
        }
        Ok(Secret::new(text))
    }
}

fn read(path: &str) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_file_and_never_from_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, " with space \n").unwrap();
        let of = |text: &str| toml::from_str::<std::collections::BTreeMap<String, SecretRef>>(&format!("a = '{text}'"));
        let secret = of(&format!("file:{}", path.display())).unwrap()["a"].resolve("a").unwrap();
        assert_eq!(secret.reveal(), " with space ");
        let message = of("hunter2").unwrap_err().message().to_owned();
        assert!(message.contains("env:NAME") && !message.contains("hunter2"), "{message}");
        assert!(of("env:SURUS_NO_SUCH_VARIABLE").unwrap()["a"].resolve("serve.password").is_err());
    }
}
