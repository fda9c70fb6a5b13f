//! `[[repository]]`: where backups and WAL are kept.

use super::secret_ref::SecretRef;
use crate::failure::Failure;
use serde::Deserialize;
use surus_backup::{
    BackupError,
    repo::{
        address::{Address, Service},
        keys::UserKey,
        object::Credentials,
    },
};

/// A `[[repository]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryConfig {
    /// What `--repo` calls it.
    pub name: String,
    /// A folder, or `s3://bucket/folder` and its like.
    pub place: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub path_style: Option<bool>,
    /// Azure's storage account.
    pub account: Option<String>,
    pub access_key: Option<SecretRef>,
    pub secret_key: Option<SecretRef>,
    pub session_token: Option<SecretRef>,
    /// What it is encrypted with.
    pub key: Option<SecretRef>,
}

impl RepositoryConfig {
    /// Where it is, with everything that the section says of the way there.
    ///
    /// # Errors
    /// When that makes no sense.
    pub fn address(&self) -> Result<Address, BackupError> {
        let mut bucket = match self.place.parse()? {
            Address::Bucket(bucket) => bucket,
            folder => return Ok(folder),
        };
        bucket.endpoint = self.endpoint.clone().or(bucket.endpoint);
        bucket.region = self.region.clone().or(bucket.region);
        bucket.path_style = self.path_style.or(bucket.path_style);
        bucket.account = self.account.clone().or(bucket.account);
        bucket.judged().map(Address::Bucket)
    }

    /// What proves who is asking.
    ///
    /// # Errors
    /// When a reference leads nowhere.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        let secret = |key: &str, of: &Option<SecretRef>| {
            of.as_ref().map(|of| of.resolve(&format!("repository \"{}\", {key}", self.name))).transpose()
        };
        Ok(Credentials {
            access_key: secret("access_key", &self.access_key)?,
            secret_key: secret("secret_key", &self.secret_key)?,
            session_token: secret("session_token", &self.session_token)?,
        })
    }

    /// The user's key, when the repository is encrypted.
    ///
    /// # Errors
    /// When the reference leads nowhere, or to no key.
    pub fn user_key(&self) -> Result<Option<UserKey>, Failure> {
        let Some(of) = &self.key else { return Ok(None) };
        Ok(Some(UserKey::from_text(&of.resolve(&format!("repository \"{}\", key", self.name))?)?))
    }

    /// What is wrong with it.
    pub fn judge(&self) -> Result<(), String> {
        let wrong = |why: String| Err(format!("repository \"{}\": {why}", self.name));
        if self.name.contains(['/', ':']) {
            return wrong("a name has neither '/' nor ':', which make an address".into());
        }
        let service = match self.address() {
            Err(error) => return wrong(error.to_string()),
            Ok(Address::Bucket(bucket)) => Some(bucket.service),
            Ok(Address::Folder(folder)) if !folder.is_absolute() => {
                return wrong("its folder must be an absolute path: commands run in many places".into());
            }
            Ok(Address::Folder(_)) => None,
        };
        let of_buckets = self.endpoint.is_some() || self.region.is_some() || self.path_style.is_some();
        if service.is_none() && (of_buckets || self.access_key.is_some() || self.secret_key.is_some()) {
            return wrong("a folder has no endpoint, region or credentials".into());
        }
        if service == Some(Service::S3) && self.access_key.is_some() != self.secret_key.is_some() {
            return wrong("access_key and secret_key go together".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RepositoryConfig {
        toml::from_str(&format!("name = 'main'\n{text}")).unwrap()
    }

    #[test]
    fn the_section_completes_the_address() {
        let config = read("place = 's3://shop/pg'\nendpoint = 'http://127.0.0.1:9000'\nregion = 'eu-1'\n");
        assert_eq!(config.judge(), Ok(()));
        let address = config.address().unwrap().to_string();
        assert_eq!(address, "s3://shop/pg?endpoint=http://127.0.0.1:9000&region=eu-1");
        assert!(config.credentials().unwrap().secret_key.is_none() && config.user_key().unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, why) in [
            ("place = 'repo'", "absolute path"),
            ("place = 's3://shop'\nendpoint = 'minio:9000'", "http://"),
            ("place = '/srv/repo'\nregion = 'x'", "a folder has no"),
            ("place = 's3://a:hunter2@b/x'", "do not stand in"),
            ("place = 's3://b'\naccess_key = 'env:X'", "go together"),
        ] {
            let said = read(text).judge().unwrap_err();
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn its_key_is_read_by_reference() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "short\n").unwrap();
        let config = read(&format!("place = '/srv/repo'\nkey = 'file:{}'", path.display()));
        assert_eq!(config.user_key().unwrap_err().code, surus_core::code::REPO_KEY);
        std::fs::write(&path, "correct horse battery staple\n").unwrap();
        assert!(config.user_key().unwrap().is_some());
    }
}
