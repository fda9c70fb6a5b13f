//! `surus at`.

use crate::room::{Room, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path, process::Stdio, thread, time::Duration};
use surus_testkit::require_major;

pub fn room(major: u16) -> (Room, String) {
    let room = Room::new(major);
    room.server.create_database("shop");
    room.server.sql_in("shop", "CREATE TABLE t AS SELECT g AS id, 'row ' || g AS text FROM generate_series(1, 3) g");
    room.back_up();
    room.server.sql_in("shop", "INSERT INTO t VALUES (4, 'row 4')");
    let moment = room.moment();
    room.server.sql_in("shop", "DELETE FROM t");
    room.archive_all();
    (room, moment)
}

fn alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']))
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

/// The process that keeps a place.
fn keeper_of(place: &Path) -> Option<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let wanted = format!("copy-keeper\0{}\0", place.display());
    pids.find(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|words| words.ends_with(&wanted)))
}

#[test]
fn a_moment_is_asked_kept_warm_and_ended_by_its_keeper() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let (room, moment) = room(major);
        let own = ["at", &moment, "-d", "shop", "--warm", "4s"];
        let at = |more: &[&'static str]| [own.as_slice(), more].concat();
        let first = room.text(&at(&["-c", "SELECT * FROM t ORDER BY id"]));
        let expected = " id | text\n----+-------\n  1 | row 1\n  2 | row 2\n  3 | row 3\n  4 | row 4\n(4 rows)\n";
        assert_eq!(first, expected);
        let (places, pids) = (room.places(), room.running());
        assert_eq!((places.len(), pids.len()), (1, 1));
        let json = room.json(&at(&["-c", "SELECT count(*) AS n, NULL AS nothing FROM t", "--format", "json"]));
        assert_eq!(json, serde_json::json!([{"n": "4", "nothing": null}]));
        assert_eq!(room.running(), pids, "the warm copy answered");
        let listed = room.json(&["at", "--list", "--format", "json"]);
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        let refused = room.run(&at(&["-c", "DELETE FROM t"]));
        assert_eq!(refused.status.code(), Some(4));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("read-only transaction"));
        let keeper = keeper_of(&fs::canonicalize(&places[0]).unwrap()).expect("it has a keeper");
        wait_until("the keeper removed the copy", || room.places().is_empty());
        wait_until("the server and the keeper ended", || !alive(pids[0]) && !alive(keeper));
    }
}

#[test]
fn two_commands_at_once_share_one_copy_and_a_writable_one_is_another() {
    let (room, moment) = room(require_major(18).unwrap_or(15));
    let spawn = || {
        let mut command = room.surus(&["at", &moment, "-d", "shop", "-c", "SELECT count(*) FROM t", "--format", "csv"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children = [spawn(), spawn(), spawn()];
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "count\n4\n", "{output:?}");
    }
    assert_eq!(room.running().len(), 1);
    room.text(&["at", &moment, "-d", "shop", "--write", "-c", "DELETE FROM t"]);
    assert_eq!(room.running().len(), 2);
    let again = room.text(&["at", &moment, "-d", "shop", "-c", "SELECT count(*) FROM t", "--format", "csv"]);
    assert_eq!(again, "count\n4\n", "the one to look at is untouched");
    room.text(&["at", "--drop", "all"]);
    assert!(room.places().is_empty(), "{}", room.marks());
    room.text(&["at", &moment, "-d", "shop", "--warm", "0", "-c", "SELECT 1"]);
    assert!(room.places().is_empty(), "nothing stays warm when nobody wants it");
}

#[test]
fn what_cannot_be_answered_is_said_with_what_can() {
    let (room, moment) = room(require_major(18).unwrap_or(15));
    let said = |arguments: &[&str], status: i32| {
        let output = room.run(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        text
    };
    let text = said(&["at", &moment, "-d", "none", "-c", "SELECT 1"], 4);
    assert!(text.contains("SURUS-C010") && text.contains("postgres, shop"), "{text}");
    let text = said(&["at", &moment, "-c", "SELECT * FROM t"], 4);
    assert!(text.contains("asked in database postgres") && text.contains("shop"), "{text}");
    let text = said(&["at", &moment, "-U", "nobody", "-c", "SELECT 1"], 4);
    assert!(text.contains("-U"), "{text}");
    let text = said(&["at", "2001-01-01 00:00:00+00", "-c", "SELECT 1"], 3);
    assert!(text.contains("the first moment that can be reached is"), "{text}");
    let text = said(&["at", "1ms", "-c", "SELECT 1"], 3);
    assert!(text.contains("the last archived transaction is of 20"), "{text}");
    said(&["at", &moment], 2);
    said(&["at", "tomorrow", "-c", "SELECT 1"], 2);
    said(&["at", "--drop", "nonsense"], 2);
    room.text(&["at", "--drop", "all"]);
    assert!(room.places().is_empty(), "{:?}", room.places());
}

#[test]
fn a_killed_command_leaves_nothing_running_and_a_killed_keeper_is_made_up_for() {
    let (room, moment) = room(require_major(18).unwrap_or(15));
    for pause_ms in [0, 50, 150, 300, 450, 600] {
        let mut command = room.surus(&["at", &moment, "-d", "shop", "-c", "SELECT pg_sleep(20)", "--warm", "1s"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the copy is begun", || !room.places().is_empty());
        thread::sleep(Duration::from_millis(pause_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_until("the keeper removed what was left", || room.places().is_empty());
    }
    // With its keeper killed too, the next command does it, and says so.
    let mut command = room.surus(&["at", &moment, "-d", "shop", "-c", "SELECT pg_sleep(20)", "--warm", "1s"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_until("the copy runs", || !room.running().is_empty());
    let (place, server) = (fs::canonicalize(&room.places()[0]).unwrap(), room.running()[0]);
    kill(keeper_of(&place).expect("it has a keeper"));
    child.kill().unwrap();
    child.wait().unwrap();
    thread::sleep(Duration::from_millis(1500));
    let listed = room.run(&["at", "--list"]);
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(said.contains("that was left from") && said.contains("its server stopped"), "{said}");
    assert!(room.places().is_empty() && !alive(server));
}

#[test]
fn how_long_ago_is_a_moment_of_its_own_and_a_near_copy_answers_when_that_is_asked_for() {
    let (room, moment) = room(require_major(18).unwrap_or(15));
    let asked = ["-d", "shop", "-c", "SELECT count(*) FROM t", "--format", "csv"];
    let at = |time: &str, more: &[&str]| {
        let output = room.run(&[&["at", time], &asked[..], more].concat());
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), said(&output.stdout), said(&output.stderr))
    };
    let (_, answer, said) = at(&moment, &[]);
    let first: jiff::Timestamp = moment.parse().unwrap();
    assert!(answer == "count\n4\n" && said.contains(&format!("surus at {first} asks it")), "{answer}{said}");
    let (pids, age) = (room.running(), surus_core::clock::now().duration_since(first).as_secs() + 1);
    let (ago, near) = (format!("{age}s"), format!("{}s", age + 600));
    // Whether the archive leads there is another matter.
    let (_, _, said) = at(&ago, &[]);
    assert!(said.contains(&format!("note: a copy of {first} is warm; --near ")), "{said}");
    let (status, answer, said) = at(&ago, &["--near", &near]);
    assert!(status == Some(0) && answer == "count\n4\n", "{said}");
    assert!(said.contains("as of 20") && said.contains("the moment that was asked for"), "{said}");
    assert!(pids.iter().all(|pid| room.running().contains(pid)));
    let before = room.running().len();
    let (status, _, said) = at(&first.to_string(), &["--near", &near]);
    assert!(status == Some(0) && !said.contains("as of"), "the very moment needs no word: {said}");
    let (status, _, said) = at("latest", &[]);
    assert!(status == Some(0) && said.contains("as of the end of the archived WAL"), "{said}");
    let (status, _, said) = at("latest", &[]);
    assert!(status == Some(0) && said.contains("when this warm copy was made"), "{said}");
    assert_eq!(room.running().len(), before + 1);
}

#[test]
fn the_role_is_the_superuser_that_the_cluster_was_made_with() {
    let room = Room::new(require_major(18).unwrap_or(15));
    room.server.sql("CREATE ROLE other SUPERUSER LOGIN");
    let as_other = |sql: &str| {
        let dsn = room.server.local().dsn("other", "postgres");
        room.server.local().run_client("psql", &["-X", "-d", &dsn, "-c", sql]).unwrap();
    };
    as_other("ALTER ROLE postgres RENAME TO \"The Boss\"");
    let dsn = room.server.local().dsn("other", "postgres");
    let repo = room.path("repo").display().to_string();
    let output = room.bare(&["backup", "run", "--repo", &repo, "--compress", "none", &dsn]).output().unwrap();
    // The copy ends with the first transaction after its moment.
    as_other("CREATE TABLE later (id int)");
    as_other("ALTER ROLE \"The Boss\" RENAME TO postgres");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = room.bare(&["backup", "list", "--repo", &repo, "--format", "json"]).output().unwrap();
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let ended = listed["clusters"][0]["backups"][0]["stopped_at"].as_str().unwrap_or_else(|| panic!("{listed:#}"));
    room.archive_all();
    let asked = ["-c", "SELECT current_user AS who", "--format", "csv"];
    assert_eq!(room.text(&[&["at", ended], &asked[..]].concat()), "who\nThe Boss\n");
}

#[test]
fn the_directory_of_copies_is_the_same_for_all_commands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("surus.toml");
    let own = dir.path().join("own");
    let ask = |words: &[&str], variable: Option<&Path>| {
        let mut command = std::process::Command::new(crate::room::SURUS);
        command.arg("--config").arg(&file).args(words).stdin(Stdio::null()).env_remove("SURUS_SCRATCH");
        command.env_remove("SURUS_DATA_DIR").envs(variable.map(|path| ("SURUS_SCRATCH", path)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let in_dir = |name: &str| format!(" in {}.\n", dir.path().join(name).display());
    for words in [["at", "--list"], ["clone", "list"]] {
        fs::write(&file, format!("data_dir = '{}'\n", own.display())).unwrap();
        assert!(ask(&words, None).ends_with(&in_dir("own-copies")));
        fs::write(&file, format!("[prove]\nscratch = '{}'\n", dir.path().join("configured").display())).unwrap();
        assert!(ask(&words, None).ends_with(&in_dir("configured")));
        let variable = dir.path().join("variable");
        assert!(ask(&words, Some(&variable)).ends_with(&in_dir("variable")));
        let flag = dir.path().join("flag").display().to_string();
        assert!(ask(&[&words[..], &["--scratch", &flag]].concat(), Some(&variable)).ends_with(&in_dir("flag")));
    }
}
