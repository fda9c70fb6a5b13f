//! Which repository a command works on.

use crate::{
    config::{Config, RepositoryConfig, SecretRef},
    failure::Failure,
};
use clap::Args;
use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc};
use surus_backup::{
    BackupError, Cluster, Repo,
    repo::{
        address::Address,
        keys::UserKey,
        local::LocalPlace,
        object::Credentials,
        place::{Place, PlaceError},
        place_at,
    },
};
use surus_core::code;
use surus_pg::account::Account;

/// The flags of every command that needs a repository.
#[derive(Debug, Clone, Args)]
pub struct RepoArgs {
    /// The repository: a folder, s3://BUCKET/FOLDER, gs://…, azure://…, or its name in surus.toml
    #[arg(long, value_name = "PLACE", env = "SURUS_REPO")]
    pub repo: String,
    /// The key of an encrypted repository, by reference: file:/PATH or env:NAME
    #[arg(long = "repo-key", alias = "key", value_name = "REF", env = "SURUS_REPO_KEY")]
    pub key: Option<String>,
    /// The cluster's system identifier, when the repository holds several
    #[arg(long, value_name = "N")]
    pub cluster: Option<u64>,
}

/// Where a repository is, and what is needed to get in.
struct Way {
    address: Address,
    credentials: Credentials,
    key: Option<UserKey>,
}

impl RepoArgs {
    /// Opens the repository, which must be there.
    pub fn open(&self) -> Result<Repo, Failure> {
        let way = self.way()?;
        Ok(Repo::unlock(place_at(&way.address, &way.credentials)?, way.key.as_ref())?)
    }

    /// Opens the repository where there is one.
    pub fn find(&self) -> Result<Option<Repo>, Failure> {
        match self.open() {
            Err(failure) if failure.code == code::REPO_ABSENT => Ok(None),
            other => other.map(Some),
        }
    }

    /// Opens the repository, or makes it: encrypted, when a key is given.
    pub fn open_or_create(&self) -> Result<Repo, Failure> {
        let way = self.way()?;
        if let Address::Folder(folder) = &way.address {
            make_folder(folder)?;
        }
        Ok(Repo::unlock_or_create(place_at(&way.address, &way.credentials)?, way.key.as_ref())?)
    }

    /// Opens the repository and chooses the cluster in it.
    pub fn open_cluster(&self) -> Result<Cluster, Failure> {
        Ok(self.open()?.choose(self.cluster)?)
    }

    /// The place alone, and the user's key: for what is done with keys themselves.
    pub fn place_and_key(&self) -> Result<(Arc<dyn Place>, Option<UserKey>), Failure> {
        let way = self.way()?;
        Ok((place_at(&way.address, &way.credentials)?, way.key))
    }

    /// The same flags for a command that somebody else runs, from another directory.
    pub fn words(&self) -> Vec<String> {
        let absolute = |path: &str| match std::path::absolute(path) {
            Ok(path) => path.display().to_string(),
            Err(_) => path.to_owned(),
        };
        let named = !self.repo.contains('/') && !std::path::Path::new(&self.repo).is_dir();
        let place = if named || self.repo.contains("://") { self.repo.clone() } else { absolute(&self.repo) };
        let mut words = vec!["--repo".to_owned(), place];
        if let Some(key) = &self.key {
            let key = key.strip_prefix("file:").map_or_else(|| key.clone(), |path| format!("file:{}", absolute(path)));
            words.extend(["--repo-key".to_owned(), key]);
        }
        words
    }

    fn way(&self) -> Result<Way, Failure> {
        let mut way = self.place_of()?;
        if let Some(reference) = &self.key {
            way.key = Some(user_key("--repo-key", reference)?);
        }
        Ok(way)
    }

    /// A name of surus.toml, else an address. A folder with `/` in it is never looked up: pushing WAL should not depend
    /// on a file that somebody edits.
    fn place_of(&self) -> Result<Way, Failure> {
        if !self.repo.contains('/') {
            let config = Config::load(None)?;
            if let Some(named) = config.repository.iter().find(|one| one.name == self.repo) {
                return Ok(Way {
                    address: named.address()?,
                    credentials: named.credentials()?,
                    key: named.user_key()?,
                });
            }
        }
        Ok(Way { address: self.repo.parse()?, credentials: Credentials::default(), key: None })
    }
}

/// Makes the folder where there is none. What root makes in a folder of his own would be his alone, and the server
/// whose WAL is to go there could not write it.
fn make_folder(folder: &Path) -> Result<(), Failure> {
    // Those above it are made, too, and they are found only in a whole path.
    let folder = &std::path::absolute(folder).map_err(BackupError::file("cannot find", folder))?;
    let new = !folder.exists();
    LocalPlace::new(folder.to_owned()).make()?;
    let server = Account::unprivileged().ok().filter(|account| account.name() == Some("postgres"));
    if let Some(account) = server.filter(|_| new && owned_by_root(folder)) {
        account.own(folder).map_err(BackupError::from)?;
    }
    Ok(())
}

/// Is it root's?
pub fn owned_by_root(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|about| about.uid() == 0)
}

/// Opens the repository that a flag names; its key is that of SURUS_REPO_KEY, when it has one.
pub fn open_place(place: &str) -> Result<Repo, Failure> {
    RepoArgs { repo: place.to_owned(), key: std::env::var("SURUS_REPO_KEY").ok(), cluster: None }.open()
}

/// Opens a repository of the configuration.
pub fn open_configured(one: &RepositoryConfig) -> Result<Repo, Failure> {
    Ok(Repo::unlock(place_at(&one.address()?, &one.credentials()?)?, one.user_key()?.as_ref())?)
}

/// The key that a reference leads to. A wrong reference is not repeated: it may be the key.
pub fn user_key(flag: &str, reference: &str) -> Result<UserKey, Failure> {
    let wrong = |why: String| Failure::new(code::REPO_KEY, format!("{flag}: {why}"));
    let key = SecretRef::parse(reference).map_err(wrong)?.resolve(flag)?;
    Ok(UserKey::from_text(&key)?)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<PlaceError> for Failure {
    fn from(error: PlaceError) -> Self {
        BackupError::from(error).into()
    }
}
