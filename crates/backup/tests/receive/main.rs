//! WAL received over the replication protocol from real servers.

mod flow;
mod loss;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use surus_backup::{
    Repo, Result,
    repo::container::Kind,
    wal::receive::{ReceiveOptions, Received, receive},
};
use surus_core::{clock::Deadline, lsn::Lsn, monitor::Silent};
use surus_pg::{Environment, Target};
use surus_testkit::Server;
use tempfile::TempDir;
use tokio::sync::watch;

/// A repository, and the data directory of the surus that receives.
pub struct Site {
    dir: TempDir,
}

impl Site {
    pub fn empty() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn repo(&self) -> Repo {
        Repo::in_folder(&self.dir.path().join("repo")).unwrap()
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// Receives until the position, on a thread of its own.
    pub fn receive(&self, dsn: &str, options: &ReceiveOptions) -> Result<Received> {
        let (_keep, stop) = watch::channel(false);
        run(dsn, &self.dir.path().join("repo"), &self.data(), options, stop)
    }

    /// What the archive holds of the only cluster, by name.
    pub fn archive(&self) -> BTreeMap<String, Vec<u8>> {
        let repo = self.repo();
        let cluster = repo.choose(None).unwrap();
        let names = repo.place().list(&cluster.names.wal_folder(None)).unwrap();
        let content = |object: &str| repo.read(Kind::Wal, object).unwrap().unwrap();
        names.iter().map(|one| (one.name.rsplit('/').next().unwrap().to_owned(), content(&one.name))).collect()
    }

    /// A `surus wal receive` of its own process: this test program, told by its environment what to do.
    pub fn receiver(&self, dsn: &str, synchronous: bool) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "receiver_process", "--ignored", "--nocapture"])
            .env("RECEIVE_DSN", dsn)
            .env("RECEIVE_DIR", self.dir.path())
            .env("RECEIVE_SYNCHRONOUS", if synchronous { "1" } else { "" })
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// Not a test: what the processes of [`Site::receiver`] run.
#[test]
#[ignore = "is run as a process of its own by other tests"]
fn receiver_process() {
    let (Ok(dsn), Ok(dir)) = (std::env::var("RECEIVE_DSN"), std::env::var("RECEIVE_DIR")) else { return };
    let synchronous = std::env::var("RECEIVE_SYNCHRONOUS").is_ok_and(|text| !text.is_empty());
    let options = ReceiveOptions { slot: Some("surus".into()), create_slot: true, synchronous, ..quick() };
    let (_keep, stop) = watch::channel(false);
    let dir = Path::new(&dir);
    run(&dsn, &dir.join("repo"), &dir.join("data"), &options, stop).unwrap();
}

/// Tells the server more often than people need.
pub fn quick() -> ReceiveOptions {
    ReceiveOptions { status_every: Duration::from_millis(300), ..ReceiveOptions::default() }
}

fn run(dsn: &str, repo: &Path, data: &Path, options: &ReceiveOptions, stop: watch::Receiver<bool>) -> Result<Received> {
    let repo = Repo::in_folder(repo)?;
    let target = Target::parse_in(dsn, &Environment::empty().with_user("postgres"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let monitor: Arc<dyn surus_core::monitor::Monitor> = Arc::new(Silent);
    let limited = async {
        let work = receive(&repo, &target, data, options, stop, &monitor);
        tokio::time::timeout(Duration::from_secs(90), work).await.expect("it ends in time")
    };
    runtime.block_on(limited)
}

/// The end of the server's WAL after a switch to a new segment.
pub fn switched(server: &Server) -> Lsn {
    server.sql("SELECT pg_switch_wal()");
    server.value("SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
    server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap()
}

/// Waits for something that comes by itself.
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(60));
    while !there() {
        assert!(!deadline.passed(), "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The files of a directory by name.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}
