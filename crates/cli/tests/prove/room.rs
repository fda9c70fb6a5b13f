//! A server that archives into a repository with surus, all of one unprivileged account; drills of it.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use surus_pg::account::Account;
use surus_testkit::Server;

pub const SURUS: &str = env!("CARGO_BIN_EXE_surus");

pub struct Room {
    pub server: Server,
    pub dir: tempfile::TempDir,
}

impl Room {
    pub fn new(major: u16) -> Self {
        Self::with(major, true)
    }

    pub fn with(major: u16, checksums: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("prove").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Account::unprivileged().unwrap().own(dir.path()).unwrap();
        let push = format!("{SURUS} wal push --repo {} %p", dir.path().join("repo").display());
        let server = Server::builder()
            .major(major)
            .checksums(checksums)
            .setting("archive_mode", "on")
            .setting("archive_command", &push)
            .setting("autovacuum", "off")
            .start();
        server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 20000) g");
        server.sql("ALTER TABLE t ADD PRIMARY KEY (id)");
        let room = Self { server, dir };
        room.configure("");
        room
    }

    /// The configuration: the server as the target shop, the repository, and more.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "data_dir = '{}'\n[[target]]\nname = 'shop'\ndsn = '{}'\n{more}\n[[repository]]\nname = 'main'\nplace = '{}'\n",
            self.path("state").display(),
            self.server.dsn("postgres"),
            self.path("repo").display()
        );
        // What belongs to the target stands before the next table.
        fs::write(self.path("surus.toml"), text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn surus(&self, arguments: &[&str]) -> Command {
        let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), Path::new("/tmp"));
        // An account's own cache of fetched servers is not looked for without its home.
        command.env("SURUS_PG_BIN", self.server.programs().bin_dir());
        command.arg("--config").arg(self.path("surus.toml")).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.surus(arguments).output().unwrap()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", text_of(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn back_up(&self) {
        self.json(&["backup", "run", "--repo", "main", "--compress", "none", "shop"]);
    }

    /// A drill in a scratch place of the room's own.
    pub fn drill(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let scratch = self.path("copies");
        let first = ["prove", "restore", "shop", "--reserve", "1kB", "--format", "json", "--scratch"];
        let mut command = self.surus(&first);
        let output = command.arg(&scratch).args(arguments).output().unwrap();
        let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::String(text_of(&output)));
        (output.status.code(), value)
    }

    /// Whatever was written so far is in the repository.
    pub fn switch_wal(&self) {
        let segment = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let done = self.server.data_dir().join(format!("pg_wal/archive_status/{segment}.done"));
        for _ in 0..600 {
            if done.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("{segment} was not archived");
    }

    /// Nothing of a copy is there any more.
    pub fn scratch_is_empty(&self) -> bool {
        fs::read_dir(self.path("copies")).map_or(true, |mut entries| entries.next().is_none())
    }
}

pub fn text_of(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

/// A step of a drill's report.
pub fn step<'a>(value: &'a Value, name: &str) -> &'a Value {
    let steps = value["report"]["steps"].as_array().unwrap_or_else(|| panic!("{value}"));
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {value:#}"))
}
