//! A server that archives with `surus wal push`, a copy of it from before, and servers that recover from the archive.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};
use surus_backup::{Cluster, Repo};
use surus_core::clock::Deadline;
use surus_pg::{
    Manners, Target,
    account::Account,
    server::{LocalServer, Mode},
};
use surus_testkit::{Builder, Server};
use tempfile::TempDir;

/// How long something that will happen may take on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(90);

/// A folder that the servers' account may enter, with a repository and an agent's directory.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(place.dir.path(), Permissions::from_mode(0o755)).unwrap();
        Repo::in_folder(&place.repo()).unwrap();
        fs::create_dir(place.run()).unwrap();
        fs::set_permissions(place.run(), Permissions::from_mode(0o700)).unwrap();
        own(place.dir.path());
        place
    }

    pub fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    /// Where agents are.
    pub fn run(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A shell command for a server.
    pub fn command(&self, verb: &str, rest: &str) -> String {
        let (run, repo) = (self.run(), self.repo());
        let (run, repo, surus) = (run.display(), repo.display(), env!("CARGO_BIN_EXE_surus"));
        format!("SURUS_RUN_DIR={run} SURUS_AGENT_IDLE=3 {surus} wal {verb} --repo {repo} {rest}")
    }

    /// The numbers of agents that were here last.
    pub fn agents(&self) -> Vec<i32> {
        let files = fs::read_dir(self.run()).unwrap().map(|entry| entry.unwrap().path());
        let locks = files.filter(|path| path.extension().is_some_and(|end| end == "lock"));
        locks.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).collect()
    }

    /// What agents have said.
    pub fn agents_log(&self) -> String {
        let files = fs::read_dir(self.run()).unwrap().map(|entry| entry.unwrap().path());
        let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    pub fn cluster(&self, server: &Server) -> Cluster {
        let system = server.value("SELECT system_identifier AS v FROM pg_control_system()");
        Repo::in_folder(&self.repo()).unwrap().cluster(system.parse().unwrap())
    }
}

/// Gives a folder and all in it to the account that servers run as.
pub fn own(folder: &Path) {
    let account = Account::unprivileged().unwrap();
    let owner = format!("{}:{}", account.uid(), account.gid());
    assert!(Command::new("chown").arg("-R").arg(owner).arg(folder).status().unwrap().success());
}

/// A server that archives, and its data directory from before anything was done.
pub struct Scene {
    pub place: Place,
    pub server: Server,
    base: PathBuf,
}

impl Scene {
    pub fn new(builder: Builder) -> Self {
        let place = Place::new();
        let command = place.command("push", "%p");
        let builder = builder.setting("archive_mode", "on").setting("archive_command", &command);
        let mut server = builder.setting("max_wal_size", "1GB").start();
        let base = place.dir.path().join("base");
        server.local_mut().stop(Mode::Fast).unwrap();
        copy(server.data_dir(), &base);
        server.local_mut().start(WITHIN).unwrap();
        Self { place, server, base }
    }

    /// Waits until all that was written is in the archive.
    pub fn wait_archived(&self) {
        // Without something written since the last switch there would be nothing to switch.
        self.server.sql("SELECT pg_logical_emit_message(true, 'test', 'the last')");
        let last = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let deadline = Deadline::after(WITHIN);
        let seen = format!("SELECT coalesce(max(last_archived_wal) >= '{last}', false) AS v FROM pg_stat_archiver");
        while self.server.value(&seen) != "t" {
            assert!(!deadline.passed(), "{last} was not archived: {}", self.server.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A server that is to recover from the archive, not started yet.
    pub fn recovering(&self, name: &str, settings: &[(&str, &str)]) -> LocalServer {
        let dir = self.place.dir.path().join(name);
        fs::create_dir(&dir).unwrap();
        copy(&self.base, &dir.join("data"));
        own(&dir);
        let local = LocalServer::adopt(self.server.programs(), &dir, "postgres").unwrap();
        local.write_settings(&[("archive_mode", "off"), ("recovery_target_action", "promote")]).unwrap();
        local.write_settings(settings).unwrap();
        local.write_private(&local.data_dir().join("recovery.signal"), "").unwrap();
        local
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The first column, named `v`, of a server's answer.
pub fn ask(local: &LocalServer, sql: &str) -> String {
    let target = Target::parse(&local.dsn("postgres", "postgres")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = target.connect(&Manners::changing()).await.unwrap();
        let answer = session.ask(sql).await.unwrap().first().unwrap().text("v").unwrap();
        session.close().await;
        answer
    })
}
