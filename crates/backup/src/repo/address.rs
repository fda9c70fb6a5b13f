//! Where a repository is, as a user writes it: a folder, or a bucket with a folder in it. Never with a password.

use super::place::is_name;
use crate::error::{BackupError, Result};
use std::{fmt, path::PathBuf, str::FromStr};
use surus_core::code;

/// The address of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    Folder(PathBuf),
    Bucket(BucketAddress),
}

/// Which protocol an object store speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and every store that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Google,
    /// Azure Blob Storage.
    Azure,
}

/// A bucket (Azure: a container), and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    pub service: Service,
    pub bucket: String,
    /// The folder in it, without `/` at its ends; empty for all of it.
    pub folder: String,
    /// Of a store other than the provider's own: `https://minio.example:9000`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// The bucket's name in the path, not in the host name. What an endpoint of one's own usually needs.
    pub path_style: Option<bool>,
    /// Azure's storage account.
    pub account: Option<String>,
}

impl Service {
    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Google => "gs",
            Self::Azure => "azure",
        }
    }
}

impl FromStr for Address {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Self> {
        // An address that may hold a password is never repeated.
        let service = match text.split_once("://") {
            None if text.trim().is_empty() => return Err(wrong("the repository's address is empty".into())),
            None => return Ok(Self::Folder(PathBuf::from(text))),
            Some(("file", path)) if path.starts_with('/') => return Ok(Self::Folder(PathBuf::from(path))),
            Some(("s3", rest)) => (Service::S3, rest),
            Some(("gs", rest)) => (Service::Google, rest),
            Some(("azure" | "az", rest)) => (Service::Azure, rest),
            Some(_) => {
                let text = "a repository is a folder, file:///folder, s3://…, gs://… or azure://…";
                return Err(wrong(text.into()));
            }
        };
        bucket(service.0, service.1).map(Self::Bucket)
    }
}

fn bucket(service: Service, rest: &str) -> Result<BucketAddress> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if path.contains('@') {
        return Err(wrong(NO_SECRETS.into()));
    }
    let (bucket, folder) = path.split_once('/').unwrap_or((path, ""));
    let folder = folder.trim_matches('/');
    if !is_name(bucket) || !(folder.is_empty() || is_name(folder)) {
        let text =
            format!("{}://{path} is not {0}://bucket/folder in letters, digits, '.', '_' and '-'", service.scheme());
        return Err(wrong(text));
    }
    let mut address = BucketAddress {
        service,
        bucket: bucket.to_owned(),
        folder: folder.to_owned(),
        endpoint: None,
        region: None,
        path_style: None,
        account: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(&mut address, key, &decoded(value)?)?;
    }
    address.judged()
}

fn set(address: &mut BucketAddress, key: &str, value: &str) -> Result<()> {
    match key {
        "endpoint" => address.endpoint = Some(value.trim_end_matches('/').to_owned()),
        "region" => address.region = Some(value.to_owned()),
        "path_style" => {
            let truth = value.parse().map_err(|_| wrong("path_style is true or false".into()))?;
            address.path_style = Some(truth);
        }
        "account" => address.account = Some(value.to_owned()),
        secret if ["key", "secret", "token", "password", "sig"].iter().any(|word| secret.contains(word)) => {
            return Err(wrong(NO_SECRETS.into()));
        }
        other => return Err(wrong(format!("{other:?} is none of endpoint, region, path_style, account"))),
    }
    Ok(())
}

const NO_SECRETS: &str = "credentials do not stand in a repository's address: they come from the environment \
                          (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their like), or from surus.toml by reference";

impl BucketAddress {
    /// The address, when it makes sense.
    ///
    /// # Errors
    /// What does not.
    pub fn judged(self) -> Result<Self> {
        if let Some(endpoint) = &self.endpoint {
            let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            match host {
                Some(host) if host.contains(['@', '?', '#']) => return Err(wrong(NO_SECRETS.into())),
                Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => {}
                _ => return Err(wrong("an endpoint begins with http:// or https://".into())),
            }
        }
        Ok(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.service.scheme(), self.bucket)?;
        if !self.folder.is_empty() {
            write!(f, "/{}", self.folder)?;
        }
        let path_style = self.path_style.map(|truth| truth.to_string());
        let pairs = [
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("path_style", &path_style),
            ("account", &self.account),
        ];
        let mut before = '?';
        for (key, value) in pairs {
            if let Some(value) = value {
                write!(f, "{before}{key}={value}")?;
                before = '&';
            }
        }
        Ok(())
    }
}

/// `%2F` and its like as the characters they stand for.
fn decoded(text: &str) -> Result<String> {
    let odd = || wrong("a % in the address is not followed by two hexadecimal digits".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(odd)?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| odd())?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| odd())
}

fn wrong(text: String) -> BackupError {
    BackupError::refused(code::REPO_ADDRESS, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address> {
        text.parse()
    }

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in [
            "/srv/repo",
            "repo",
            "s3://shop",
            "s3://shop/pg/main",
            "s3://shop/pg?endpoint=http://127.0.0.1:9000&region=eu-1&path_style=true",
            "gs://shop/pg",
            "azure://shop/pg?account=shopstore",
        ] {
            assert_eq!(read(text).unwrap().to_string(), text);
        }
        assert_eq!(read("file:///srv/repo").unwrap(), Address::Folder("/srv/repo".into()));
        let Address::Bucket(bucket) = read("s3://b/f/?endpoint=http%3A%2F%2Fhost%3A9000/").unwrap() else { panic!() };
        assert_eq!((bucket.folder.as_str(), bucket.endpoint.as_deref()), ("f", Some("http://host:9000")));
    }

    #[test]
    fn a_secret_in_an_address_is_refused_and_not_repeated() {
        for text in [
            "s3://AKIA:hunter2@bucket/pg",
            "s3://bucket/pg?secret_key=hunter2",
            "s3://bucket/pg?AWS_SECRET_ACCESS_KEY=hunter2&x=secret",
            "azure://c/pg?sig=hunter2",
            "s3://bucket/pg?endpoint=https://a:hunter2@host",
            "https://user:hunter2@host/bucket",
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), code::REPO_ADDRESS, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "s3://",
            "s3:///x",
            "s3://b/../x",
            "s3://b/a b",
            "s3://b?endpoint=host",
            "s3://b?path_style=1",
            "s3://b?nonsense=1",
            "ftp://b/x",
            "file://host/x",
            "s3://b?region=%zz",
        ] {
            assert_eq!(read(text).unwrap_err().code(), code::REPO_ADDRESS, "{text:?}");
        }
    }
}
