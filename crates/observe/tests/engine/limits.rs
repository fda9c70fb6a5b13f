//! A good guest: two sessions at most, whatever the server does.

use crate::scene::{collector, settings, values, watch, watched};
use std::time::Duration;
use surus_core::clock::Deadline;
use surus_observe::{Settings, State, Watched};
use surus_pg::{Manners, Session, Target};
use surus_testkit::Server;

/// surus's sessions, as the server sees them.
const OURS: &str = "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus'";

async fn count(session: &Session, sql: &str) -> i64 {
    session.ask(sql).await.unwrap().first().unwrap().i64("v").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_costs_only_its_collectors_their_answer_and_no_session() {
    let server = Server::start();
    server.create_database("shop");
    server.sql("CREATE TABLE held (id int); CREATE TABLE free (id int)");
    server.expect_log("canceling statement due to lock timeout");
    let site = watch(vec![watched(&server)], settings());
    site.until("sizes are known", |now| values(now, "test_size_bytes").len() == 2).await;
    let tester = |manners: Manners| Manners { application_name: "tester".into(), ..manners };
    let holder = server.session("postgres", &tester(Manners::changing())).await;
    holder.run("BEGIN; LOCK TABLE public.held IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let observer = server.session("postgres", &tester(Manners::looking())).await;
    site.until("the collector rests with its reason", |now| {
        collector(now, "size", Some("postgres")).is_some_and(|one| one.state == State::Resting)
    })
    .await;
    let (mut most, limit) = (0, Deadline::after(Duration::from_secs(3)));
    while !limit.passed() {
        most = most.max(count(&observer, OURS).await);
    }
    assert!((1..=2).contains(&most), "{most} sessions");
    let now = site.observatory.targets().remove(0);
    let size = collector(&now, "size", Some("postgres")).unwrap();
    let why = size.reason.as_ref().unwrap();
    assert_eq!(why.code, Some("SURUS-Q002"), "{why:?}");
    assert!(why.text.contains("lock timeout") && why.text.contains("times in a row"), "{why:?}");
    assert!(now.up && !values(&now, "test_backends").is_empty());
    let elsewhere = collector(&now, "size", Some("shop")).unwrap();
    assert_eq!(elsewhere.state, State::Fine, "another database is none the worse");
    holder.run("ROLLBACK").await.unwrap();
    site.until("the answer is back", |now| values(now, "test_size_bytes").len() == 2).await;
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_for_a_second_session_is_watched_with_one() {
    let server = Server::builder()
        .setting("max_connections", "5")
        .setting("superuser_reserved_connections", "0")
        .setting("max_wal_senders", "0")
        .start();
    server.create_database("shop");
    server.sql("CREATE ROLE guest LOGIN; GRANT pg_monitor TO guest");
    server.expect_log("sorry, too many clients already");
    server.expect_log("remaining connection slots are reserved");
    let target = Target::parse(&server.dsn("postgres")).unwrap();
    let first =
        Watched { name: "main".into(), dsn: server.dsn_as("guest", "", "postgres"), cluster: None, heartbeat: None };
    // Tables are looked into in the other database, for which there will be no room.
    let site = watch(vec![first], Settings { slow: Duration::from_secs(600), ..settings() });
    site.until("it is up", |now| values(now, "test_tables").len() == 2).await;
    let mut others = Vec::new();
    let limit = Deadline::after(Duration::from_secs(30));
    while others.len() < 4 {
        let manners = Manners { application_name: "tester".into(), ..Manners::looking() };
        match target.connect(&manners).await {
            Ok(session) => others.push(session),
            // surus was there first; its second session ends soon.
            Err(_) => assert!(!limit.passed(), "no room for {} more", 4 - others.len()),
        }
    }
    let now = site
        .until("there is no room", |now| {
            let one = collector(now, "tables", Some("shop"));
            one.and_then(|one| one.reason.as_ref()).is_some_and(|why| why.code == Some("SURUS-C017"))
        })
        .await;
    assert!(now.up && !values(&now, "test_backends").is_empty());
    assert_eq!(count(&others[0], OURS).await, 1);
    drop(others);
    site.until("there is room again", |now| values(now, "test_tables").len() == 2).await;
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_is_opened_anew_and_a_refusal_has_its_reason() {
    let server = Server::builder().tcp().start();
    server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE guest LOGIN PASSWORD 'right'; GRANT pg_monitor TO guest");
    server.expect_log("password authentication failed");
    server.expect_log("terminating connection due to administrator command");
    let with = |password: &str| Watched {
        name: "main".into(),
        dsn: server.dsn_as("guest", password, "postgres"),
        cluster: None,
        heartbeat: None,
    };
    let site = watch(vec![with("wrong")], settings());
    let now = site.until("it is refused", |now| now.trouble.is_some()).await;
    let why = now.trouble.as_ref().unwrap();
    assert_eq!(why.code, Some("SURUS-C007"), "{why:?}");
    assert!(!now.up && !format!("{now:?}").contains("wrong"));
    assert_eq!(values(&now, "pg_up").first().map_or(0.0, |(_, up)| *up), 0.0);
    site.observatory.reload(vec![with("right")], settings()).await;
    let now = site.until("it is up", |now| now.up && !values(now, "test_backends").is_empty()).await;
    assert!(now.trouble.is_none());
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'surus' AND pid <> pg_backend_pid()");
    site.event("down").await;
    site.event("up").await;
    site.until("it answers again", |now| now.up && !values(now, "test_backends").is_empty()).await;
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_beyond_the_limit_are_named_as_missing() {
    let server = Server::start();
    server.create_database("a");
    server.create_database("b");
    let site = watch(vec![watched(&server)], Settings { databases_at_most: 2, ..settings() });
    let now = site.until("two are looked into", |now| values(now, "test_tables").len() == 2).await;
    assert!(now.missing.iter().any(|why| why.text.contains("1 are left out")), "{:?}", now.missing);
    site.observatory.stop().await;
}
