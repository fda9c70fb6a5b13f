//! What arrives is what the server wrote, whatever happens on the way.

use crate::{Site, files, quick, switched, wait_for};
use std::{fs, thread, time::Duration};
use surus_backup::wal::receive::{ReceiveOptions, finish};
use surus_core::{code, lsn::Lsn};
use surus_testkit::{Server, each_major};

#[test]
fn the_archive_is_pg_wal_and_what_pg_receivewal_has() {
    each_major(|major| {
        let server = Server::builder().major(major).setting("wal_keep_size", "1GB").start();
        let site = Site::empty();
        if major < 15 {
            // There the server cannot be asked whether the slot is there.
            server.expect_log("replication slot \"surus\" already exists");
        }
        let options = ReceiveOptions { slot: Some("surus".into()), create_slot: true, ..quick() };
        // The first one makes the slot and ends where WAL ends.
        let from: Lsn = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
        site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(from), ..options.clone() }).unwrap();
        // Without a slot of its own pg_receivewal would begin at the newest segment.
        server.sql("SELECT pg_create_physical_replication_slot('peer', true)");
        server.sql("CREATE TABLE t AS SELECT g, repeat('x', 300) FROM generate_series(1, 15000) g");
        let until = switched(&server);
        let received =
            site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(until), ..options }).unwrap();
        assert_eq!(received.end, until);
        let peer = tempfile::tempdir().unwrap();
        server.local().account().own(peer.path()).unwrap();
        // It ends with the first WAL after the position.
        server.sql("SELECT pg_switch_wal(); CREATE TABLE more ()");
        let peer_ran = major < 16
            && server.local().client("pg_receivewal").is_ok_and(|mut command| {
                let dsn = server.dsn("postgres").replace(" dbname=postgres", "");
                command.args(["--no-loop", "--no-sync", "--directory"]).arg(peer.path());
                command.args(["--slot=peer", &format!("--endpos={until}"), &format!("--dbname={dsn}")]);
                command.status().unwrap().success()
            });
        let archive = site.archive();
        assert!(archive.len() > 4 && received.archived > 0, "{:?}", archive.keys());
        let pg_wal = files(&server.data_dir().join("pg_wal"));
        let theirs = files(peer.path());
        let mut compared = 0;
        for (name, content) in &archive {
            assert!(pg_wal.get(name) == Some(content), "{name} differs from pg_wal on {major}");
            if let Some(there) = theirs.get(name) {
                assert!(there == content, "{name} differs from pg_receivewal's on {major}");
                compared += 1;
            }
        }
        assert!(major != 15 || peer_ran);
        assert!(!peer_ran || major < 15 || compared > 3, "pg_receivewal brought {:?}", theirs.keys());
        // All between the first and the last is there.
        let numbers: Vec<_> = archive.keys().map(|name| u64::from_str_radix(&name[8..], 16).unwrap()).collect();
        assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
    });
}

#[test]
fn a_receiver_that_is_killed_again_and_again_leaves_nothing_out() {
    for major in [15, 16, 18].into_iter().filter_map(surus_testkit::require_major) {
        let server = Server::builder().major(major).setting("wal_keep_size", "1GB").start();
        server.expect_log("connection to client lost");
        server.expect_log("is active for PID");
        let site = Site::empty();
        server.sql("CREATE TABLE t (g int, filler text)");
        let mut first = site.receiver(&server.dsn("postgres"), false);
        wait_for("the slot", || server.value("SELECT count(*) AS v FROM pg_replication_slots WHERE active") == "1");
        first.kill().unwrap();
        first.wait().unwrap();
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for batch in 0..40 {
                    server.sql(&format!(
                        "INSERT INTO t SELECT {batch}, repeat('y', 500) FROM generate_series(1, 1000) g"
                    ));
                }
            });
            let mut kills = 0;
            while !writer.is_finished() || kills < 12 {
                let mut child = site.receiver(&server.dsn("postgres"), kills % 2 == 0);
                thread::sleep(Duration::from_millis(60 + 37 * (kills % 9)));
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        });
        let until = switched(&server);
        let options = ReceiveOptions { slot: Some("surus".into()), until: Some(until), ..quick() };
        assert_eq!(site.receive(&server.dsn("postgres"), &options).unwrap().end, until);
        let (archive, pg_wal) = (site.archive(), files(&server.data_dir().join("pg_wal")));
        let numbers: Vec<_> = archive.keys().map(|name| u64::from_str_radix(&name[8..], 16).unwrap()).collect();
        assert!(numbers.len() > 20 && numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{numbers:?}");
        for (name, content) in &archive {
            assert!(pg_wal.get(name) == Some(content), "{name} differs on {major}");
        }
    }
}

#[test]
fn it_follows_a_promotion_and_archives_the_history() {
    for major in [15, 16, 18].into_iter().filter_map(surus_testkit::require_major) {
        let server = Server::builder().major(major).setting("wal_keep_size", "1GB").start();
        server.expect_log("connection to client lost");
        server.sql("CREATE TABLE t AS SELECT g, repeat('x', 300) FROM generate_series(1, 5000) g");
        let standby = server.standby();
        let site = Site::empty();
        let here: Lsn = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
        site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(here), ..quick() }).unwrap();
        server.sql("INSERT INTO t SELECT g, repeat('z', 300) FROM generate_series(1, 5000) g");
        standby.wait_caught_up(&server);
        standby.local().promote(Duration::from_secs(60)).unwrap();
        standby.sql("INSERT INTO t SELECT g, repeat('w', 300) FROM generate_series(1, 9000) g");
        let until = switched(&standby);
        let options = ReceiveOptions { until: Some(until), ..quick() };
        let received = site.receive(&standby.dsn("postgres"), &options).unwrap();
        assert_eq!((received.timeline, received.end), (2, until));
        let (archive, pg_wal) = (site.archive(), files(&standby.data_dir().join("pg_wal")));
        assert_eq!(archive.get("00000002.history"), pg_wal.get("00000002.history"));
        let segments: Vec<_> = archive.keys().filter(|name| name.len() == 24).collect();
        let number = |name: &&String| u64::from_str_radix(&name[8..], 16).unwrap();
        // The segment within which the timeline changed is that of the new one; nothing is between.
        let mut numbers: Vec<_> = segments.iter().map(number).collect();
        numbers.dedup();
        assert!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "{segments:?}");
        assert!(segments.iter().any(|name| name.starts_with("00000001")), "{segments:?}");
        for name in segments.iter().filter(|name| name.starts_with("00000002")) {
            assert!(pg_wal.get(*name) == archive.get(*name), "{name} differs on {major}");
        }
        // The old primary has gone another way since: it is not followed back.
        server.sql("CREATE TABLE other ()");
        let options = ReceiveOptions { until: Some(Lsn(u64::MAX)), ..quick() };
        let error = site.receive(&server.dsn("postgres"), &options).unwrap_err();
        assert_eq!(error.code(), code::WAL_CONFLICT, "{error}");
    }
}

#[test]
fn wal_that_the_server_no_longer_has_is_named() {
    let server = Server::builder().setting("min_wal_size", "2MB").setting("max_wal_size", "2MB").start();
    let site = Site::empty();
    let here: Lsn = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
    site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(here), ..quick() }).unwrap();
    let wanted = server.value("SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
    for _ in 0..6 {
        server.sql("CREATE TABLE t AS SELECT g, repeat('x', 300) FROM generate_series(1, 9000) g; DROP TABLE t");
        server.sql("SELECT pg_switch_wal(); CHECKPOINT");
    }
    server.expect_log("has already been removed");
    let error = site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(here), ..quick() }).unwrap_err();
    assert_eq!(error.code(), code::WAL_GAP, "{error}");
    assert!(error.to_string().contains(&wanted), "{error}");
    let missing = ReceiveOptions { slot: Some("none".into()), ..quick() };
    let error = site.receive(&server.dsn("postgres"), &missing).unwrap_err();
    assert!(error.to_string().contains("--create-slot"), "{error}");
}

#[test]
fn the_tail_is_archived_when_the_server_will_not_come_back() {
    let server = Server::builder().start();
    let site = Site::empty();
    server.sql("CREATE TABLE t (g int)");
    let here: Lsn = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
    let received = site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(here), ..quick() }).unwrap();
    let repo = site.repo();
    let cluster = repo.choose(None).unwrap();
    let finished = finish(&cluster, &site.data(), ReceiveOptions::default().codec).unwrap();
    let (name, end) = finished.tail.unwrap();
    assert_eq!(end, received.end);
    let content = &site.archive()[&name];
    let file = fs::read(server.data_dir().join("pg_wal").join(&name[..24])).unwrap();
    let length = (end.0 % (1 << 20)) as usize;
    assert!(content.len() == 1 << 20 && content[..length] == file[..length]);
    assert!(content[length..].iter().all(|byte| *byte == 0));
    // Twice is the same, and another server's WAL is not taken for its continuation.
    finish(&cluster, &site.data(), ReceiveOptions::default().codec).unwrap();
    wait_for("the end of the connection", || server.value("SELECT count(*) AS v FROM pg_stat_replication") == "0");
}
