//! Backups that cannot even be read make a failed drill, in the ledger and for who is to be told; what keeps surus from
//! looking at them does not.

use crate::room::{Room, SURUS, text_of};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use surus_testkit::require_major;

/// The files below a directory whose path has these words in it.
fn files(dir: &Path, words: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path, words)),
            path if path.display().to_string().contains(words) => found.push(path),
            _ => {}
        }
    }
    found
}

fn spoil(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..60]).unwrap();
}

#[test]
fn a_repository_that_cannot_be_read_is_a_failed_drill_of_its_cluster() {
    let room = Room::new(require_major(15).unwrap_or(15));
    let told = room.path("told");
    room.configure(&format!("[prove]\ncommand = 'cat > {}'\n", told.display()));
    room.back_up();
    room.switch_wal();
    let (code, passed) = room.drill(&[]);
    assert_eq!(code, Some(0), "{passed:#}");
    let book = text_of(&room.run(&["runbook", "restore", "shop", "--to", "/srv/pg"]));
    let ran = passed["report"]["commands"][0].as_str().unwrap().split(" --to ").next().unwrap();
    assert!(book.contains(&format!("{ran} --to /srv/pg\n")) && book.contains("(drilled"), "{book}");
    let shown = room.json(&["runbook", "restore", "shop"]);
    assert!(shown["drill"]["number"] == passed["ledger"][0] && shown["steps"][2]["drilled"] == true, "{shown:#}");

    // What says which backup that is, then the mark of the repository.
    for (words, at, why, number) in
        [("manifest", "restore", "is damaged", 1), ("/repo/surus", "survey", "cannot be read", 2)]
    {
        let all = files(&room.path("repo"), words);
        assert!(!all.is_empty(), "nothing is called {words}: {:?}", files(&room.path("repo"), ""));
        all.iter().for_each(|path| spoil(path));
        let _ = fs::remove_file(&told);
        let (code, failed) = room.drill(&[]);
        assert_eq!(code, Some(1), "{words}: {failed:#}");
        let step =
            &failed["report"]["steps"].as_array().unwrap().iter().find(|step| step["state"] == "failed").unwrap();
        assert!(step["name"] == at && step["result"].as_str().unwrap().contains(why), "{step:#}");
        let listed = room.json(&["proof", "list", "--kind", "restore"]);
        let proofs: Vec<_> = listed.as_array().unwrap().iter().map(|entry| &entry["proof"]).collect();
        assert_eq!(proofs.len(), 1 + number, "{listed:#}");
        let (first, last) = (proofs[0], proofs[number]);
        assert!(last["outcome"] == "failed" && last["cluster"] == first["cluster"], "{listed:#}");
        let message = fs::read_to_string(&told).unwrap();
        assert!(message.contains(why), "{message}");
    }
    assert!(room.scratch_is_empty());
    // The runbook needs neither the repository nor the server.
    let book = text_of(&room.run(&["runbook", "restore", "shop", "--to", "/srv/pg"]));
    assert!(book.contains(&format!("{ran} --to /srv/pg\n")), "{book}");
}

#[test]
fn a_key_that_the_servers_account_may_not_read_is_said_before_anything_is_restored() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root runs servers as another account");
        return;
    }
    let room = Room::new(require_major(15).unwrap_or(15));
    let (key, repo) = (room.path("key"), room.path("secret"));
    fs::write(&key, "correct horse battery staple\n").unwrap();
    let surus = |words: &[&str]| {
        let mut command = Command::new(SURUS);
        command.args(words).arg("--repo").arg(&repo).arg("--repo-key").arg(format!("file:{}", key.display()));
        command.env("SURUS_PG_BIN", room.server.programs().bin_dir()).env("SURUS_DATA_DIR", room.path("state"));
        let output = command.env("SURUS_SCRATCH", room.path("copies")).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), text_of(&output))
    };
    room.server.sql("SELECT 1");
    let push = format!("{SURUS} wal push --repo {} --repo-key file:{} %p", repo.display(), key.display());
    room.server.sql(&format!("ALTER SYSTEM SET archive_command = '{push}'"));
    room.server.sql("SELECT pg_reload_conf()");
    fs::create_dir(&repo).unwrap();
    for path in [&repo, &key] {
        surus_pg::account::Account::unprivileged().unwrap().own(path).unwrap();
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = room.surus(&["backup", "run", "--repo"]);
    command.arg(&repo).arg("--repo-key").arg(format!("file:{}", key.display())).arg(room.server.dsn("postgres"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    std::os::unix::fs::chown(&key, Some(0), Some(0)).unwrap();
    for words in [&["prove", "restore", "--reserve", "1kB"][..], &["at", "latest", "-c", "SELECT 1"]] {
        let (status, said) = surus(words);
        assert!(status == Some(3) && said.contains("SURUS-B045") && said.contains("may not read it"), "{said}");
    }
    assert!(room.scratch_is_empty());
    let account = surus_pg::account::Account::unprivileged().unwrap();
    std::os::unix::fs::chown(&key, Some(0), Some(account.gid())).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let (status, said) = surus(&["at", "latest", "--warm", "0", "-c", "SELECT 1 AS one", "--format", "csv"]);
    assert!(status == Some(0) && said.contains("one\n1\n"), "{said}");
}
