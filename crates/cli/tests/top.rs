//! `surus top` on real servers: once for a script, and in a terminal of 80 by 24 with keys pressed.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_pg::{Manners, Session, Target};
use surus_testkit::{Server, each_major};
use tempfile::TempDir;

fn command(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
    command
        .args(arguments)
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .env("SURUS_DATA_DIR", dir.path().join("data"));
    command
}

/// Somebody who keeps a transaction open over a row, and somebody who waits for that row.
struct Quarrel {
    runtime: tokio::runtime::Runtime,
    holder: Session,
}

impl Quarrel {
    fn over(server: &Server) -> Self {
        // At the end they go without a goodbye.
        server.expect_log("connection to client lost");
        server.sql("CREATE TABLE quarrel(id int); INSERT INTO quarrel VALUES (1)");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let target = Target::parse(&server.dsn("postgres")).unwrap();
        let named = |name: &str| Manners { application_name: name.into(), ..Manners::changing() };
        let holder = runtime.block_on(target.connect(&named("holder"))).unwrap();
        let waiter =
            runtime.block_on(target.connect(&Manners { lock_timeout: Duration::ZERO, ..named("waiter") })).unwrap();
        runtime.block_on(holder.run("BEGIN; UPDATE public.quarrel SET id = 2")).unwrap();
        runtime.spawn(async move {
            // It is let through, or ended with its server.
            let _ = waiter.run("UPDATE public.quarrel SET id = 3").await;
            waiter.close().await;
        });
        let waits = "SELECT count(*) AS v FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until(|| server.value(waits) == "1");
        Self { runtime, holder }
    }
}

fn until(done: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !done() {
        assert!(!deadline.passed(), "it did not come to pass within 30 s");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_look_names_blockers_on_every_major() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        let quarrel = Quarrel::over(&server);
        let dir = tempfile::tempdir().unwrap();
        let dsn = server.dsn("postgres");
        let out = command(&dir, &["top", &dsn, "--once", "-n", "1", "--format", "json"]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let frame: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let sessions = frame["sessions"]["all"].as_array().unwrap();
        let named = |name: &str| sessions.iter().find(|one| one["application"] == name).unwrap();
        assert_eq!(named("waiter")["blocked_by"], serde_json::json!([named("holder")["pid"]]));
        assert_eq!(named("holder")["state"], "idle in transaction");
        assert!(frame["pace"]["transactions"].as_f64().unwrap() >= 0.0, "{frame:#}");
        assert!(frame["replication"]["Ok"]["slots"].is_array(), "{frame:#}");
        let why = frame["statements"]["Err"].as_str().unwrap();
        assert!(why.contains("CREATE EXTENSION pg_stat_statements"), "{why}");
        quarrel.runtime.block_on(quarrel.holder.run("ROLLBACK")).unwrap();
    });
}

#[test]
fn statements_are_counted_from_the_first_look() {
    let server = Server::builder().setting("shared_preload_libraries", "pg_stat_statements").start();
    server.sql("CREATE EXTENSION pg_stat_statements");
    let dir = tempfile::tempdir().unwrap();
    let child = command(&dir, &["top", &server.dsn("postgres"), "--once", "-n", "3", "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until(|| server.value("SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus top'") == "1");
    thread::sleep(Duration::from_millis(500));
    for _ in 0..7 {
        server.sql("SELECT 'it is counted', 1");
    }
    let out = child.wait_with_output().unwrap();
    let frame: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let statements = frame["statements"]["Ok"].as_array().unwrap();
    let mine = statements.iter().find(|one| one["text"] == "SELECT $1, $2");
    assert_eq!(mine.map(|one| one["calls"].as_i64()), Some(Some(7)), "{statements:#?}");
}

/// `surus top` on a terminal of its own, which util-linux's `script` makes.
struct Terminal {
    child: Child,
    seen: Arc<Mutex<String>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// A test that failed leaves nothing running.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Terminal {
    fn open(dir: &TempDir, dsn: &str) -> Self {
        let line = format!("stty rows 24 cols 80; exec '{}' top '{dsn}' -n 1", env!("CARGO_BIN_EXE_surus"));
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", &line, "/dev/null"])
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .env("SURUS_DATA_DIR", dir.path().join("data"))
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut out, into) = (child.stdout.take().unwrap(), Arc::clone(&seen));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, seen, reader: Some(reader) }
    }

    /// Waits until this has been written; only what changes is written, so it must be new on the screen.
    fn shows(&self, text: &str) {
        let deadline = Deadline::after(Duration::from_secs(30));
        while !self.seen.lock().unwrap().contains(text) {
            assert!(!deadline.passed(), "{text:?} was never shown:\n{}", self.seen.lock().unwrap().escape_debug());
            thread::sleep(Duration::from_millis(20));
        }
        self.seen.lock().unwrap().clear();
    }

    fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    fn ends(mut self) -> i32 {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        status.code().unwrap()
    }
}

#[test]
fn the_blocker_is_found_and_ended_with_five_keys() {
    let server = Server::start();
    server.expect_log("terminating connection due to administrator command");
    let quarrel = Quarrel::over(&server);
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(&dir, &server.dsn("postgres"));
    terminal.shows("waiting");
    terminal.press("3");
    terminal.shows("BEHIND");
    terminal.press("K");
    terminal.shows("Terminate");
    terminal.press("y");
    terminal.shows("ledger");
    until(|| server.value("SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'holder'") == "0");
    until(|| server.value("SELECT id AS v FROM quarrel") == "3");
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    let listed = command(&dir, &["proof", "list", "--format", "json"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("session-terminated") && listed.contains("of postgres in postgres"), "{listed}");
    assert!(!quarrel.holder.is_open());
}

#[test]
fn a_server_that_goes_away_is_said_and_found_again() {
    let mut server = Server::start();
    let dir = tempfile::tempdir().unwrap();
    let mut terminal = Terminal::open(&dir, &server.dsn("postgres"));
    terminal.shows("sessions");
    server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
    terminal.shows("no new look");
    server.local_mut().start(Duration::from_secs(60)).unwrap();
    // In the place of the complaint.
    terminal.shows("h help");
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn without_a_terminal_or_a_server_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let run = |arguments: &[&str]| {
        let out = command(&dir, arguments).stdin(Stdio::null()).output().unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (status, said) = run(&["top", &server.dsn("postgres")]);
    assert!(status == Some(2) && said.contains("SURUS-O004") && said.contains("surus top --once"), "{status:?} {said}");
    let (status, said) = run(&["top", "host=/nowhere/at/all"]);
    assert!(status == Some(4) && said.contains("SURUS-C006"), "{status:?} {said}");
}

#[test]
fn a_role_without_privileges_sees_that_it_does_not_see() {
    let server = Server::start();
    server.sql("CREATE ROLE nobody_special LOGIN");
    server.expect_log("permission denied");
    let _quarrel = Quarrel::over(&server);
    let dir = tempfile::tempdir().unwrap();
    let dsn = server.dsn_as("nobody_special", "", "postgres");
    let out = command(&dir, &["top", &dsn, "--once", "-n", "1", "--format", "json"]).output().unwrap();
    let frame: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert!(frame["overview"]["hidden"].as_i64().unwrap() >= 2, "{frame:#}");
}
