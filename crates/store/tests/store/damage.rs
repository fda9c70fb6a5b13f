//! Files that were damaged, are not ours, or cannot be written: always an error with its code, never a panic, never a
//! wrong entry.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use surus_core::proof::Outcome;
use surus_store::{Entry, Filter, Result, Store, StoreError};

use crate::sample::{proof, store_with};

/// A complete file, closed, and its entries.
fn at_rest(entries: i64) -> (tempfile::TempDir, PathBuf, Vec<Entry>) {
    let (directory, path, store) = store_with(entries);
    let all = store.entries(&Filter::default()).unwrap();
    drop(store);
    assert!(!path.with_file_name("surus.db-wal").exists(), "closing moves the WAL into the file");
    (directory, path, all)
}

/// Everything that surus does with a file, in both modes.
fn use_all(path: &Path) -> Result<Vec<Entry>> {
    let read_only = Store::open_read_only(path).and_then(|store| look(&store));
    let read_write = Store::open(path).and_then(|store| {
        let seen = look(&store)?;
        store.append(&proof("after", "damage", Outcome::Passed))?;
        Ok(seen)
    });
    match (read_only, read_write) {
        (Ok(seen), Ok(also)) => {
            assert_eq!(seen, also);
            Ok(seen)
        }
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

fn look(store: &Store) -> Result<Vec<Entry>> {
    let report = store.verify_chain()?;
    if let Some(bad) = report.first_bad {
        return Err(StoreError::Chain { number: bad.number, why: bad.why });
    }
    store.counting_proofs("7301234567890123456", "2026-06-01T00:00:00Z".parse().unwrap())?;
    store.export(Vec::new())?;
    store.entries(&Filter::default())
}

/// Damage is found, or it was where nothing is stored and every entry is as before.
fn assert_found_or_harmless(path: &Path, before: &[Entry], what: &str) -> bool {
    match use_all(path) {
        Ok(after) => {
            assert_eq!(after, before, "{what}");
            false
        }
        Err(error) => {
            let id = error.code().id;
            assert!(["SURUS-S003", "SURUS-S004", "SURUS-S005"].contains(&id), "{what}: {id} {error}");
            true
        }
    }
}

fn copy(path: &Path, to: &Path) -> PathBuf {
    let copy = to.join("copy.db");
    for suffix in ["", "-wal", "-shm"] {
        let _none = fs::remove_file(to.join(format!("copy.db{suffix}")));
    }
    fs::copy(path, &copy).unwrap();
    copy
}

#[test]
fn a_truncated_file_is_damaged() {
    let (directory, path, before) = at_rest(20);
    let length = fs::metadata(&path).unwrap().len();
    for keep in [0, 1, 16, 99, 100, 512, 4095, 4096, 4097, 8192, length / 2, length - 4096, length - 1] {
        let copy = copy(&path, directory.path());
        OpenOptions::new().write(true).open(&copy).unwrap().set_len(keep).unwrap();
        let error = use_all(&copy).unwrap_err();
        // One byte less leaves the structure whole and the content of an entry not.
        let code = if keep == length - 1 { "SURUS-S004" } else { "SURUS-S003" };
        assert_eq!(error.code().id, code, "kept {keep} of {length}, {} entries: {error}", before.len());
    }
}

#[test]
fn an_overwritten_header_is_damaged() {
    let (directory, path, before) = at_rest(5);
    for (at, bytes) in [(0, &b"hello, world, this is text"[..]), (0, &[0; 100]), (0, &[0xff; 4096]), (16, &[0; 8])] {
        let copy = copy(&path, directory.path());
        OpenOptions::new().write(true).open(&copy).unwrap().write_all_at(bytes, at).unwrap();
        let error = use_all(&copy).unwrap_err();
        assert_eq!(error.code().id, "SURUS-S003", "{at} {bytes:?}: {error}");
    }
    for at in 0..100 {
        let copy = copy(&path, directory.path());
        flip(&copy, at, 0x55);
        assert_found_or_harmless(&copy, &before, &format!("header byte {at}"));
    }
}

fn flip(path: &Path, at: u64, mask: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
}

#[test]
fn flipped_bytes_are_found_or_harmless() {
    let (directory, path, before) = at_rest(20);
    let length = fs::metadata(&path).unwrap().len();
    let mut found = 0;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..300 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (at, mask) = ((state >> 24) % length, 1 << (state >> 60 & 7));
        let copy = copy(&path, directory.path());
        flip(&copy, at, mask);
        found += u32::from(assert_found_or_harmless(&copy, &before, &format!("byte {at} ^ {mask}")));
    }
    assert!(found > 50, "most of the file is content, yet only {found} of 300 flips were found");
}

#[test]
fn a_page_of_zeros_or_noise_is_found() {
    let (directory, path, before) = at_rest(20);
    let length = fs::metadata(&path).unwrap().len();
    for page in 0..length / 4096 {
        for fill in [0_u8, 0xA5] {
            let copy = copy(&path, directory.path());
            OpenOptions::new().write(true).open(&copy).unwrap().write_all_at(&[fill; 4096], page * 4096).unwrap();
            assert!(assert_found_or_harmless(&copy, &before, &format!("page {page} of {fill}")), "page {page}");
        }
    }
}

#[test]
fn a_damaged_wal_loses_nothing_that_is_in_the_file_and_invents_nothing() {
    let (directory, path, store) = store_with(6);
    let before = store.entries(&Filter::default()).unwrap();
    let wal = path.with_file_name("surus.db-wal");
    let length = fs::metadata(&wal).unwrap().len();
    for at in (0..length).step_by(997) {
        let copied = copy(&path, directory.path());
        let copied_wal = directory.path().join("copy.db-wal");
        fs::copy(&wal, &copied_wal).unwrap();
        flip(&copied_wal, at, 0x10);
        // SQLite ignores a WAL from its first frame with a wrong checksum; what remains must be a prefix.
        let after = use_all(&copied).unwrap();
        assert_eq!(after, before[..after.len()], "WAL byte {at}");
    }
}

#[test]
fn files_of_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("surus.db");
    for content in [&b""[..], b"{}", b"PGDMP", &[b'x'; 10_000]] {
        fs::write(&path, content).unwrap();
        assert_eq!(use_all(&path).unwrap_err().code().id, "SURUS-S003");
    }
    fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    let error = use_all(&path).unwrap_err();
    assert_eq!((error.code().id, error.to_string().contains("application_id")), ("SURUS-S003", true), "{error}");
}

#[test]
fn a_newer_format_is_left_alone() {
    let (_directory, path, _before) = at_rest(2);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let bytes = fs::read(&path).unwrap();
    for error in [Store::open(&path).unwrap_err(), Store::open_read_only(&path).unwrap_err()] {
        assert_eq!(error, StoreError::Version { path: path.clone(), found: 99, known: 1 });
        assert_eq!(error.code().id, "SURUS-S005");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_place_that_cannot_be_used_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    File::create(&file).unwrap();
    let missing = directory.path().join("none/surus.db");
    assert_eq!(Store::open_read_only(&missing).unwrap_err(), StoreError::Missing { path: missing.clone() });
    assert!(!missing.parent().unwrap().exists(), "reading makes nothing");
    for path in [file.join("surus.db"), PathBuf::from("/proc/surus/surus.db"), directory.path().to_owned()] {
        let error = Store::open(&path).unwrap_err();
        assert_eq!(error.code().id, "SURUS-S001", "{}: {error}", path.display());
    }
}

const PATH: &str = "SURUS_TEST_UNPRIVILEGED";

/// Run by the next test as an ordinary user.
#[test]
#[ignore = "started by another test as an unprivileged process"]
fn child_that_may_not_write() {
    let path = PathBuf::from(std::env::var_os(PATH).expect("only another test starts this one"));
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.verify_chain().unwrap().entries, 3);
    let error = Store::open(&path).and_then(|store| store.append(&proof("a", "b", Outcome::Passed))).unwrap_err();
    assert!(["SURUS-S001", "SURUS-S002"].contains(&error.code().id), "{error}");
    let error = Store::open(&path.with_file_name("other.db")).unwrap_err();
    assert_eq!(error.code().id, "SURUS-S001", "{error}");
}

#[test]
fn who_may_only_read_reads() {
    use std::os::unix::fs::PermissionsExt;
    let (directory, path, _before) = at_rest(3);
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    allow(directory.path(), 0o755);
    allow(path.parent().unwrap(), 0o555);
    allow(&path, 0o444);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "damage::child_that_may_not_write", "--ignored", "--nocapture"]).env(PATH, &path);
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere, so the test needs somebody else; he may not be able to enter our directories.
        let program = directory.path().join("child");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        child = Command::new(&program);
        child.args(["--exact", "damage::child_that_may_not_write", "--ignored", "--nocapture"]);
        child.env(PATH, &path).current_dir("/").uid(65534).gid(65534);
    }
    let out = child.output().unwrap();
    allow(path.parent().unwrap(), 0o755);
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

/// Run by the next test with a limit on file sizes.
#[test]
#[ignore = "started by another test with a limit on file sizes"]
fn child_that_runs_out_of_room() {
    let path = PathBuf::from(std::env::var_os(PATH).expect("only another test starts this one"));
    let store = Store::open(&path).unwrap();
    let error = (0..10_000).find_map(|_| store.append(&proof("a", "b", Outcome::Passed)).err()).unwrap();
    assert_eq!(error.code().id, "SURUS-S002", "{error}");
    assert!(store.verify_chain().unwrap().is_intact(), "what was acknowledged is still whole");
}

#[test]
fn no_room_is_an_error_and_harms_nothing() {
    let (_directory, path, _before) = at_rest(3);
    let me = std::env::current_exe().unwrap();
    // In blocks of 512 bytes; without the trap the kernel would end the process.
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let out = Command::new("sh")
        .args(["-c", script])
        .arg(me)
        .args(["--exact", "damage::child_that_runs_out_of_room", "--ignored", "--nocapture"])
        .env(PATH, &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
    let store = Store::open(&path).unwrap();
    assert!(store.verify_chain().unwrap().is_intact());
    store.append(&proof("a", "b", Outcome::Passed)).unwrap();
}
