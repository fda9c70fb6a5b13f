//! A server and a repository for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use surus_backup::{
    Cluster, Repo,
    restore::{Plan, RestoreOptions, directory::SpaceMap, target::RecoveryTarget},
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
        self.take_into(&self.repo, options, Arc::new(Silent))
    }

    /// Takes a backup; gives also what was said on the way.
    pub fn take_noting(&self, options: &TakeOptions) -> (Taken, Vec<String>) {
        self.take_as("postgres", options)
    }

    /// As [`Scene::take_noting`], with a role that needs no password.
    pub fn take_as(&self, role: &str, options: &TakeOptions) -> (Taken, Vec<String>) {
        let notes = Arc::new(Notes::default());
        let dsn = self.server.dsn_as(role, "", "postgres");
        let taken = take_from(&dsn, &self.repo, options, notes.clone()).unwrap();
        let notes = std::mem::take(&mut *notes.0.lock().unwrap());
        (taken, notes)
    }

    pub fn take_into(
        &self,
        repo: &Repo,
        options: &TakeOptions,
        monitor: Arc<dyn Monitor>,
    ) -> surus_backup::Result<Taken> {
        take_from(&self.server.dsn("postgres"), repo, options, monitor)
    }

    pub fn take(&self, options: &TakeOptions) -> Taken {
        self.try_take(options).unwrap()
    }
}

fn take_from(dsn: &str, repo: &Repo, options: &TakeOptions, monitor: Arc<dyn Monitor>) -> surus_backup::Result<Taken> {
    let target = Target::parse(dsn).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(take(repo, &target, options, &monitor))
}

/// Keeps what is said.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Monitor for Notes {
    fn begin(&self, _: &str, _: Option<u64>) {}
    fn advance(&self, _: &str, _: u64) {}
    fn end(&self, _: &str, _: &str) {}
    fn note(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// Restores the backup with this label, or the newest; gives a checksum of every file that was written, but of the one
/// that holds the time.
pub fn restored(cluster: &Cluster, backup: Option<&str>, to: &Path) -> surus_backup::Result<BTreeMap<String, u32>> {
    let options = RestoreOptions {
        to: to.to_owned(),
        backup: backup.map(str::to_owned),
        target: RecoveryTarget::default(),
        delta: false,
        spaces: SpaceMap::default(),
        workers: 2,
        fetch: vec!["/bin/false".into()],
        keep_archiving: false,
        durable: true,
    };
    Plan::make(cluster, &options)?.carry_out(&Silent)?;
    let mut sums = BTreeMap::new();
    content(to, to, &mut sums);
    Ok(sums)
}

fn content(folder: &Path, top: &Path, into: &mut BTreeMap<String, u32>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            content(&path, top, into);
        } else if !path.ends_with("backup_manifest") {
            let name = path.strip_prefix(top).unwrap().display().to_string();
            into.insert(name, crc32c::crc32c(&fs::read(&path).unwrap()));
        }
    }
}
