//! A server that archives into a repository, and surus beside it, all of one unprivileged account.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use surus_pg::{account::Account, server::running_pid};
use surus_testkit::Server;

pub const SURUS: &str = env!("CARGO_BIN_EXE_surus");

pub struct Room {
    // Field order is drop order: the server stops before its directory goes.
    pub server: Server,
    dir: tempfile::TempDir,
}

impl Room {
    pub fn new(major: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("copies").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Account::unprivileged().unwrap().own(dir.path()).unwrap();
        let repo = dir.path().join("repo");
        let push = format!("{SURUS} wal push --repo {} %p", repo.display());
        let server = Server::builder()
            .major(major)
            .setting("archive_mode", "on")
            .setting("archive_command", &push)
            .setting("wal_level", "logical")
            .setting("autovacuum", "off")
            .start();
        Self { server, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    /// The command without the flags of a repository.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), self.dir.path());
        let own = self.server.programs().bin_dir().display().to_string();
        // An account's own cache of fetched servers is not looked for without its home.
        command.env("SURUS_PG_BIN", own).env("SURUS_DATA_DIR", self.path("state"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub fn surus(&self, arguments: &[&str]) -> Command {
        let mut command = self.bare(arguments);
        command.arg("--repo").arg(self.path("repo")).arg("--scratch").arg(self.scratch());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.surus(arguments).output().unwrap()
    }

    /// What it printed.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(arguments)).unwrap()
    }

    pub fn back_up(&self) {
        let dsn = self.server.dsn("postgres");
        let repo = self.path("repo").display().to_string();
        let output = self.bare(&["backup", "run", "--repo", &repo, "--compress", "none", &dsn]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The time, with a transaction after it.
    pub fn moment(&self) -> String {
        let now = self.server.value("SELECT to_char(clock_timestamp(), 'YYYY-MM-DD HH24:MI:SS.US+00') AS v");
        self.server.sql("CREATE TABLE IF NOT EXISTS later (at timestamptz)");
        self.server.sql("INSERT INTO later VALUES (now())");
        now
    }

    /// Everything that is written is archived.
    pub fn archive_all(&self) {
        let segment = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let done = self.server.data_dir().join(format!("pg_wal/archive_status/{segment}.done"));
        wait_until(&format!("{segment} is archived"), || done.exists());
    }

    /// The copies that are there.
    pub fn places(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.scratch()).into_iter().flatten().flatten();
        let places = entries.map(|entry| entry.path());
        places.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("copy-")).collect()
    }

    /// What the copies say of themselves.
    pub fn marks(&self) -> String {
        let mark = |place: &PathBuf| fs::read_to_string(place.join("surus-copy.json")).unwrap_or_default();
        self.places().iter().map(|place| format!("{}: {}\n", place.display(), mark(place))).collect()
    }

    pub fn running(&self) -> Vec<u32> {
        self.places().iter().filter_map(|place| running_pid(&place.join("data"))).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for place in self.places() {
            surus_pg::server::kill_leftover(&place.join("data"));
        }
    }
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("not within a minute: {what}");
}
