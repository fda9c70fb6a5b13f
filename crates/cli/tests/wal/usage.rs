//! Wrong use: a coded error, and for `get` never a status that a server takes for the end of its WAL.

use crate::scene::Place;
use std::{
    fs,
    process::{Command, Stdio},
};

const NAME: &str = "000000010000000000000001";

fn surus(place: &Place, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
    command.args(arguments).current_dir(place.dir.path()).env("NO_COLOR", "1").env_remove("SURUS_REPO");
    let output = command.env("SURUS_RUN_DIR", place.dir.path().join("own")).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr[..]].concat()).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn a_get_that_cannot_know_stops_the_server() {
    let place = Place::new();
    let quick = ["wal", "get", "--patience", "50ms", "--repo"];
    let cases: &[(&[&str], &str)] = &[
        (&["wal", "get"], "required"),
        (&["wal", "get", "--repo", "repo", NAME], "required"),
        (&["wal", "get", "--repo", "repo", "--nonsense", NAME, "to"], "--nonsense"),
        (&["wal", "get", "--repo", "repo", "--patience", "soon", NAME, "to"], "duration"),
        (&[&quick[..], &["nowhere", NAME, "to"]].concat(), "SURUS-B002"),
        (&[&quick[..], &["repo", NAME, "to"]].concat(), "SURUS-B011"),
        (&[&quick[..], &["repo", "--cluster", "42", NAME, "to"]].concat(), "SURUS-B011"),
        (&[&quick[..], &["repo", "--cluster", "42", "../secret", "to"]].concat(), "SURUS-B023"),
        (&[&quick[..], &["smb://share", NAME, "to"]].concat(), "SURUS-B001"),
        (&["--config", "surus.toml", "wal", "get"], "required"),
        (&["--no-color", "wal", "get", "--repo", "repo", "--patience", "soon", NAME, "to"], "duration"),
        (&["wal", "--config", "surus.toml", "get", "--nonsense", NAME, "to"], "--nonsense"),
        (&["--config", "surus.toml", "wal", "get", "--patience", "50ms", "--repo", "named", NAME, "to"], "SURUS-"),
    ];
    for (arguments, expected) in cases {
        let (status, text) = surus(&place, arguments);
        assert!(status == 255 && text.contains(expected), "{arguments:?}: {status} {text}");
    }
    assert!(!place.dir.path().join("to").exists());
    let soft = [&quick[..], &["nowhere", "--on-uncertain", "absent", NAME, "to"]].concat();
    assert_eq!(surus(&place, &soft).0, 1);
    let (status, text) = surus(&place, &["wal", "get", "--help"]);
    assert!(status == 0 && text.contains("restore_command"), "{status} {text}");
}

#[test]
fn a_push_that_did_not_archive_fails() {
    let place = Place::new();
    fs::create_dir(place.dir.path().join("pg_wal")).unwrap();
    fs::write(place.dir.path().join("pg_wal").join(NAME), vec![0; 1 << 20]).unwrap();
    fs::write(place.dir.path().join("pg_wal/00000002.history"), "1\t0/1\tx\n").unwrap();
    let segment = format!("pg_wal/{NAME}");
    let cases: &[(&[&str], i32, &str)] = &[
        (&["wal", "push"], 2, "required"),
        (&["wal", "push", "--repo", "repo", "--compress", "rar", segment.as_str()], 2, "rar"),
        (&["wal", "push", "--repo", "repo", "--queue-max", "lots", segment.as_str()], 2, "queue-max"),
        (&["wal", "push", "--repo", "nowhere", segment.as_str()], 3, "SURUS-B002"),
        (&["wal", "push", "--repo", "repo", segment.as_str()], 3, "SURUS-B020"),
        (&["wal", "push", "--repo", "repo", "pg_wal/000000010000000000000002"], 4, "SURUS-B035"),
        (&["wal", "push", "--repo", "repo", "pg_wal"], 2, "SURUS-B023"),
        (&["wal", "push", "--repo", "repo", "pg_wal/00000002.history"], 2, "SURUS-B011"),
        (&["wal", "list", "--repo", "nowhere"], 3, "SURUS-B002"),
    ];
    for (arguments, expected, code) in cases {
        let (status, text) = surus(&place, arguments);
        assert!(status == *expected && text.contains(code), "{arguments:?}: {status} {text}");
    }
    let (status, text) = surus(&place, &["wal", "list", "--repo", "repo"]);
    assert!(status == 0 && text.contains("no WAL yet"), "{status} {text}");
    assert!(!place.dir.path().join("nowhere").exists());
}

#[test]
fn a_repository_can_be_made_before_the_first_segment() {
    let place = Place::new();
    let init = |folder: &str| surus(&place, &["backup", "init", "--repo", folder]);
    let (status, text) = init("./new/main");
    let path = place.dir.path().join("new/main");
    let push = format!("archive_command = 'surus wal push --repo {} %p'", path.display());
    assert!(status == 0 && text.contains("made a repository") && text.contains(&push), "{status} {text}");
    let (status, text) = init("./new/main");
    assert!(status == 0 && text.contains("there is a repository"), "{status} {text}");
    let (status, text) = surus(&place, &["wal", "list", "--repo", "./new/main"]);
    assert!(status == 0 && text.contains("no WAL yet"), "{status} {text}");
    // What holds something else is left alone, and an existing one is not opened without its key.
    fs::create_dir(place.dir.path().join("photos")).unwrap();
    fs::write(place.dir.path().join("photos/one.jpg"), "...").unwrap();
    let (status, text) = init("./photos");
    assert!(status == 3 && text.contains("SURUS-B003"), "{status} {text}");
    let key = "0f".repeat(32);
    fs::write(place.dir.path().join("key"), &key).unwrap();
    let keyed = |folder| surus(&place, &["backup", "init", "--repo", folder, "--key", "file:key", "--format", "json"]);
    let (status, text) = keyed("./sealed");
    assert!(status == 0 && text.contains("\"encrypted\": true") && text.contains("\"made\": true"), "{status} {text}");
    let (status, text) = init("./sealed");
    assert!(status == 2 && text.contains("SURUS-B010"), "{status} {text}");
}
