//! Disks that are full: a clear error, nothing that is called done, and with room again the same commands go on.

use crate::{
    load::{CLIENTS, Load, burst, sound},
    room::{Room, WITHIN, end, make_repository, own_folder, text_of},
};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use surus_backup::{Repo, restore::directory::JOURNAL, wal::fetch};
use surus_core::clock::Deadline;
use surus_pg::{account::Account, host};
use surus_testkit::Server;
use tempfile::TempDir;

/// A small filesystem of its own, in memory.
struct SmallDisk {
    path: PathBuf,
    /// Goes after it was unmounted.
    _dir: TempDir,
}

impl SmallDisk {
    /// Mounts one; `None`, and said so, where that is not allowed.
    fn mount(options: &str) -> Option<Self> {
        let dir = own_folder();
        let path = dir.path().join("small");
        fs::create_dir(&path).unwrap();
        let account = Account::unprivileged().unwrap();
        let options = format!("{options},mode=0755,uid={},gid={}", account.uid(), account.gid());
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        let why = match mounted {
            Ok(output) if output.status.success() => return Some(Self { path, _dir: dir }),
            Ok(output) => text_of(&output),
            Err(error) => error.to_string(),
        };
        let test = thread::current().name().unwrap_or("test").to_owned();
        eprintln!("skipped: {test}: no filesystem can be mounted here: {}", why.trim());
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let done = Command::new("mount").args(["-o", &options]).arg(&self.path).output().unwrap();
        assert!(done.status.success(), "{}", text_of(&done));
    }

    /// Fills it up, or makes room: so much is free then.
    fn leave(&self, bytes: u64) {
        let filler = self.path.join("filler");
        let there = fs::metadata(&filler).map_or(0, |about| about.blocks() * 512);
        let free = there + host::room(&self.path).unwrap().free_bytes;
        fs::write(&filler, vec![1_u8; free.saturating_sub(bytes) as usize]).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: an agent may be ending in it.
        let unmounted = Command::new("umount").arg("-l").arg(&self.path).status();
        assert!(thread::panicking() || unmounted.is_ok_and(|status| status.success()));
    }
}

/// What a writer leaves that could not finish.
fn unfinished(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(unfinished(&path));
        } else if path.file_name().unwrap().to_string_lossy().contains("unfinished") {
            found.push(path);
        }
    }
    found
}

fn refused(room: &Room, arguments: &[&str], status: i32, code: &str) -> String {
    let output = room.run(arguments);
    let text = text_of(&output);
    assert!(output.status.code() == Some(status) && text.contains(code), "{arguments:?}: {}: {text}", output.status);
    text
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Deadline::after(WITHIN);
    while !there() {
        assert!(!deadline.passed(), "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

fn first_waiting(room: &Room) -> Option<PathBuf> {
    let pg_wal = room.server.data_dir().join("pg_wal");
    let names = fs::read_dir(pg_wal.join("archive_status")).unwrap().map(|entry| entry.unwrap().file_name());
    let ready: Vec<_> = names.filter_map(|name| Some(name.to_str()?.strip_suffix(".ready")?.to_owned())).collect();
    ready.into_iter().filter(|name| name.len() == 24).min().map(|name| pg_wal.join(name))
}

#[test]
fn a_full_repository_loses_nothing_and_goes_on_when_it_has_room() {
    let dir = own_folder();
    let Some(disk) = SmallDisk::mount("size=96m") else { return };
    let repo = disk.path.join("repo");
    make_repository(&repo);
    let room = Room::new(Server::builder().checksums(true), dir, repo.to_str().unwrap(), Vec::new());
    let (load, dsn) = (Load::prepare(&room.server), room.server.dsn("postgres"));
    room.wait_archived();

    // WAL: the server is told that it was not archived, and keeps it.
    disk.leave(200 << 10);
    (0..3).for_each(|_| burst(&dsn));
    let failed = "SELECT (failed_count > 0)::text AS v FROM pg_stat_archiver";
    wait_for("a failure", || room.server.value(failed) == "true");
    let waiting = first_waiting(&room).expect("WAL waits");
    let text = refused(&room, &["wal", "push", "--no-agent", waiting.to_str().unwrap()], 4, "SURUS-B007");
    assert!(text.contains("backup expire"), "it says what may help: {text}");
    let acknowledged = room.acknowledged();
    disk.make_room();
    room.wait_archived();
    let cluster = Repo::in_folder(&repo).unwrap().choose(None).unwrap();
    for name in acknowledged.iter().chain(&room.acknowledged()) {
        assert!(fetch::look(&cluster, name).unwrap().is_some(), "{name} was acknowledged and is not there");
    }
    room.json(&["wal", "list"]);

    // A backup: none is there until there is room for all of it.
    let mut failures = 0;
    let mut free = 100 << 10;
    let complete = loop {
        disk.leave(free);
        let output = room.run(&["backup", "run", "--wal-timeout", "5s", "--format", "json", &dsn]);
        if output.status.success() {
            break serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap();
        }
        let text = text_of(&output);
        assert!(output.status.code() == Some(4) && text.contains("SURUS-B007"), "{}: {text}", output.status);
        let list = room.run(&["backup", "list"]);
        assert!(list.status.code() == Some(1), "{}", text_of(&list));
        assert!(text_of(&list).contains("no backup"), "{}", text_of(&list));
        failures += 1;
        free += 1 << 20;
    };
    assert!(failures >= 2, "{complete:#}");
    // What is there can be read and verified from a disk that is full to its last byte, and expiry makes room there.
    disk.make_room();
    room.back_up(&["--full"]);
    disk.leave(0);
    assert_eq!(host::room(&disk.path).unwrap().free_bytes, 0);
    let to = room.path("restored");
    room.json(&["restore", "--to", to.to_str().unwrap()]);
    room.verify_with_postgresql(&to);
    let server = room.start(&to).unwrap();
    sound(&server.dsn("postgres", "postgres"), &load.seen());
    end(server);
    room.json(&["backup", "expire", "--full", "1"]);
    assert!(host::room(&disk.path).unwrap().free_bytes > 1 << 20);
    room.json(&["backup", "verify", "--again"]);
    disk.make_room();
    assert_eq!(unfinished(&repo), Vec::<PathBuf>::new());
    room.json(&["backup", "list"]);
}

#[test]
fn a_restore_onto_a_disk_that_fills_up_is_taken_up_when_it_has_room() {
    let dir = own_folder();
    // The preflight counts bytes; that the files are too many shows on the way.
    let Some(disk) = SmallDisk::mount("size=256m,nr_inodes=400") else { return };
    let repo = dir.path().join("repo");
    make_repository(&repo);
    let room = Room::new(Server::builder().checksums(true), dir, repo.to_str().unwrap(), Vec::new());
    let load = Load::prepare(&room.server);
    room.back_up(&[]);
    room.wait_archived();
    let to = disk.path.join("restored");
    let restore = ["restore", "--to", to.to_str().unwrap()];
    disk.leave(4 << 20);
    refused(&room, &restore, 3, "SURUS-B042");
    assert!(!to.exists(), "it was touched");
    disk.make_room();
    refused(&room, &restore, 4, "SURUS-B036");
    assert!(to.join(JOURNAL).exists() && !to.join("global/pg_control").exists());
    assert_eq!(room.start(&to).unwrap_err().code(), surus_core::code::RESTORE_START);
    disk.remount("nr_inodes=20000");
    room.json(&restore);
    room.verify_with_postgresql(&to);
    let server = room.start(&to).unwrap();
    sound(&server.dsn("postgres", "postgres"), &[0; CLIENTS]);
    assert_eq!(load.seen(), [0; CLIENTS]);
    end(server);
}

#[test]
fn a_segment_for_which_there_is_no_room_is_not_given_and_not_denied() {
    let dir = own_folder();
    let Some(disk) = SmallDisk::mount("size=4m") else { return };
    let repo = dir.path().join("repo");
    make_repository(&repo);
    let room = Room::new(Server::builder(), dir, repo.to_str().unwrap(), Vec::new());
    room.wait_archived();
    let name = room.acknowledged().into_iter().find(|name| name.len() == 24).unwrap();
    let to = disk.path.join("RECOVERYXLOG");
    let get = ["wal", "get", "--patience", "100ms", &name, to.to_str().unwrap()];
    for agent in [&["--no-agent"][..], &[]] {
        disk.leave(100 << 10);
        refused(&room, &[&get, agent].concat(), 255, "SURUS-B036");
        assert_eq!(fs::read_dir(&disk.path).unwrap().count(), 1, "something unfinished stays");
        disk.make_room();
        let got = room.run(&[&get, agent].concat());
        assert!(got.status.success(), "{}", text_of(&got));
        fs::remove_file(&to).unwrap();
    }
}

#[test]
fn a_receiver_whose_disk_is_full_waits_for_room() {
    let dir = own_folder();
    let Some(disk) = SmallDisk::mount("size=64m") else { return };
    let repo = disk.path.join("repo");
    make_repository(&repo);
    // Archiving is the receiver's here.
    let server = Server::builder().setting("wal_keep_size", "1GB").start();
    let room = Room { server, repo: repo.to_str().unwrap().to_owned(), first: Vec::new(), dir };
    let dsn = room.server.dsn("postgres");
    let surus = |arguments: &[&str]| {
        let mut command = room.surus(arguments);
        command.env("SURUS_DATA_DIR", disk.path.join("state"));
        command
    };
    room.server.sql("SELECT pg_create_physical_replication_slot('surus', true)");
    let log = room.path("receive.log");
    disk.leave(1 << 20);
    (0..3).for_each(|_| burst(&dsn));
    room.server.sql("SELECT pg_switch_wal()");
    let until = room.server.value("SELECT pg_current_wal_lsn() AS v");
    let arguments = ["wal", "receive", "--slot", "surus", "--until", &until, &dsn];
    let log_file = || File::options().create(true).append(true).open(&log).unwrap();
    let mut child = surus(&arguments).stdout(Stdio::null()).stderr(log_file()).spawn().unwrap();
    let said = || fs::read_to_string(&log).unwrap();
    wait_for("a word of it", || {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none_or(|status| status.code() == Some(4)), "{ended:?}: {}", said());
        said().contains("No space left")
    });
    let kept = room.server.value("SELECT restart_lsn AS v FROM pg_replication_slots");
    disk.make_room();
    if !wait_for_end(&mut child) {
        // It may have given up before there was room; then the same command goes on.
        let again = surus(&arguments).output().unwrap();
        assert!(again.status.success(), "{}", text_of(&again));
    }
    let list = room.json(&["wal", "list"]);
    let first = list[0]["timelines"][0]["first"].as_str().unwrap();
    let wanted = room.server.value(&format!("SELECT pg_walfile_name('{kept}') AS v"));
    assert!(first <= wanted.as_str(), "{first} {wanted}: {list:#}");
    assert_eq!(unfinished(&disk.path), Vec::<PathBuf>::new());
}

/// Did it end well?
fn wait_for_end(child: &mut std::process::Child) -> bool {
    let deadline = Deadline::after(WITHIN);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.success();
        }
        assert!(!deadline.passed(), "it does not end");
        thread::sleep(Duration::from_millis(50));
    }
}
