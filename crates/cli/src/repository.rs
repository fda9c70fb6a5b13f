//! Which repository a command works on.

use crate::failure::Failure;
use clap::Args;
use std::path::Path;
use surus_backup::{BackupError, Cluster, Repo, repo::keys::KeyRing, repo::local::LocalPlace};
use surus_core::code;

/// The flags of every command that needs a repository.
#[derive(Debug, Clone, Args)]
pub struct RepoArgs {
    /// The repository: a folder
    #[arg(long, value_name = "PLACE", env = "SURUS_REPO")]
    pub repo: String,
    /// The cluster's system identifier, when the repository holds several
    #[arg(long, value_name = "N")]
    pub cluster: Option<u64>,
}

impl RepoArgs {
    /// Opens the repository, which must be there.
    pub fn open(&self) -> Result<Repo, Failure> {
        let place = LocalPlace::new(self.folder()?.to_owned());
        Ok(Repo::open(std::sync::Arc::new(place), KeyRing::open())?)
    }

    /// Opens the repository, or makes it.
    pub fn open_or_create(&self) -> Result<Repo, Failure> {
        Ok(Repo::in_folder(self.folder()?)?)
    }

    /// Opens the repository and chooses the cluster in it.
    pub fn open_cluster(&self) -> Result<Cluster, Failure> {
        Ok(self.open()?.choose(self.cluster)?)
    }

    fn folder(&self) -> Result<&Path, Failure> {
        match self.repo.contains("://") {
            true => Err(Failure::new(code::REPO_ADDRESS, format!("{} is no folder", self.repo))),
            false => Ok(Path::new(&self.repo)),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
