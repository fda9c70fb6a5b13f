//! `surus check` as a guest: on a database of thousands of relations, with locks, roles and databases in its way. It
//! finishes, it says what it could not see, it holds at most two connections and no lock beyond ACCESS SHARE.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use surus_check::{
    catalogue,
    options::Options,
    report::TargetReport,
    run::{self, Given},
};
use surus_core::{finding::Reason, monitor::Silent};
use surus_pg::{Manners, Session, Target};
use surus_testkit::Server;

/// A fifth of the 10,000 tables of `bench/check`, and the same shape: a key and two indexes each.
const TABLES: i64 = 2000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn check(dsn: String) -> TargetReport {
    let given = vec![Given { name: "server".to_owned(), target: Target::parse(&dsn) }];
    let report = run::run(given, &Options::default(), &Silent).await.targets.remove(0);
    assert!(report.error.is_none(), "{:?}", report.error);
    report
}

/// Every check must have ended somewhere: ok, finding, unknown or not applicable.
fn assert_complete(report: &TargetReport) {
    let findings = report.findings.iter().map(|one| one.id.as_str());
    let unknown = report.unknown.iter().map(|one| one.id);
    let elsewhere = report.not_applicable.iter().map(|one| one.id);
    let told: BTreeSet<&str> = findings.chain(unknown).chain(elsewhere).chain(report.ok.iter().copied()).collect();
    let missing: Vec<_> = catalogue::CHECKS.iter().map(|check| check.id).filter(|id| !told.contains(id)).collect();
    assert!(missing.is_empty(), "nothing is said about {missing:?}");
    assert!(unknown_because(report, "unexpected").is_empty(), "{:#?}", report.unknown);
}

fn unknown_because<'a>(report: &'a TargetReport, kind: &str) -> Vec<&'a surus_check::report::Unknown> {
    report.unknown.iter().filter(|one| one.reason.kind() == kind).collect()
}

/// What a side session saw of surus's backends while it watched.
#[derive(Debug, Default)]
struct Watched {
    looks: usize,
    most_connections: i64,
    /// By lock type, mode and whether it was granted.
    locks: BTreeSet<(String, String, bool)>,
}

/// surus's sessions; the server's own parallel workers carry the same name.
const COUNT: &str = "SELECT count(*) AS connections FROM pg_stat_activity \
    WHERE application_name = 'surus check' AND backend_type = 'client backend'";
/// All locks of surus's backends, except that every transaction locks its own number.
const LOCKS: &str = "SELECT l.locktype, l.mode, l.granted FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid \
    WHERE a.application_name = 'surus check' AND l.locktype <> 'virtualxid'";

impl Watched {
    async fn look(&mut self, session: &Session) {
        self.looks += 1;
        let connections = session.ask(COUNT).await.unwrap().first().unwrap().i64("connections").unwrap();
        self.most_connections = self.most_connections.max(connections);
        for row in session.ask(LOCKS).await.unwrap().iter() {
            let text = |name| row.text(name).unwrap();
            self.locks.insert((text("locktype"), text("mode"), row.bool("granted").unwrap()));
        }
    }

    /// Fails unless surus was seen and kept to its manners.
    fn assert_a_good_guest(&self) {
        assert!(self.looks > 10 && (1..=2).contains(&self.most_connections), "{self:#?}");
        let shared = |(kind, mode, _): &(String, String, bool)| kind == "relation" && mode == "AccessShareLock";
        assert!(!self.locks.is_empty() && self.locks.iter().all(shared), "{self:#?}");
    }
}

/// Runs `work` while a side session watches surus's backends as often as it can.
async fn watching<T>(server: &Server, work: impl Future<Output = T>) -> (T, Watched) {
    let side = side_session(server).await;
    let done = AtomicBool::new(false);
    let watch = async {
        let mut watched = Watched::default();
        while !done.load(Ordering::Relaxed) {
            watched.look(&side).await;
        }
        watched
    };
    let work = async {
        let result = work.await;
        done.store(true, Ordering::Relaxed);
        result
    };
    futures_util::future::join(work, watch).await
}

async fn side_session(server: &Server) -> Session {
    server.session("postgres", &Manners { application_name: "side".into(), ..Manners::changing() }).await
}

fn seed(server: &Server) {
    server.create_database("big");
    server.sql_in(
        "big",
        &format!(
            "DO $$ BEGIN FOR n IN 1..{TABLES} LOOP \
               EXECUTE format('CREATE TABLE t_%1$s (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
                   account_id bigint, status text, created_at timestamptz); \
                 CREATE INDEX ON t_%1$s (account_id); CREATE INDEX ON t_%1$s (status, created_at)', n); \
               IF n % 10 = 0 THEN \
                 EXECUTE format('ALTER TABLE t_%s ADD FOREIGN KEY (account_id) REFERENCES t_%s', n, n - 9); \
               END IF; \
               IF n % 50 = 1 THEN \
                 EXECUTE format('INSERT INTO t_%s (account_id, status) SELECT k, ''new'' \
                     FROM generate_series(1, 200) k', n); \
               END IF; \
               IF n % 200 = 0 THEN COMMIT; END IF; \
             END LOOP; END $$"
        ),
    );
    server.sql_in("big", "ANALYZE");
    server.sql_in("big", "CREATE UNLOGGED TABLE lost_in_a_crash (id bigint PRIMARY KEY)");
    server.sql("CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE plain LOGIN");
}

fn finds_the_unlogged_table(report: &TargetReport) -> bool {
    report.findings.iter().any(|one| one.id == "tbl.unlogged" && one.object.contains("lost_in_a_crash"))
}

#[test]
fn thousands_of_relations() {
    let server = Server::builder().setting("log_lock_waits", "on").setting("deadlock_timeout", "10ms").start();
    seed(&server);
    server.expect_log("permission denied");
    let runtime = runtime();

    let (report, watched) = runtime.block_on(watching(&server, check(server.dsn("big"))));
    assert_complete(&report);
    watched.assert_a_good_guest();
    assert!(finds_the_unlogged_table(&report));
    for kind in ["locked", "timeout", "unreachable", "privilege"] {
        // On a busy machine the time for reading sequences may be over before all are read; that is said.
        let others = unknown_because(&report, kind).into_iter().filter(|one| one.id != "seq.exhaust");
        assert_eq!(others.count(), 0, "{:#?}", report.unknown);
    }
    assert!(!server.log().contains("still waiting"), "{}", server.log());

    for role in ["watcher", "plain"] {
        let (less, watched) = runtime.block_on(watching(&server, check(server.dsn_as(role, "", "big"))));
        assert_complete(&less);
        watched.assert_a_good_guest();
        assert!(finds_the_unlogged_table(&less), "as {role}: {:#?}", less.unknown);
        assert!(!unknown_because(&less, "privilege").is_empty(), "as {role}");
        let blind = |report: &TargetReport| unknown_because(report, "privilege").len();
        assert!(role != "plain" || blind(&less) > 10, "{:#?}", less.unknown);
    }
}

#[test]
fn a_table_held_in_access_exclusive() {
    let server = Server::builder().setting("log_lock_waits", "on").setting("deadlock_timeout", "10ms").start();
    server.expect_log("canceling statement due to lock timeout");
    // A narrow key that no sequence feeds: surus must read its largest value, and cannot.
    server.sql("CREATE TABLE held (id int PRIMARY KEY, parent int REFERENCES held); CREATE INDEX ON held (parent)");
    server.sql("INSERT INTO held SELECT k, 1 FROM generate_series(1, 1000) k; ANALYZE held");
    server.sql("CREATE UNLOGGED TABLE lost_in_a_crash (id bigint PRIMARY KEY)");
    let runtime = runtime();
    let (report, watched) = runtime.block_on(async {
        let holder = side_session(&server).await;
        holder.run("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let seen = watching(&server, check(server.dsn("postgres"))).await;
        holder.run("COMMIT").await.unwrap();
        seen
    });
    assert_complete(&report);
    watched.assert_a_good_guest();
    assert!(finds_the_unlogged_table(&report), "{:#?}", report.unknown);
    let locked: Vec<_> = unknown_because(&report, "locked").iter().map(|one| (one.id, one.object.as_str())).collect();
    assert!(locked.contains(&("pk.int4", "public.held")), "{:#?}", report.unknown);
    let waited = |(_, mode, granted): &(String, String, bool)| mode == "AccessShareLock" && !granted;
    assert!(watched.locks.iter().any(waited), "nobody was seen to wait: {watched:#?}");
}

#[test]
fn databases_that_cannot_be_entered_or_go_away() {
    let server = Server::start();
    for name in ["closed", "doomed", "zeta"] {
        server.create_database(name);
    }
    server.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false");
    server.sql_in("zeta", "CREATE UNLOGGED TABLE lost_in_a_crash (id bigint PRIMARY KEY)");
    server.expect_log("terminating connection due to administrator command");
    server.expect_log("canceling statement due to lock timeout");
    let runtime = runtime();
    let report = runtime.block_on(async {
        let side = side_session(&server).await;
        // Checks of constraints wait here for a moment, so that the database surely goes while surus is in it.
        let holder = server.session("doomed", &Manners::changing()).await;
        holder.run("BEGIN; LOCK TABLE pg_constraint IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let drop = async {
            until(
                &side,
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'surus check' \
                AND datname = 'doomed' AND wait_event_type = 'Lock') AS v",
            )
            .await;
            side.run("DROP DATABASE doomed WITH (FORCE)").await.unwrap();
        };
        futures_util::future::join(check(server.dsn("postgres")), drop).await.0
    });
    assert_complete(&report);
    let mut unseen: BTreeMap<&str, usize> = BTreeMap::new();
    for one in unknown_because(&report, "unreachable") {
        one.databases.iter().for_each(|name| *unseen.entry(name).or_default() += 1);
    }
    assert!(unseen.len() == 2 && unseen["closed"] > 10 && unseen["doomed"] > 0, "{unseen:?}");
    assert!(finds_the_unlogged_table(&report), "zeta was looked at: {:#?}", report.unknown);
}

#[test]
fn two_connections_are_enough_for_many_databases() {
    let server = Server::start();
    for n in 0..8 {
        server.create_database(&format!("app{n}"));
    }
    server.sql("CREATE ROLE watcher LOGIN CONNECTION LIMIT 2 IN ROLE pg_monitor");
    server.expect_log("permission denied");
    let (report, watched) = runtime().block_on(watching(&server, check(server.dsn_as("watcher", "", "postgres"))));
    assert_complete(&report);
    watched.assert_a_good_guest();
    let seen: BTreeSet<_> = report.queries.iter().filter_map(|query| query.database.as_deref()).collect();
    assert_eq!(seen.len(), 9, "{seen:?}");
    // A third connection at any time would have been refused.
    assert!(unknown_because(&report, "unreachable").is_empty(), "{:#?}", report.unknown);
    assert!(!server.log().contains("too many connections"), "{}", server.log());
}

async fn until(side: &Session, sql: &str) {
    let deadline = surus_core::clock::Deadline::after(Duration::from_secs(30));
    while !side.ask(sql).await.unwrap().first().unwrap().bool("v").unwrap() {
        assert!(!deadline.passed(), "not within 30 s: {sql}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn a_query_that_is_too_slow_or_cancelled_is_unknown() {
    let server = Server::builder().setting("allow_system_table_mods", "on").start();
    server.expect_log("canceling statement due to statement timeout");
    // As if the archiver's statistics could not be had in time.
    server.sql(
        "CREATE OR REPLACE VIEW pg_catalog.pg_stat_archiver AS SELECT s.archived_count, s.last_archived_wal, \
            s.last_archived_time, s.failed_count, s.last_failed_wal, s.last_failed_time, s.stats_reset \
         FROM pg_stat_get_archiver() s, pg_sleep(3600)",
    );
    server.sql("ALTER SYSTEM SET archive_mode = on");
    let mut server = server;
    server.local_mut().restart(Duration::from_secs(60)).unwrap();
    server.sql("CREATE UNLOGGED TABLE lost_in_a_crash (id bigint PRIMARY KEY)");
    let report = runtime().block_on(check(server.dsn("postgres")));
    assert_complete(&report);
    let slow = unknown_because(&report, "timeout");
    assert!(slow.iter().any(|one| one.id == "bkp.archive_failing"), "{slow:#?}");
    assert!(
        slow.iter().all(|one| matches!(&one.reason, Reason::Timeout(text) if text.contains("timeout"))),
        "{slow:?}"
    );
    assert!(finds_the_unlogged_table(&report));
}

#[test]
fn sessions_that_are_ended_do_not_hang_the_run() {
    let server = Server::start();
    server.expect_log("terminating connection due to administrator command");
    let report = runtime().block_on(async {
        let (side, holder) = (side_session(&server).await, side_session(&server).await);
        holder.run("BEGIN; LOCK TABLE pg_trigger IN ACCESS EXCLUSIVE MODE").await.unwrap();
        let end = until(
            &side,
            "SELECT coalesce(bool_or(pg_terminate_backend(pid)), false) AS v FROM pg_stat_activity \
             WHERE application_name = 'surus check' AND wait_event_type = 'Lock'",
        );
        futures_util::future::join(check(server.dsn("postgres")), end).await.0
    });
    assert_complete(&report);
    assert!(!unknown_because(&report, "unreachable").is_empty(), "{:#?}", report.unknown);
}
