//! From the first segment to the restored server through a bucket, encrypted: what a user does who has no folder.

use crate::{
    load::{CLIENTS, Load, burst, sound},
    room::{Room, WITHIN, amcheck, end, own_folder, text_of, value},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_pg::account::Account;
use surus_testkit::{
    Server,
    peer::{Peer, S3_BUCKET, S3_KEYS},
    require_major,
};

/// A server whose repository is in the peer's bucket. Keys are in files that only the server's account may read.
fn room(peer: &Peer, major: u16) -> Room {
    let dir = own_folder();
    let account = Account::unprivileged().unwrap();
    let secret = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        account.own(&path).unwrap();
        path.display().to_string()
    };
    let text = format!(
        "[[repository]]\nname = 'bucket'\nplace = 's3://{S3_BUCKET}/{major}'\nendpoint = 'http://127.0.0.1:{}'\n\
         region = 'eu-test-1'\naccess_key = 'file:{}'\nsecret_key = 'file:{}'\nkey = 'file:{}'\n",
        peer.port(),
        secret("access", S3_KEYS.0),
        secret("secret", S3_KEYS.1),
        secret("repository", &"0f".repeat(32))
    );
    let config = secret("surus.toml", &text);
    let builder = Server::builder().major(major).checksums(true);
    Room::new(builder, dir, "bucket", vec!["--config".into(), config])
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Deadline::after(WITHIN);
    while !there() {
        assert!(!deadline.passed(), "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

fn agents_said(room: &Room) -> String {
    let files = fs::read_dir(room.path("run")).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// Nothing of the rows or of the names of files can be read there.
fn nothing_is_plain(folder: &Path) {
    let found = Command::new("grep").args(["-rlaE", "a secret in row|PG_VERSION"]).arg(folder).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn wal_backups_and_restores_go_through_a_bucket() {
    for major in [15, 16, 18].into_iter().filter_map(require_major) {
        let Some(peer) = Peer::s3() else { return };
        let room = room(&peer, major);
        let dsn = room.server.dsn("postgres");
        let load = Load::prepare(&room.server);
        let full = room.back_up(&["--full"]);
        room.server
            .sql("CREATE TABLE secret AS SELECT 'a secret in row ' || g AS text FROM generate_series(1, 9000) g");
        // More than one segment waits: the agent archives ahead.
        (0..3).for_each(|_| burst(&dsn));
        room.wait_archived();
        wait_for("the agent", || {
            burst(&dsn);
            agents_said(&room).contains("the agent listens")
        });
        let next = room.back_up(&["--incremental"]);
        assert_eq!(next["backup"]["parent"], full["backup"]["label"], "{next:#}");

        // A mistake, and back to the moment before it.
        let target = room.server.value("SELECT pg_current_wal_insert_lsn()::text AS v");
        room.server.sql("DELETE FROM secret; DELETE FROM history");
        room.wait_archived();
        let to = room.path("restored");
        room.json(&["restore", "--to", to.to_str().unwrap(), "--lsn", &target]);
        room.verify_with_postgresql(&to);
        let server = room.start(&to).unwrap_or_else(|error| panic!("{error}"));
        let restored = server.dsn("postgres", "postgres");
        assert_eq!(value(&restored, "SELECT count(*)::text AS v FROM secret"), "9000");
        sound(&restored, &[0; CLIENTS]);
        assert_eq!(load.seen(), [0; CLIENTS]);
        amcheck(&restored);
        end(server);

        // The newest one that was verified never goes.
        room.back_up(&["--full"]);
        room.json(&["backup", "verify", "--again"]);
        room.json(&["wal", "list"]);
        room.json(&["backup", "expire", "--full", "1"]);
        let list = room.json(&["backup", "list"]);
        assert_eq!(list["clusters"][0]["backups"].as_array().unwrap().len(), 1, "{list:#}");
        room.json(&["wal", "list"]);
        nothing_is_plain(&peer.dir().join("data"));
    }
}

#[test]
fn a_bucket_that_goes_away_loses_nothing_and_ends_no_recovery() {
    let Some(mut peer) = Peer::s3() else { return };
    let room = room(&peer, require_major(18).unwrap_or(15));
    room.back_up(&["--full"]);
    room.wait_archived();
    peer.kill();
    let dsn = room.server.dsn("postgres");
    let failures = || room.server.value("SELECT failed_count AS v FROM pg_stat_archiver");
    let failed = failures();
    burst(&dsn);
    // Each of them tries for some time.
    let to = room.path("segment");
    let get = ["wal", "get", "--cluster", "1", "--patience", "1s", "0000000100000000000000FF", to.to_str().unwrap()];
    let spawn = |arguments: &[&str]| room.surus(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let (get, run) = (spawn(&get), spawn(&["backup", "run", &dsn]));
    for (child, status) in [(get, 255), (run, 4)] {
        let output = child.wait_with_output().unwrap();
        let text = text_of(&output);
        assert!(output.status.code() == Some(status) && text.contains("SURUS-B005"), "{}: {text}", output.status);
    }
    wait_for("a failure", || failures() != failed);
    assert!(!to.exists());
    peer.start();
    room.wait_archived();
    room.json(&["wal", "list"]);
    room.back_up(&["--incremental"]);
    room.json(&["backup", "verify", "--again"]);
}
