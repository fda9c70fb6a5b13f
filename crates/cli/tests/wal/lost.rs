//! Segments that are not in the archive: named, and given up only with a mark.

use crate::scene::{Place, Scene, WITHIN};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use surus_backup::{Repo, wal::name::Segment};
use surus_core::clock::Deadline;
use surus_testkit::Server;

const SIZE: u64 = 1 << 20;

fn surus(place: &Place, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
    command
        .args(["wal"])
        .args(arguments)
        .env("SURUS_REPO", place.repo())
        .env("SURUS_RUN_DIR", place.dir.path().join("own"));
    command.current_dir(place.dir.path()).env("NO_COLOR", "1").env("SURUS_AGENT_IDLE", "1").stdin(Stdio::null());
    command.output().unwrap()
}

fn said(output: &Output) -> (i32, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// A pg_wal with segments that wait, as in a data directory.
fn waiting(place: &Place, numbers: std::ops::RangeInclusive<u64>) -> PathBuf {
    let pg_wal = place.dir.path().join("pg_wal");
    fs::create_dir_all(pg_wal.join("archive_status")).unwrap();
    for number in numbers {
        let segment = Segment { timeline: 1, number, size: SIZE };
        let mut bytes = vec![0_u8; SIZE as usize];
        bytes[0..8].copy_from_slice(&[0x10, 0xD1, 2, 0, 1, 0, 0, 0]);
        bytes[8..16].copy_from_slice(&segment.start().0.to_le_bytes());
        bytes[24..32].copy_from_slice(&42_u64.to_le_bytes());
        bytes[32..40].copy_from_slice(&[0, 0, 0x10, 0, 0, 0x20, 0, 0]);
        fs::write(pg_wal.join(segment.to_string()), bytes).unwrap();
        fs::write(pg_wal.join(format!("archive_status/{segment}.ready")), "").unwrap();
    }
    pg_wal
}

fn name(number: u64) -> String {
    Segment { timeline: 1, number, size: SIZE }.to_string()
}

fn archived(pg_wal: &Path, number: u64) {
    fs::remove_file(pg_wal.join(format!("archive_status/{}.ready", name(number)))).unwrap();
}

#[test]
fn what_is_given_up_is_marked_first_and_named_later() {
    let place = Place::new();
    let pg_wal = waiting(&place, 1..=6);
    let push = |number: u64, more: &[&str]| {
        let path = format!("pg_wal/{}", name(number));
        said(&surus(&place, &[&["push", "--no-agent", path.as_str()], more].concat()))
    };
    assert_eq!(push(1, &[]), (0, String::new()));
    archived(&pg_wal, 1);
    // Five wait, three may: one is given up while the repository is there, one while it is not.
    let (status, text) = push(2, &["--queue-max", "3MB", "--cluster", "42"]);
    assert!(status == 0 && text.contains(&name(2)) && text.contains("in the repository"), "{status} {text}");
    archived(&pg_wal, 2);
    let away = place.dir.path().join("away");
    fs::rename(place.repo(), &away).unwrap();
    let (status, text) = push(3, &["--queue-max", "3MB"]);
    assert!(status == 0 && text.contains(&name(3)) && text.contains("cannot be reached"), "{status} {text}");
    assert!(pg_wal.join(format!("surus-holes/{}.json", name(3))).exists());
    archived(&pg_wal, 3);
    // No more than that waits now: without a repository nothing is acknowledged.
    let (status, text) = push(4, &["--queue-max", "3MB"]);
    assert!(status == 3 && text.contains("SURUS-B002"), "{status} {text}");
    fs::rename(&away, place.repo()).unwrap();
    assert_eq!(push(4, &["--queue-max", "3MB", "--cluster", "42"]), (0, String::new()));
    assert_eq!(fs::read_dir(pg_wal.join("surus-holes")).unwrap().count(), 0, "the mark was brought");
    let (status, text) = said(&surus(&place, &["list"]));
    let expected = format!("gap {} to {}, 2 segments, are missing, given up by --queue-max", name(2), name(3));
    assert!(status == 1 && text.contains(&expected), "{status} {text}");
    let (status, text) = said(&surus(&place, &["list", "--format", "json"]));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 1);
    assert_eq!(json[0]["timelines"][0]["gaps"][0]["first"], name(2));
    assert_eq!(json[0]["holes"].as_array().unwrap().len(), 2);
}

#[test]
fn an_agent_of_a_repository_that_was_replaced_does_not_hold_archiving_up() {
    let place = Place::new();
    let pg_wal = waiting(&place, 1..=6);
    let push = |number: u64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
        command.args(["wal", "push", "--repo"]).arg(place.repo()).arg(format!("pg_wal/{}", name(number)));
        command.env("SURUS_RUN_DIR", place.dir.path().join("own")).env("SURUS_AGENT_IDLE", "30").env("NO_COLOR", "1");
        said(&command.current_dir(place.dir.path()).stdin(Stdio::null()).output().unwrap())
    };
    // With more of them waiting an agent comes, which archives ahead.
    let there = |number: u64| {
        let cluster = Repo::in_folder(&place.repo()).unwrap().cluster(42);
        cluster.repo.place().read(&cluster.names.wal(&name(number))).unwrap().is_some()
    };
    let deadline = Deadline::after(WITHIN);
    while !there(6) {
        assert!(!deadline.passed(), "the agent archived nothing");
        assert_eq!(push(1), (0, String::new()));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    fs::rename(place.repo(), place.dir.path().join("away")).unwrap();
    assert!(!there(2), "a new repository in its place");
    for number in 1..=3 {
        assert_eq!(push(number), (0, String::new()));
        assert!(there(number), "{number} was acknowledged and is not there");
        archived(&pg_wal, number);
    }
}

#[test]
fn a_removed_segment_is_named_and_recovery_does_not_end_before_it() {
    let scene = Scene::new(Server::builder());
    for _ in 0..4 {
        scene.wait_archived();
    }
    let (status, text) = said(&surus(&scene.place, &["list"]));
    assert!(status == 0 && text.contains("timeline 1: "), "{status} {text}");
    let cluster = scene.place.cluster(&scene.server);
    let names = cluster.repo.place().list(&cluster.names.wal_folder(Some(1))).unwrap();
    let lost = names[names.len() / 2].name.clone();
    fs::remove_file(scene.place.repo().join(&lost)).unwrap();
    let lost = lost.rsplit('/').next().unwrap();
    let (status, text) = said(&surus(&scene.place, &["list"]));
    assert!(status == 1 && text.contains(&format!("{lost} is missing")), "{status} {text}");
    let (status, text) = said(&surus(&scene.place, &["get", "--patience", "100ms", lost, "RECOVERYXLOG"]));
    assert!(status == 255 && text.contains("SURUS-B024"), "{status} {text}");
    assert!(!scene.place.dir.path().join("RECOVERYXLOG").exists());
}
