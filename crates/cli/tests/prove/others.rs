//! Base backups of PostgreSQL itself through the command: proven, refused, and the window with its holes.

use crate::room::SURUS;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_pg::account::Account;
use surus_testkit::{Server, require_major};

/// A server that archives by `cp`, and a base backup of it.
struct Scene {
    server: Server,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(major: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("others").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Account::unprivileged().unwrap().own(dir.path()).unwrap();
        let wal = dir.path().join("wal").display().to_string();
        let server = Server::builder()
            .major(major)
            .initdb_arg("--wal-segsize=1")
            .setting("archive_mode", "on")
            .setting("archive_command", &format!("mkdir -p {wal}; cp %p {wal}/%f.tmp && mv {wal}/%f.tmp {wal}/%f"))
            .setting("autovacuum", "off")
            .start();
        server.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g");
        let base = dir.path().join("base").display().to_string();
        let dsn = server.dsn("postgres");
        server.local().run_client("pg_basebackup", &["-c", "fast", "-D", &base, "-d", &dsn]).unwrap();
        let scene = Self { server, dir };
        for _ in 0..5 {
            scene.server.sql("INSERT INTO t VALUES (0)");
            scene.server.sql("SELECT pg_switch_wal()");
        }
        let last = scene.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let archived = format!("SELECT (last_archived_wal >= '{last}')::text AS v FROM pg_stat_archiver");
        let deadline = Deadline::after(Duration::from_secs(60));
        while scene.server.value(&archived) != "true" {
            assert!(!deadline.passed(), "{last} was not archived");
            thread::sleep(Duration::from_millis(50));
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The archived segments, oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            fs::read_dir(self.path("wal")).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.retain(|path| path.file_name().unwrap().len() == 24);
        all.sort();
        all
    }

    fn surus(&self, verb: &str, more: &[&str]) -> Output {
        let mut command = Command::new(SURUS);
        command.args(["prove", verb, "--dir"]).arg(self.path("base")).arg("--wal").arg(self.path("wal")).args(more);
        if verb == "restore" {
            command.args(["--no-ledger", "--reserve", "1MB", "--scratch"]).arg(self.path("scratch"));
        }
        command.env_remove("SURUS_REPO").current_dir("/").stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[test]
fn a_base_backup_is_proven_until_its_wal_has_a_hole() {
    let Some(major) = require_major(15) else { return };
    let scene = Scene::new(major);
    let proven = scene.surus("restore", &[]);
    assert_eq!(proven.status.code(), Some(0), "{}", text(&proven));
    let whole = scene.surus("window", &["--format", "json"]);
    assert_eq!(whole.status.code(), Some(0), "{}", text(&whole));
    let window: Value = serde_json::from_slice(&whole.stdout).unwrap();
    assert_eq!((window["engine"].as_str(), window["whole"].as_bool()), (Some("basebackup"), Some(true)));
    assert_eq!(window["window"]["lines"][0]["stretches"].as_array().unwrap().len(), 1);

    let all = scene.segments();
    let gone = &all[all.len() - 3];
    fs::remove_file(gone).unwrap();
    let name = gone.file_name().unwrap().to_string_lossy().into_owned();
    let refused = scene.surus("restore", &[]);
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains(&format!("WAL segment {name} is missing")), "{}", text(&refused));
    let holed = scene.surus("window", &[]);
    assert_eq!(holed.status.code(), Some(1));
    let shown = text(&holed);
    assert!(shown.contains('░') && shown.contains(&format!("WAL segment {name} is missing")), "{shown}");
    assert!(shown.contains("from base"), "{shown}");
}

#[test]
fn whose_backups_are_meant_must_be_clear() {
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(SURUS);
        command
            .args(["prove", "window"])
            .args(arguments)
            .env_remove("SURUS_REPO")
            .current_dir("/")
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code(), text(&output))
    };
    let (status, said) = ask(&["--dir", "/nonexistent"]);
    assert!(status == Some(2) && said.contains("SURUS-P025") && said.contains("/nonexistent"), "{said}");
    for wrong in [
        &["--dump", "/nonexistent"][..],
        &["--dir", "/tmp", "--wal", "/nonexistent"],
        &["--server", "main", "--engine-config", "/nonexistent"],
    ] {
        let (status, said) = ask(wrong);
        assert!(status == Some(2) && said.contains("SURUS-P025") && said.contains("/nonexistent"), "{said}");
        assert!(!said.contains("scratch"), "{said}");
    }
    let (status, said) = ask(&["--repo", "/nonexistent"]);
    assert!(status == Some(3) && said.contains("SURUS-B002"), "{said}");
    let (status, said) = ask(&["--config", "/nonexistent"]);
    assert!(status == Some(2) && said.contains("/nonexistent"), "{said}");
    let (status, said) = ask(&["--dir", "/tmp"]);
    assert!(status == Some(2) && said.contains("holds no backup of pg_basebackup"), "{said}");
    let (status, said) = ask(&["--engine", "basebackup"]);
    assert!(status == Some(2) && said.contains("needs --dir"), "{said}");
    let (status, said) = ask(&["--engine", "dump"]);
    assert!(status == Some(2) && said.contains("needs --dump"), "{said}");
}
