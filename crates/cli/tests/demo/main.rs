//! The real `surus demo`, from its first line to the last file gone.

mod fix;
mod pages;
mod stage;

use stage::{Demo, Stage};
use std::process::Command;
use surus_pg::Programs;

/// Enough for the locks to be old enough and the counters to say something.
const FULL: &[&str] = &["--once", "--format", "json", "--rows", "110000"];
/// Quick: for what is not about findings.
const SMALL: &[&str] = &["--rows", "1000", "--seconds", "1"];

fn finds_all_that_it_planted(programs: Option<&Programs>) {
    let stage = Stage::new(programs.map(|programs| programs.bin_dir().display().to_string()));
    let output = stage.surus(&[&["demo"], FULL].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let problem = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}{problem}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let planted = document["planted"].as_array().unwrap();
    assert!(planted.len() >= 15, "{planted:#?}");
    let missed: Vec<_> = planted.iter().filter(|one| one["found"] != true).map(|one| &one["check"]).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
    assert_eq!(document["fixed"]["gone"], true, "{:#}", document["fixed"]);
    let mean = |name: &str| document["fixed"][name].as_f64().unwrap();
    assert!(mean("mean_ms_after") < mean("mean_ms_before"), "{:#}", document["fixed"]);
    let proven = |id: u64| {
        let items = document["report"]["targets"][0]["readiness"]["items"].as_array().unwrap();
        items.iter().any(|item| item["id"] == id && item["state"] == "proven")
    };
    assert!(proven(2) && proven(8) && proven(10), "TLS, replication and statement statistics are proven");
    assert!(!proven(1) && !proven(3), "weak passwords and an open pg_hba.conf are not");
    assert!(proven(4), "there is a backup, and all WAL since");
    let saved = &document["saved"];
    assert!(saved["rows_deleted"].as_i64().unwrap() > 30_000, "{saved:#}");
    assert!(saved["rows_at"] == saved["rows_before"] && saved["rows_back"] == saved["rows_before"], "{saved:#}");
    let drill = &document["proven"];
    assert_eq!(drill["outcome"], "passed", "{drill:#}");
    assert!(drill["score_after"].as_u64() > drill["score_before"].as_u64(), "{drill:#}");
    if let Some(programs) = programs {
        let version = document["report"]["targets"][0]["version"].as_str().unwrap();
        assert!(version.starts_with(&programs.major().to_string()), "{version}");
    }
    stage.assert_clean();
}

#[test]
fn the_newest_major() {
    finds_all_that_it_planted(None);
}

#[test]
fn major_15() {
    if surus_testkit::require_major(15).is_some() {
        finds_all_that_it_planted(Some(&Programs::find(Some(15)).unwrap()));
    }
}

#[test]
fn an_interrupt_while_it_runs_ends_it_in_good_order() {
    let stage = Stage::new(None);
    let mut demo = Demo::start(&stage, SMALL);
    let text = demo.read_until(|line| line.contains("transactions/s ·"));
    assert!(text.contains("  primary    postgresql://postgres@localhost:"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "no terminal, no escapes: {text}");
    demo.signal("INT");
    let (status, rest) = demo.wait();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(rest.contains("Both servers are stopped"), "{rest}");
    stage.assert_clean();
}

#[test]
fn an_interrupt_before_the_report_leaves_nothing_either() {
    let stage = Stage::new(None);
    let mut demo = Demo::start(&stage, &["--rows", "1000"]);
    demo.read_until(|line| line.contains("application:"));
    demo.signal("TERM");
    let (status, _) = demo.wait();
    assert_eq!(status.code(), Some(130));
    stage.assert_clean();
}

#[test]
fn a_killed_demo_is_found_and_cleared_by_the_next() {
    let stage = Stage::new(None);
    let mut demo = Demo::start(&stage, SMALL);
    demo.read_until(|line| line.contains("standby:"));
    demo.signal("KILL");
    drop(demo.wait());
    assert!(!stage.processes().is_empty(), "the servers of a killed demo go on");
    let output = stage.surus(&[&["demo", "--once"], SMALL].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("had been killed; its servers still ran (pid "), "{text}");
    stage.assert_clean();
}

#[test]
fn a_kept_demo_starts_again() {
    let stage = Stage::new(None);
    // Long enough that its sockets need a directory of their own.
    let dir = stage.path(&"kept ".repeat(20));
    let run = |arguments: &[&str]| {
        let output = stage.surus(&[&["demo", "--once", "--dir", &dir], arguments, SMALL].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    assert!(run(&["--keep"]).contains("start it again"));
    assert!(stage.processes().is_empty());
    assert!(run(&[]).contains("started again"));
    stage.assert_clean();
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let stage = Stage::new(None);
    let refused = |arguments: &[&str], code: &str, status: i32| {
        let output = stage.surus(&[&["demo", "--once"], arguments].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(code) && output.status.code() == Some(status), "{text}");
    };
    let other = stage.path("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(format!("{other}/letter"), "mine").unwrap();
    refused(&["--dir", &other], "SURUS-L004", 3);
    assert_eq!(std::fs::read_to_string(format!("{other}/letter")).unwrap(), "mine");
    std::fs::remove_dir_all(&other).unwrap();
    refused(&["--dir", "/proc/surus-demo"], "SURUS-L004", 3);
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    refused(&["--port", &port], "SURUS-L006", 3);
    stage.assert_clean();
}

#[test]
fn two_demos_do_not_meet() {
    let stage = Stage::new(None);
    let dir = stage.path("one");
    let mut demo = Demo::start(&stage, &["--dir", &dir, "--rows", "1000"]);
    demo.read_until(|line| line.contains("primary:"));
    let output = stage.surus(&["demo", "--dir", &dir, "--once"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("another demo uses") && output.status.code() == Some(3), "{text}");
    demo.signal("HUP");
    demo.wait();
    stage.assert_clean();
}

#[test]
fn without_postgresql_it_names_the_command_that_installs_it() {
    // Hides every PostgreSQL of this machine, which takes a mount namespace of its own.
    let stage = Stage::new(None);
    let hide = "mount -t tmpfs none /usr/lib/postgresql 2>/dev/null; exec \"$0\" demo --once";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", hide, env!("CARGO_BIN_EXE_surus")])
        .env("SURUS_PG_CACHE", stage.path("none"))
        .env("SURUS_PG_BIN", "")
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("TMPDIR", stage.path(""))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare") {
        eprintln!(
            "skipped: without_postgresql_it_names_the_command_that_installs_it: no mount namespaces here: {text}"
        );
        return;
    }
    assert!(text.contains("SURUS-L001") && text.contains("apt-get install postgresql"), "{text}");
    assert_eq!(output.status.code(), Some(3));
    stage.assert_clean();
}
