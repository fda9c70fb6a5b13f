//! `surus restore` as a program: with `surus wal push` and `surus wal get` on the server's side, and killed half-way.

use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use surus_pg::{
    account::Account,
    server::{LocalServer, running_pid},
};
use surus_testkit::{Server, require_major};

const SURUS: &str = env!("CARGO_BIN_EXE_surus");

/// A server that archives into a repository with surus, all of one unprivileged account.
struct Room {
    server: Server,
    dir: tempfile::TempDir,
}

impl Room {
    fn new(major: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("restore").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let account = Account::unprivileged().unwrap();
        account.own(dir.path()).unwrap();
        let repo = dir.path().join("repo");
        let push = format!("{SURUS} wal push --repo {} %p", repo.display());
        let server = Server::builder()
            .major(major)
            .setting("archive_mode", "on")
            .setting("archive_command", &push)
            .setting("autovacuum", "off")
            .start();
        server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 60000) g");
        Self { server, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn surus(&self, arguments: &[&str]) -> Command {
        let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), Path::new("/tmp"));
        // An account's own cache of fetched servers is not looked for without its home.
        command.env("SURUS_PG_BIN", self.server.programs().bin_dir());
        command.args(arguments).arg("--repo").arg(self.path("repo")).args(["--format", "json"]).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.surus(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Stops a server that a command left running.
struct Running(PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        if running_pid(&self.0).is_some() {
            surus_pg::server::kill_leftover(&self.0);
        }
    }
}

fn count(data: &Path, port: u64) -> String {
    let programs = surus_pg::Programs::find(None).unwrap();
    let account = Account::unprivileged().unwrap();
    let programs = programs.with_client("psql").unwrap();
    let mut command = account.command(&programs.bin("psql").unwrap(), Path::new("/tmp"));
    if let Some(libraries) = programs.library_path() {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let host = format!("--host={}", data.display());
    let port = format!("--port={port}");
    let output = command.args([&host, &port, "-XAtc", "SELECT count(*) FROM t", "postgres"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn switch_wal(server: &LocalServer, room: &Room) {
    let segment = room.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
    let done = server.data_dir().join(format!("pg_wal/archive_status/{segment}.done"));
    for _ in 0..600 {
        if done.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{segment} was not archived");
}

#[test]
fn a_killed_restore_is_taken_up_and_started_with_wal_from_the_repository() {
    let room = Room::new(require_major(16).unwrap_or(15));
    room.json(&["backup", "run", "--compress", "none", &room.server.dsn("postgres")]);
    room.server.sql("INSERT INTO t SELECT g, 'later' FROM generate_series(1, 1000) g");
    let target = room.server.value("SELECT pg_current_wal_insert_lsn()::text AS v");
    room.server.sql("DELETE FROM t WHERE text = 'later'");
    switch_wal(room.server.local(), &room);
    let to = room.path("restored");
    let place = to.to_str().unwrap();
    let dry = room.json(&["restore", "--to", place, "--lsn", &target, "--dry-run"]);
    assert!(dry["plan"]["bytes_needed"].as_u64() > Some(1 << 20) && !to.exists(), "{dry}");
    let mut killed = 0;
    for pause_ms in [5, 20, 50, 100] {
        let mut child =
            room.surus(&["restore", "--to", place, "--lsn", &target]).stdout(Stdio::null()).spawn().unwrap();
        while !to.join("surus_restore.json").exists() && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(pause_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if to.join("surus_restore.json").exists() {
            assert!(!to.join("global/pg_control").exists());
            killed += 1;
        } else {
            break;
        }
    }
    assert!(killed > 0, "no restore was killed before it was done");
    let _running = Running(to.clone());
    let delta = if to.join("surus_restore.json").exists() { vec![] } else { vec!["--delta"] };
    let done = room.json(&[&["restore", "--to", place, "--lsn", &target, "--start"], &delta[..]].concat());
    assert_eq!(done["started"]["timeline"], 2, "{done}");
    assert_eq!(count(&to, done["started"]["port"].as_u64().unwrap()), "61000");
    let again = room.run(&["restore", "--to", place]);
    assert_eq!(again.status.code(), Some(3), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(String::from_utf8_lossy(&again.stderr).contains("a server runs in"));
}
