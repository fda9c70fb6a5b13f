//! A commit that was answered is never lost: a synchronous receiver, and a primary that is killed.

use crate::{Site, wait_for};
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};
use surus_backup::wal::receive::{ReceiveOptions, finish};
use surus_core::clock::Deadline;
use surus_pg::{
    LocalServer, Manners, Target,
    server::{BaseBackup, Mode},
};
use surus_testkit::{Server, each_major};

/// Rows that a client was told are committed, counted from 1 without a gap.
struct Ledger {
    answered: AtomicU64,
    stop: AtomicBool,
}

impl Ledger {
    /// Inserts row after row in one session, until the server is gone.
    fn write(&self, dsn: &str, first: u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let target = Target::parse(dsn).unwrap();
            let Ok(session) = target.connect(&Manners::changing()).await else { return };
            for row in first.. {
                let filler = "r".repeat((row * 37 % 900) as usize);
                let insert = format!("INSERT INTO public.ledger VALUES ({row}, '{filler}')");
                if self.stop.load(Ordering::Relaxed) || session.run(&insert).await.is_err() {
                    break;
                }
                self.answered.store(row, Ordering::SeqCst);
            }
            session.close().await;
        });
    }
}

#[test]
fn no_answered_commit_is_lost_when_the_primary_is_killed() {
    each_major(|major| {
        if matches!(major, 15 | 16 | 18) {
            kills(major, 5);
        }
    });
}

/// The long form: `SURUS_KILLS=100 cargo test -p surus-backup --test receive -- --ignored kills_long`.
#[test]
#[ignore = "takes minutes"]
fn kills_long() {
    let count = std::env::var("SURUS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    for major in [15, 16, 18].into_iter().filter_map(surus_testkit::require_major) {
        kills(major, count);
        eprintln!("summary: PostgreSQL {major}: {count} kills of the primary, no answered commit was lost");
    }
}

/// Kills the primary under load so often, and each time a new server, made of the first base backup and what was
/// received, must hold every row that was answered.
fn kills(major: u16, count: u64) {
    let mut server = Server::builder().major(major).setting("wal_keep_size", "4GB").start();
    server.expect_log("connection to client lost");
    server.expect_log("canceling wait for synchronous replication due to administrator command");
    server.sql("CREATE TABLE public.ledger (row bigint PRIMARY KEY, filler text)");
    let base = tempfile::tempdir().unwrap();
    let backup = BaseBackup {
        dsn: server.dsn("postgres").replace(" dbname=postgres", ""),
        slot: None,
        create_slot: false,
        standby: false,
        sync: false,
    };
    let site = Site::empty();
    let receiver_dsn = format!("{} application_name=surus_receive", server.dsn("postgres"));
    let mut receiver = site.receiver(&receiver_dsn, true);
    wait_for("the slot", || server.value("SELECT count(*) AS v FROM pg_replication_slots WHERE active") == "1");
    let copy = LocalServer::from_base_backup(server.programs(), base.path(), "postgres", &backup).unwrap();
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'surus_receive'");
    server.local().reload();
    let mut last = 0;
    for round in 0..count {
        let sync = "SELECT count(*) AS v FROM pg_stat_replication WHERE sync_state = 'sync'";
        wait_for("a synchronous receiver", || server.value(sync) == "1");
        let ledger = Ledger { answered: AtomicU64::new(last), stop: AtomicBool::new(false) };
        let dsn = server.dsn("postgres");
        thread::scope(|scope| {
            scope.spawn(|| ledger.write(&dsn, last + 1));
            wait_for("the first commits", || ledger.answered.load(Ordering::SeqCst) > last + 3);
            thread::sleep(Duration::from_millis(100 + 61 * (round % 7)));
            if round % 2 == 1 {
                // The receiver, too: what it has flushed must do.
                receiver.kill().unwrap();
                receiver.wait().unwrap();
            }
            server.local_mut().stop(Mode::Immediate).unwrap();
        });
        let answered = ledger.answered.load(Ordering::SeqCst);
        assert!(answered > last, "nothing was written in round {round}");
        receiver.kill().unwrap();
        receiver.wait().unwrap();
        let seen = rows_after_restore(&site, &copy, round);
        assert!(seen >= answered, "{major}: round {round}: {answered} rows were answered, {seen} came back");
        server.local_mut().start(Duration::from_secs(60)).unwrap();
        // A commit that was written and not answered may be there; the next rows come after it.
        receiver = site.receiver(&receiver_dsn, true);
        wait_for("a synchronous receiver", || server.value(sync) == "1");
        last = server.value("SELECT coalesce(max(row), 0) AS v FROM public.ledger").parse().unwrap();
        assert!(last >= answered);
    }
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

/// Restores a copy of the base backup with all WAL of the repository and the spool's tail; gives the last row, after it
/// was seen that none before it is missing.
fn rows_after_restore(site: &Site, copy: &LocalServer, round: u64) -> u64 {
    let repo = site.repo();
    let cluster = repo.choose(None).unwrap();
    // The tail goes into a copy of the repository's folder only: the server comes back.
    let wal = tempfile::tempdir().unwrap();
    for (name, content) in site.archive() {
        fs::write(wal.path().join(name), content).unwrap();
    }
    let spool = surus_backup::wal::receive::spool_folder(&site.data(), &repo, cluster.names.system_identifier);
    for entry in fs::read_dir(spool).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.len() >= 24 && !name.ends_with(".kept") {
            let mut content = fs::read(&path).unwrap();
            content.resize(1 << 20, 0);
            fs::write(wal.path().join(&name[..24]), content).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("data");
    let account = copy.account();
    assert!(std::process::Command::new("cp").arg("-a").arg(copy.data_dir()).arg(&to).status().unwrap().success());
    own_all(account, wal.path());
    account.own(dir.path()).unwrap();
    let mut restored = LocalServer::adopt(copy.programs(), dir.path(), "postgres").unwrap();
    let command = format!("cp {}/%f %p", wal.path().display());
    let settings = [("restore_command", command.as_str()), ("fsync", "off"), ("shared_buffers", "16MB")];
    restored.write_settings(&settings).unwrap();
    restored.write_settings(&[("synchronous_standby_names", "")]).unwrap();
    restored.write_private(&restored.data_dir().join("recovery.signal"), "").unwrap();
    restored.start(Duration::from_secs(60)).unwrap();
    let dsn = restored.dsn("postgres", "postgres");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (count, last) = runtime.block_on(async {
        let session = Target::parse(&dsn).unwrap().connect(&Manners::looking()).await.unwrap();
        let deadline = Deadline::after(Duration::from_secs(60));
        while session.ask("SELECT pg_is_in_recovery() AS v").await.unwrap().first().unwrap().bool("v").unwrap() {
            assert!(!deadline.passed(), "the recovery does not end: {}", restored.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sql = "SELECT count(*) AS count, coalesce(max(row), 0) AS last FROM public.ledger";
        let rows = session.ask(sql).await.unwrap();
        let row = rows.first().unwrap();
        let seen = (row.i64("count").unwrap() as u64, row.i64("last").unwrap() as u64);
        session.close().await;
        seen
    });
    restored.stop(Mode::Immediate).unwrap();
    assert_eq!(count, last, "round {round}: rows are missing in between");
    last
}

fn own_all(account: &surus_pg::account::Account, folder: &Path) {
    account.own(folder).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        account.own(&entry.unwrap().path()).unwrap();
    }
}

#[test]
fn the_archived_tail_is_what_a_restore_needs() {
    // The form of `finish` is proven in the other tests; here that it holds the last commit.
    let server = Server::builder().setting("wal_keep_size", "1GB").start();
    let site = Site::empty();
    server.sql("CREATE TABLE public.ledger (row bigint PRIMARY KEY, filler text)");
    let base = tempfile::tempdir().unwrap();
    let dsn = server.dsn("postgres").replace(" dbname=postgres", "");
    let backup = BaseBackup { dsn, slot: None, create_slot: false, standby: false, sync: false };
    let first = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
    site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(first), ..crate::quick() }).unwrap();
    let copy = LocalServer::from_base_backup(server.programs(), base.path(), "postgres", &backup).unwrap();
    server.sql("INSERT INTO public.ledger SELECT g, 'x' FROM generate_series(1, 20000) g");
    let until = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
    site.receive(&server.dsn("postgres"), &ReceiveOptions { until: Some(until), ..crate::quick() }).unwrap();
    let cluster = site.repo().choose(None).unwrap();
    let finished = finish(&cluster, &site.data(), ReceiveOptions::default().codec).unwrap();
    assert_eq!(finished.tail.unwrap().1, until);
    assert_eq!(rows_after_restore(&site, &copy, 0), 20_000);
}
