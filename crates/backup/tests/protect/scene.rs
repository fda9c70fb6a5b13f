//! A server and a repository for it.

use std::{path::PathBuf, sync::Arc};
use surus_backup::{
    Cluster, Repo,
    take::{TakeOptions, Taken, take},
};
use surus_core::monitor::{Monitor, Silent};
use surus_pg::Target;
use surus_testkit::Server;

pub struct Scene {
    pub server: Server,
    pub repo: Repo,
    dir: tempfile::TempDir,
}

impl Scene {
    /// A server of this major, which must be installed, with page checksums.
    pub fn new(major: u16) -> Self {
        Self::with(Server::builder().major(major).checksums(true).start())
    }

    pub fn with(server: Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        Self { server, repo, dir }
    }

    /// Where the repository is.
    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub fn system(&self) -> u64 {
        self.server.value("SELECT system_identifier AS v FROM pg_control_system()").parse().unwrap()
    }

    pub fn cluster(&self) -> Cluster {
        self.repo.cluster(self.system())
    }

    pub fn try_take(&self, options: &TakeOptions) -> surus_backup::Result<Taken> {
        let target = Target::parse(&self.server.dsn("postgres")).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        runtime.block_on(take(&self.repo, &target, options, &monitor))
    }

    pub fn take(&self, options: &TakeOptions) -> Taken {
        self.try_take(options).unwrap()
    }
}
