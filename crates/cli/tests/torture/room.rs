//! A server that archives with `surus wal push`, a repository, and restores beside them, all of one account.

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use surus_backup::{
    Repo,
    restore::{start::start, target::Action},
};
use surus_core::{clock::Deadline, monitor::Silent};
use surus_pg::{
    Manners, Rows, Target,
    account::Account,
    server::{LocalServer, Mode},
};
use surus_testkit::{Builder, Server};
use tempfile::TempDir;

pub const SURUS: &str = env!("CARGO_BIN_EXE_surus");

/// How long something that will happen may take on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(120);

/// Marsaglia's xorshift: the same seed gives the same numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below.max(1)
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    pub fn choose<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// A number of the environment.
pub fn wanted(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// A folder that the servers' account owns.
pub fn own_folder() -> TempDir {
    let dir = tempfile::Builder::new().prefix("torture").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let account = Account::unprivileged().unwrap();
    account.own(dir.path()).unwrap();
    fs::create_dir(dir.path().join("run")).unwrap();
    fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o700)).unwrap();
    account.own(&dir.path().join("run")).unwrap();
    dir
}

/// A repository of that account in a new folder.
pub fn make_repository(folder: &Path) {
    Repo::in_folder(folder).unwrap();
    let account = Account::unprivileged().unwrap();
    account.own(folder).unwrap();
    fs::read_dir(folder).unwrap().for_each(|entry| account.own(&entry.unwrap().path()).unwrap());
}

pub struct Room {
    // Field order is drop order: the server stops before the folder goes.
    pub server: Server,
    pub dir: TempDir,
    /// The repository as it is given to `--repo`.
    pub repo: String,
    /// What stands before every command: `--config` and its file, where the repository is one of a name.
    pub first: Vec<String>,
}

impl Room {
    /// A server that archives into this repository. The folder is [`own_folder`]'s.
    pub fn new(builder: Builder, dir: TempDir, repo: &str, first: Vec<String>) -> Self {
        let run = dir.path().join("run");
        // A command that dies by a signal makes the server's archiver pause for ten seconds; the shell says 1 instead.
        let push = format!(
            "SURUS_RUN_DIR={} SURUS_AGENT_IDLE=3 {SURUS} {} wal push --repo {repo} %p || exit 1",
            run.display(),
            first.join(" ")
        );
        let server = builder.setting("archive_mode", "on").setting("archive_command", &push).start();
        Self { server, dir, repo: repo.to_owned(), first }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A command of surus as the server's account. `--repo` comes last.
    pub fn surus(&self, arguments: &[&str]) -> Command {
        let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), Path::new("/tmp"));
        // An account's own cache of fetched servers is not looked for without its home.
        command.env("SURUS_PG_BIN", self.server.programs().bin_dir()).env("NO_COLOR", "1");
        command.env("SURUS_RUN_DIR", self.path("run")).env("SURUS_AGENT_IDLE", "3");
        command.args(&self.first).args(arguments).arg("--repo").arg(&self.repo).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.surus(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and reads its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text_of(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn back_up(&self, more: &[&str]) -> Value {
        self.json(&[&["backup", "run"], more, &[self.server.dsn("postgres").as_str()]].concat())
    }

    /// All that was written so far is in the archive, as the server was told.
    pub fn wait_archived(&self) {
        // Without something written since the last switch there would be nothing to switch.
        self.server.sql("SELECT pg_logical_emit_message(true, 'test', 'the last')");
        let last = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let seen = format!("SELECT coalesce(max(last_archived_wal) >= '{last}', false) AS v FROM pg_stat_archiver");
        let deadline = Deadline::after(WITHIN);
        while self.server.value(&seen) != "t" {
            assert!(!deadline.passed(), "{last} was not archived: {}", self.server.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The files of which the server was told, as far as it still knows, that they are archived.
    pub fn acknowledged(&self) -> BTreeSet<String> {
        let names = fs::read_dir(self.server.data_dir().join("pg_wal/archive_status")).unwrap();
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".done").map(str::to_owned)).collect()
    }

    /// pg_verifybackup of the same major, where it is here and runs.
    pub fn verify_with_postgresql(&self, data: &Path) {
        let Ok(mut command) = self.server.local().program("pg_verifybackup") else { return };
        let output = command.args(["--no-parse-wal", "--exit-on-error"]).arg(data).output().unwrap();
        // One of the packages holds a program that crashes at once, whatever it is given.
        if output.status.code().is_some() {
            assert!(output.status.success(), "{}: {}", data.display(), text_of(&output));
        }
    }

    /// Starts what was restored and waits until it has come to its target.
    pub fn start(&self, data: &Path) -> surus_backup::Result<LocalServer> {
        start(self.server.programs(), data, None, Action::Promote, WITHIN, &Silent).map(|(server, _)| server)
    }

    /// Takes away what was restored.
    pub fn remove(&self, data: &Path) {
        // An agent may be ending in it.
        let deadline = Deadline::after(WITHIN);
        while let Err(error) = fs::remove_dir_all(data) {
            assert!(!deadline.passed(), "{}: {error}", data.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

pub fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

pub fn ask(dsn: &str, sql: &str) -> Rows {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = Target::parse(dsn).unwrap().connect(&Manners::changing()).await.unwrap();
        session.run("RESET ALL").await.unwrap();
        let rows = session.ask(sql).await.unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
        session.close().await;
        rows
    })
}

pub fn value(dsn: &str, sql: &str) -> String {
    ask(dsn, sql).first().unwrap().text("v").unwrap()
}

/// Every page and every B-tree of a restored server, looked at by PostgreSQL's own amcheck where it is installed.
pub fn amcheck(dsn: &str) {
    let there = "SELECT count(*)::text AS v FROM pg_available_extensions WHERE name = 'amcheck'";
    if value(dsn, there) != "1" {
        return;
    }
    ask(dsn, "CREATE EXTENSION IF NOT EXISTS amcheck");
    let heap = "SELECT count(*)::text AS v FROM pg_class c, verify_heapam(c.oid) \
                WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence = 'p'";
    assert_eq!(value(dsn, heap), "0");
    let index = "SELECT count(bt_index_check(c.oid, true)::text)::text AS v FROM pg_class c \
                 JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam \
                 WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid";
    assert!(value(dsn, index).parse::<u32>().unwrap() > 50);
}

/// Ends a restored server that was looked at.
pub fn end(mut server: LocalServer) {
    server.stop(Mode::Immediate).unwrap();
}
