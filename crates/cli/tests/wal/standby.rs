//! Backups that are taken from a standby, while its primary writes and archives.

use crate::scene::{Scene, WITHIN};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use surus_core::{clock::Deadline, code};
use surus_pg::{
    Manners, Target,
    account::Account,
    server::{kill_leftover, running_pid},
};
use surus_testkit::{Server, require_major};

const SURUS: &str = env!("CARGO_BIN_EXE_surus");

fn surus(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), Path::new("/tmp"));
    command.env("SURUS_PG_BIN", scene.server.programs().bin_dir()).env("SURUS_RUN_DIR", scene.place.run());
    command.args(arguments).arg("--repo").arg(scene.place.repo()).args(["--format", "json"]).stdin(Stdio::null());
    command
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn run(scene: &Scene, arguments: &[&str]) -> Value {
    json(&surus(scene, arguments).output().unwrap())
}

/// Commits rows to the primary one by one until it is told to stop, and changes much else.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Writer {
    fn start(server: &Server) -> Self {
        server.sql("CREATE TABLE ledger (n int PRIMARY KEY)");
        server.sql(
            "CREATE TABLE churn AS SELECT g AS id, repeat(md5(g::text), 5) AS text FROM generate_series(1, 20000) g",
        );
        let (stop, dsn) = (Arc::new(AtomicBool::new(false)), server.dsn("postgres"));
        let told = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let session = Target::parse(&dsn).unwrap().connect(&Manners::changing()).await.unwrap();
                session.run("RESET ALL").await.unwrap();
                let mut number = 0;
                while !told.load(Ordering::Relaxed) {
                    number += 1;
                    session.run(&format!("INSERT INTO ledger VALUES ({number})")).await.unwrap();
                    let change =
                        format!("UPDATE churn SET text = md5(random()::text) WHERE id % 997 = {}", number % 997);
                    session.run(&change).await.unwrap();
                    // A standby begins a backup where a checkpoint was, and cannot end a segment.
                    if number % 25 == 0 {
                        session.run("CHECKPOINT").await.unwrap();
                        session.run("SELECT pg_switch_wal()").await.unwrap();
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                session.close().await;
                number
            })
        });
        Self { stop, thread }
    }

    /// How many rows were committed.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Stops a server that a command left running.
struct Running(PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        if running_pid(&self.0).is_some() {
            kill_leftover(&self.0);
        }
    }
}

/// How many rows a backup comes back with, all of them from the first on.
fn restored(scene: &Scene, label: &str) -> u32 {
    let to = scene.place.dir.path().join(format!("restored-{label}"));
    let _running = Running(to.clone());
    let done = run(scene, &["restore", "--to", to.to_str().unwrap(), "--backup", label, "--start"]);
    let port = &done["started"]["port"];
    let dsn = format!("host={} port={port} user=postgres dbname=postgres", to.display());
    let sql = "SELECT count(*) AS rows, max(n)::int8 AS last, (SELECT count(*) FROM churn) AS churn FROM public.ledger";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = Target::parse(&dsn).unwrap().connect(&Manners::changing()).await.unwrap();
        session.run("RESET ALL").await.unwrap();
        let rows = session.ask(sql).await.unwrap();
        session.run("CREATE EXTENSION amcheck").await.unwrap();
        session.ask("SELECT bt_index_check('ledger_pkey', true)").await.unwrap();
        session.close().await;
        let row = rows.first().unwrap();
        assert_eq!((row.i64("rows").unwrap(), row.i64("churn").unwrap()), (row.i64("last").unwrap(), 20_000));
        u32::try_from(row.i64("rows").unwrap()).unwrap()
    })
}

#[test]
fn backups_from_a_standby_come_back_to_the_last_commit() {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let mut builder = Server::builder().major(major).autovacuum(false);
        if major >= 17 {
            builder = builder.setting("summarize_wal", "on");
        }
        let scene = Scene::new(builder);
        let standby = scene.server.standby();
        let writer = Writer::start(&scene.server);
        standby.wait_caught_up(&scene.server);
        let dsn = standby.dsn("postgres");
        let mut labels = Vec::new();
        for (way, kind) in
            [("local", "--full"), ("stream", "--incremental"), ("stream", "--full"), ("local", "--incremental")]
        {
            // A backup from a standby begins at a checkpoint that the standby has seen.
            scene.server.sql("CHECKPOINT");
            standby.wait_caught_up(&scene.server);
            let taken = run(&scene, &["backup", "run", "--method", way, kind, &dsn]);
            let about = &taken["backup"];
            assert_eq!((about["origin"].as_str(), about["method"].as_str()), (Some("standby"), Some(way)), "{about}");
            assert_eq!(about["bad_pages"].as_array().unwrap().len(), 0);
            if (way, kind) == ("stream", "--incremental") && major >= 17 {
                assert_eq!(about["changes"], "summaries");
            }
            labels.push(about["label"].as_str().unwrap().to_owned());
        }
        let rows = writer.end();
        scene.wait_archived();
        for label in [&labels[1], &labels[3]] {
            assert_eq!(restored(&scene, label), rows, "{label} on {major}");
        }
        run(&scene, &["backup", "verify"]);
    }
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The standby becomes a primary while it is being read.
fn promoted_meanwhile(major: u16, way: &str) {
    let scene = Scene::new(Server::builder().major(major));
    let standby =
        scene.server.standby_named("standby1", &[("log_statement", "all"), ("log_replication_commands", "on")]);
    for complaint in ["promoted during online backup", "connection to client lost", "could not send data to client"] {
        standby.expect_log(complaint);
    }
    standby.wait_caught_up(&scene.server);
    let (before, dsn) = (standby.log().len(), standby.dsn("postgres"));
    let mut command = surus(&scene, &["backup", "run", "--method", way, "--throttle", "6MB", &dsn]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // After the backup began the tablespaces are asked for once more.
    let marks: &[&str] = if way == "local" { &["_backup_start(", "_start_backup("] } else { &["BASE_BACKUP"] };
    let has_begun = || {
        let log = standby.log();
        let log = &log[before..];
        let at = marks.iter().filter_map(|mark| log.find(mark)).min();
        at.is_some_and(|at| log[at..].contains("pg_tablespace_location"))
    };
    let deadline = Deadline::after(WITHIN);
    while !has_begun() {
        assert!(!deadline.passed() && child.try_wait().unwrap().is_none(), "{}", standby.log());
        thread::sleep(Duration::from_millis(10));
    }
    signal(&child, "STOP");
    standby.local().promote(WITHIN).unwrap();
    signal(&child, "CONT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{way} on {major}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(said.contains("promoted during online backup"), "{way} on {major}: {said}");
    assert!(said.contains(&code::BACKUP_ABORTED.id.to_string()), "{way} on {major}: {said}");
    // It says by its status that there is none.
    let list = surus(&scene, &["backup", "list"]).output().unwrap();
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    for cluster in list["clusters"].as_array().unwrap() {
        assert_eq!(cluster["backups"].as_array().map(Vec::len), Some(0), "{list}");
    }
    // As the primary that it is now it can be backed up.
    let taken = run(&scene, &["backup", "run", "--method", way, &dsn]);
    assert_eq!((taken["backup"]["timeline"].as_u64(), taken["backup"]["origin"].as_str()), (Some(2), Some("primary")));
}

#[test]
fn a_standby_that_is_promoted_meanwhile_gives_no_backup() {
    for (major, way) in [(15, "local"), (18, "stream"), (18, "local")] {
        if let Some(major) = require_major(major) {
            promoted_meanwhile(major, way);
        }
    }
}
