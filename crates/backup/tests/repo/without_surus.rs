//! docs/format/restore.py, which knows the format only from its specification, restores what surus wrote, and a server
//! starts in it.

use super::backups::{taken, whole};
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};
use surus_backup::{
    Repo,
    manifest::Method,
    repo::{codec::Codec, keys::UserKey, local::LocalPlace},
    take::TakeOptions,
    wal::push::push_file,
};
use surus_core::secret::Secret;
use surus_pg::server::{LocalServer, Mode};
use surus_testkit::{Server, peer::program, require_major};

pub fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/restore.py")
}

/// Is there what the script needs? `-S` keeps Python from finding any module but its own.
pub fn python() -> Option<PathBuf> {
    let found = program("python3").filter(|_| program("zstd").is_some());
    if found.is_none() {
        eprintln!("skipped: without_surus: python3 or zstd is not here (apt-get install python3 zstd)");
    }
    found
}

pub fn run(python: &Path, bare: bool, words: &[&str]) -> Output {
    let mut command = Command::new(python);
    if bare {
        command.arg("-S");
    }
    command.arg(script()).args(words).output().unwrap()
}

fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_chain_and_its_wal_are_restored_by_the_documented_steps() {
    let Some(python) = python() else { return };
    restores(&python, false, None, Codec::Zstd(3));
}

#[test]
fn an_encrypted_one_too_with_nothing_but_python() {
    let Some(python) = python() else { return };
    restores(&python, true, Some("correct horse battery staple"), Codec::Lz4);
}

fn restores(python: &Path, bare: bool, passphrase: Option<&str>, codec: Codec) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = dir.path().join("repo");
    let key = passphrase.map(|text| UserKey::from_text(&Secret::new(text)).unwrap());
    let place = LocalPlace::new(folder.clone());
    place.make().unwrap();
    let repo = Repo::unlock_or_create(Arc::new(place), key.as_ref()).unwrap();
    // From servers that say what changed there come files of which nobody knows the checksum as a whole.
    let major = [18, 17].into_iter().find_map(require_major).filter(|_| passphrase.is_none());
    let server = match major {
        Some(major) => Server::builder().major(major).setting("summarize_wal", "on").start(),
        None => Server::start(),
    };
    let options = TakeOptions { codec, method: major.map(|_| Method::Stream), ..TakeOptions::default() };
    server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 5000) g");
    let full = taken(&repo, &server, &options).unwrap();
    server.sql("UPDATE t SET text = 'two' WHERE id % 100 = 0; CREATE TABLE later AS SELECT 1 AS one");
    let middle = taken(&repo, &server, &options).unwrap();
    server.sql("DELETE FROM t WHERE id > 4000");
    server.sql("VACUUM t");
    let last = taken(&repo, &server, &options).unwrap();
    assert_eq!(last.about.parent.as_ref(), Some(&middle.about.label));
    assert_eq!(last.about.format, if major.is_some() { 2 } else { 1 });
    // What comes after the last backup is in WAL only.
    server.sql("INSERT INTO later VALUES (2)");
    let lsn = server.value("SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
    server.sql("SELECT pg_switch_wal()");
    push_file(&repo, &server.data_dir().join("pg_wal").join(&lsn), None, codec).unwrap();

    let key_file = dir.path().join("key");
    fs::write(&key_file, passphrase.unwrap_or_default()).unwrap();
    let key_words: &[&str] = match passphrase {
        Some(_) => &["--key", key_file.to_str().unwrap()],
        None => &[],
    };
    let data = dir.path().join("server/data");
    let (from, to) = (folder.to_str().unwrap(), data.to_str().unwrap());
    let listed = good(&run(python, bare, &[&[from, "list"], key_words].concat()));
    assert_eq!(listed.lines().count(), 3, "{listed}");
    good(&run(python, bare, &[&[from, "backup", &last.about.label, to], key_words].concat()));
    same_as_ours(&repo, &last.about.label, &data, &last.about.backup_label);
    let first = dir.path().join("first");
    let words = [&[from, "backup", &full.about.label, first.to_str().unwrap()], key_words].concat();
    good(&run(python, bare, &words));
    same_as_ours(&repo, &full.about.label, &first, &full.about.backup_label);
    let wal = dir.path().join("wal");
    good(&run(python, bare, &[&[from, "wal-all", wal.to_str().unwrap()], key_words].concat()));
    assert_eq!(fs::read(wal.join(&lsn)).unwrap(), fs::read(server.data_dir().join("pg_wal").join(&lsn)).unwrap());
    let absent = run(python, bare, &[&[from, "wal", "0000000100000000000000EE", "x"], key_words].concat());
    assert_eq!(absent.status.code(), Some(1));
    starts(&server, dir.path(), &wal);
}

fn same_as_ours(repo: &Repo, label: &str, data: &Path, backup_label: &str) {
    for (path, content) in whole(repo, label) {
        assert!(fs::read(data.join(&path)).unwrap() == content, "{path} differs");
    }
    assert_eq!(fs::read_to_string(data.join("backup_label")).unwrap(), backup_label);
}

/// A server comes up in what the script restored, and has the row that only WAL has.
fn starts(server: &Server, dir: &Path, wal: &Path) {
    let owner = fs::metadata(server.data_dir()).unwrap();
    let owner = format!("{}:{}", owner.uid(), owner.gid());
    let home = dir.join("server");
    fs::write(home.join("data/recovery.signal"), "").unwrap();
    let chown = |path: &Path| Command::new("chown").args(["-R", &owner]).arg(path).status().unwrap();
    assert!(chown(&home).success() && chown(wal).success());
    let mut restored = LocalServer::adopt(server.programs(), &home, "postgres").unwrap();
    let command = format!("cp {}/%f %p", wal.display());
    restored.write_settings(&[("restore_command", command.as_str()), ("archive_mode", "off")]).unwrap();
    restored.start(Duration::from_secs(60)).unwrap();
    let arguments = ["-XAtc", "SELECT (SELECT sum(one) FROM later), count(*), max(id) FROM t", "-U", "postgres"];
    let socket = restored.socket_dir().to_str().unwrap().to_owned();
    let port = restored.port().to_string();
    let words = [&arguments[..], &["-h", &socket, "-p", &port, "postgres"]].concat();
    assert_eq!(restored.run_client("psql", &words).unwrap().trim(), "3|4000|4000");
    restored.stop(Mode::Fast).unwrap();
}
