//! Incremental backups of what the server says changed, from PostgreSQL 17 on.

use crate::{scene::Scene, take::Files};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    sync::Arc,
    time::Duration,
};
use surus_backup::{
    Repo,
    block::BLOCK,
    chain,
    manifest::{BackupKind, Changes, Method},
    take::{TakeOptions, Taken},
};
use surus_core::{
    clock::{Deadline, Stopwatch},
    monitor::Silent,
};
use surus_testkit::{Server, require_major};

fn streamed(kind: BackupKind) -> TakeOptions {
    TakeOptions { method: Some(Method::Stream), kind: Some(kind), workers: 3, ..TakeOptions::default() }
}

fn summarizing(major: u16) -> Scene {
    let builder = Server::builder().major(major).checksums(true).autovacuum(false);
    Scene::with(builder.setting("summarize_wal", "on").start())
}

/// An incremental backup of what the server said changed.
fn native(scene: &Scene) -> Taken {
    let (taken, notes) = scene.take_noting(&streamed(BackupKind::Incremental));
    assert_eq!(taken.about.changes, Some(Changes::Summaries), "{notes:?}");
    taken
}

/// The newest backup of the scene and a full one, read now from the data directory, have the same files. No page may
/// wait for its hint bits: whoever reads it would change it.
fn is_what_the_server_has(scene: &Scene, number: u32) {
    let dir = tempfile::tempdir().unwrap();
    let other = Repo::in_folder(&dir.path().join("repo")).unwrap();
    let local = TakeOptions { method: Some(Method::Local), kind: Some(BackupKind::Full), ..TakeOptions::default() };
    let here = scene.take_into(&other, &local, Arc::new(Silent)).unwrap().about.label;
    let newest = surus_backup::catalogue::readable(&scene.cluster()).unwrap().0.pop().unwrap().label;
    let paths = |repo: &Repo, label: &str| -> Vec<String> {
        let manifest = chain::read_manifest(&repo.cluster(scene.system()), label, "the test").unwrap();
        manifest.files.into_iter().map(|file| file.path).collect()
    };
    let all = paths(&other, &here);
    assert_eq!(paths(&scene.repo, &newest), all, "round {number}");
    let (mut ours, mut theirs) = (Files::of(&scene.repo, &newest), Files::of(&other, &here));
    for path in all.iter().filter(|path| *path != "global/pg_control") {
        let (one, other) = (ours.content(path), theirs.content(path));
        assert_eq!(one.len(), other.len(), "{path} in round {number}");
        let differing = one.chunks(BLOCK).zip(other.chunks(BLOCK)).position(|(one, other)| one != other);
        assert_eq!(differing, None, "block of {path} in round {number}");
    }
}

/// Every tuple has its hint bits, and pages that were cut off stay so.
fn settle(scene: &Scene) {
    for database in ["postgres", "template1"] {
        scene.server.sql_in(database, "VACUUM (FREEZE, TRUNCATE false)");
    }
}

/// Pages that the server added and never wrote to, as a crash or a bulk insert leaves them.
fn add_empty_pages(scene: &Scene, table: &str, pages: usize) {
    let path = scene.server.value(&format!("SELECT pg_relation_filepath('{table}') AS v"));
    let mut file = OpenOptions::new().append(true).open(scene.server.data_dir().join(path)).unwrap();
    file.write_all(&vec![0; pages * BLOCK]).unwrap();
}

fn until(done: impl Fn() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(120));
    while !done() {
        assert!(!deadline.passed());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn fill(scene: &Scene) {
    let server = &scene.server;
    let space = server.data_dir().parent().unwrap().join("space");
    fs::create_dir(&space).unwrap();
    server.local().account().own(&space).unwrap();
    server.sql(&format!("CREATE TABLESPACE s LOCATION '{}'", space.display()));
    let rows = |rows: u32| format!("SELECT g AS id, repeat(md5(g::text), 3) AS text FROM generate_series(1, {rows}) g");
    for (table, count, more) in [("large", 60_000, ""), ("dropped", 3000, ""), ("apart", 20_000, "TABLESPACE s")] {
        server.sql(&format!("CREATE TABLE {table} {more} AS {}", rows(count)));
    }
    for table in ["shrunk", "regrown", "emptied", "moved", "rewritten", "grown"] {
        server.sql(&format!("CREATE TABLE {table} AS {}", rows(10_000)));
    }
    server.sql(&format!("CREATE UNLOGGED TABLE unlogged AS {}", rows(1000)));
    server.sql("CREATE INDEX large_id ON large (id)");
    settle(scene);
}

/// What changes before each backup.
fn change(scene: &Scene, round: u32) {
    let server = &scene.server;
    match round {
        0 => {
            server.sql("UPDATE large SET text = md5(random()::text) WHERE id % 601 = 3; DROP TABLE dropped");
            server.sql("UPDATE apart SET text = 'changed' WHERE id < 20; INSERT INTO unlogged VALUES (0, 'x')");
            server.sql("DELETE FROM shrunk WHERE id > 500; DELETE FROM regrown WHERE id > 500; TRUNCATE emptied");
            server.sql("VACUUM (TRUNCATE) shrunk");
            server.sql("VACUUM (TRUNCATE) regrown");
            server.sql("INSERT INTO regrown SELECT g, 'again' FROM generate_series(1, 2000) g");
            server.sql("CREATE TABLE fresh AS SELECT generate_series(1, 5000) AS id; CREATE INDEX ON fresh (id)");
            server.sql("CREATE DATABASE logged STRATEGY wal_log");
            server.sql("CREATE DATABASE copied STRATEGY file_copy");
            settle(scene);
            add_empty_pages(scene, "regrown", 40);
            add_empty_pages(scene, "grown", 5);
        }
        1 => {
            server.sql("VACUUM FULL rewritten");
            server.sql("ALTER TABLE moved SET TABLESPACE s; ALTER TABLE unlogged SET LOGGED; DROP INDEX large_id");
            server.sql("INSERT INTO emptied SELECT g, 'new' FROM generate_series(1, 3000) g; DELETE FROM shrunk");
            server.sql("VACUUM (TRUNCATE) shrunk");
            server.sql("UPDATE large SET text = md5(random()::text) WHERE id % 601 = 9; REINDEX TABLE fresh");
            server.sql("DROP DATABASE copied");
            server.sql("CREATE DATABASE copied STRATEGY file_copy");
            settle(scene);
        }
        _ => {
            server.sql("UPDATE large SET text = 'last' WHERE id = 30000");
            settle(scene);
        }
    }
    server.sql("CHECKPOINT");
}

#[test]
fn the_server_says_what_changed() {
    for major in [17, 18].into_iter().filter_map(require_major) {
        let scene = summarizing(major);
        fill(&scene);
        let full = scene.take(&streamed(BackupKind::Full));
        assert_eq!((full.about.changes, full.about.format), (None, 1));
        for round in 0..3 {
            change(&scene, round);
            let next = native(&scene);
            assert!(next.received < full.received / 2, "{} of {}", next.received, full.received);
            assert_eq!(next.about.bad_pages, []);
            is_what_the_server_has(&scene, round);
        }
        // Whoever compares builds on it as on any other.
        change(&scene, 3);
        let compared = TakeOptions { method: Some(Method::Local), ..streamed(BackupKind::Incremental) };
        let compared = scene.take(&compared);
        assert_eq!((compared.about.changes, compared.about.format), (Some(Changes::Compared), 1));
        assert!(compared.about.own < full.about.own / 20, "{}", compared.about.own);
        is_what_the_server_has(&scene, 3);
        change(&scene, 4);
        native(&scene);
        is_what_the_server_has(&scene, 4);
    }
}

#[test]
fn where_the_server_cannot_say_what_changed_all_is_compared() {
    let Some(major) = [18, 17].into_iter().find_map(require_major) else { return };
    let scene = summarizing(major);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS id; CHECKPOINT");
    scene.take(&streamed(BackupKind::Full));
    let expect = |why: &str| {
        scene.server.sql("UPDATE t SET id = id WHERE id = 70");
        scene.server.sql("VACUUM (FREEZE)");
        let (taken, notes) = scene.take_noting(&streamed(BackupKind::Incremental));
        assert!(notes.iter().any(|note| note.contains("all is read and compared") && note.contains(why)), "{notes:?}");
        assert_eq!((taken.about.changes, taken.about.format), (Some(Changes::Compared), 1));
        is_what_the_server_has(&scene, 0);
    };
    // Summaries that were removed.
    scene.server.expect_log("WAL summaries are required");
    scene.server.sql("CHECKPOINT");
    let folder = scene.server.data_dir().join("pg_wal/summaries");
    let summaries = || {
        let all = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| !path.ends_with("temp.summary")).collect::<Vec<_>>()
    };
    until(|| !summaries().is_empty());
    summaries().iter().for_each(|path| fs::remove_file(path).unwrap());
    expect("WAL summaries are required");
    scene.server.sql("ALTER SYSTEM SET summarize_wal = off");
    scene.server.sql("SELECT pg_reload_conf()");
    until(|| scene.server.value("SELECT current_setting('summarize_wal') AS v") == "off");
    expect("summarize_wal is off");
}

/// A file of somebody's own that is named like one of which the server sends only blocks.
#[test]
fn what_the_server_sends_and_does_not_do_is_given_up_for_comparing() {
    let Some(major) = [18, 17].into_iter().find_map(require_major) else { return };
    let scene = summarizing(major);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS id");
    settle(&scene);
    scene.take(&streamed(BackupKind::Full));
    let database = scene.server.value("SELECT oid::text AS v FROM pg_database WHERE datname = 'postgres'");
    let path = scene.server.data_dir().join(format!("base/{database}/INCREMENTAL.99999"));
    fs::write(&path, b"not what it seems to be").unwrap();
    scene.server.local().account().own(&path).unwrap();
    // The server is left in the middle of its answer.
    for complaint in ["could not send data to client", "connection to client lost", "aborting backup"] {
        scene.server.expect_log(complaint);
    }
    let (taken, notes) = scene.take_noting(&streamed(BackupKind::Incremental));
    assert_eq!(taken.about.changes, Some(Changes::Compared), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("/99999 is for a file that backup")), "{notes:?}");
    is_what_the_server_has(&scene, 0);
}

#[test]
fn a_damaged_page_that_is_not_sent_again_is_named_again() {
    let Some(major) = [18, 17].into_iter().find_map(require_major) else { return };
    let scene = summarizing(major);
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 100000) AS id");
    scene.server.sql("VACUUM (FREEZE)");
    scene.server.sql("CHECKPOINT");
    let path = scene.server.value("SELECT pg_relation_filepath('t') AS v");
    let file = scene.server.data_dir().join(&path);
    let mut bytes = fs::read(&file).unwrap();
    bytes[200 * BLOCK + 5000] ^= 0xFF;
    fs::write(&file, bytes).unwrap();
    let named = |taken: &Taken| taken.about.bad_pages.iter().map(|page| page.block).collect::<Vec<_>>();
    assert_eq!(named(&scene.take(&streamed(BackupKind::Full))), [200]);
    scene.server.sql("INSERT INTO t VALUES (0)");
    assert_eq!(named(&native(&scene)), [200]);
    assert_eq!(named(&native(&scene)), [200]);
}

/// What comes over the network, and how long it takes, when one page in a hundred was changed.
#[test]
#[ignore = "measures; SURUS_ROWS=1000000 is about 200 MB"]
fn how_much_comes_over_the_network() {
    let rows = std::env::var("SURUS_ROWS").ok().and_then(|text| text.parse::<u32>().ok()).unwrap_or(1_000_000);
    for major in [17, 18].into_iter().filter_map(require_major) {
        let scene = summarizing(major);
        let sql = format!("SELECT g AS id, md5(g::text) || repeat('x', 120) AS text FROM generate_series(1, {rows}) g");
        scene.server.sql(&format!("CREATE TABLE t AS {sql}"));
        settle(&scene);
        let timed = |options: &TakeOptions| {
            let watch = Stopwatch::start();
            let taken = scene.take(options);
            (taken, watch.elapsed().as_secs_f64())
        };
        let report = |what: &str, (taken, seconds): &(Taken, f64)| {
            let about = &taken.about;
            let (size, own, received) = (about.size >> 10, about.own >> 10, taken.received >> 10);
            eprintln!(
                "summary: PostgreSQL {major}, {what}: {size} kB, received {received} kB, own {own} kB, {seconds:.2} s"
            );
        };
        report("full", &timed(&streamed(BackupKind::Full)));
        for (what, summarize) in [("native", "on"), ("compared", "off")] {
            scene.server.sql("UPDATE t SET id = id WHERE (ctid::text::point)[0]::int % 100 = 7");
            scene.server.sql("CHECKPOINT");
            scene.server.sql(&format!("ALTER SYSTEM SET summarize_wal = {summarize}"));
            scene.server.sql("SELECT pg_reload_conf()");
            until(|| scene.server.value("SELECT current_setting('summarize_wal') AS v") == summarize);
            report(what, &timed(&streamed(BackupKind::Incremental)));
        }
    }
}

#[test]
fn a_role_with_replication_needs_no_more_unless_it_may_not_read_summaries() {
    let Some(major) = [18, 17].into_iter().find_map(require_major) else { return };
    let admitted = "local all,replication keeper trust\n";
    let builder = Server::builder().major(major).checksums(true).autovacuum(false).hba(admitted);
    let scene = Scene::with(builder.setting("summarize_wal", "on").start());
    scene.server.sql("CREATE ROLE keeper LOGIN REPLICATION");
    scene.server.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS id");
    let take = |kind| {
        scene.server.sql("UPDATE t SET id = 0 WHERE id = 70");
        scene.take_as("keeper", &streamed(kind))
    };
    take(BackupKind::Full);
    let (taken, notes) = take(BackupKind::Incremental);
    assert_eq!(taken.about.changes, Some(Changes::Summaries), "{notes:?}");
    scene.server.sql("REVOKE EXECUTE ON FUNCTION pg_wal_summary_contents FROM public");
    let (taken, notes) = take(BackupKind::Incremental);
    assert_eq!(taken.about.changes, Some(Changes::Compared), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("may not execute")), "{notes:?}");
}
