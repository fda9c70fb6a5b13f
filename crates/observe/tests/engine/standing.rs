//! A target that is there, goes and comes back.

use crate::scene::{EVER, collector, settings, values, watch, watched};
use surus_core::series::is_stale;
use surus_observe::{State, Watched};
use surus_pg::server::Mode;
use surus_testkit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tier_answers_for_every_database() {
    let server = Server::start();
    server.create_database("shop");
    server.sql_in("shop", "CREATE TABLE t (id int)");
    let site = watch(vec![watched(&server)], settings());
    let now = site
        .until("all collectors answered", |now| {
            !values(now, "test_backends").is_empty()
                && values(now, "test_tables").len() == 2
                && values(now, "test_size_bytes").len() == 1
        })
        .await;
    assert!(now.up && now.trouble.is_none());
    assert_eq!((now.role, now.version.map(|version| version.major())), (Some("primary"), Some(server.major())));
    assert_eq!(values(&now, "pg_up"), [(String::from("{}"), 1.0)]);
    let mut tables = values(&now, "test_tables");
    tables.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(tables, [(r#"{datname="postgres"}"#.into(), 0.0), (r#"{datname="shop"}"#.into(), 1.0)]);
    site.observatory.stop().await;
    assert!(site.observatory.targets().is_empty());
    let left =
        "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus' AND pid <> pg_backend_pid()";
    assert_eq!(server.value(left), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_is_down_and_comes_back_by_itself() {
    let mut server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    site.until("it is up", |now| !values(now, "test_backends").is_empty()).await;
    // What a session is told that was just logging in when the server stops.
    server.expect_log("canceling authentication due to timeout");
    server.local_mut().stop(Mode::Fast).unwrap();
    let now = site.until("it is down", |now| values(now, "pg_up") == [(String::from("{}"), 0.0)]).await;
    assert!(!now.up && values(&now, "test_backends").is_empty());
    let backends = collector(&now, "backends", None).unwrap();
    assert!(backends.state == State::Failing && backends.reason.is_some(), "{backends:?}");
    site.until("the reason is known", |now| now.trouble.as_ref().is_some_and(|why| why.code == Some("SURUS-C006")))
        .await;
    server.local_mut().start(std::time::Duration::from_secs(60)).unwrap();
    site.until("it is up again", |now| now.up && !values(now, "test_backends").is_empty()).await;
    site.event("up").await;
    let kinds: Vec<String> = site.store.events(None, EVER).unwrap().into_iter().map(|event| event.kind).collect();
    assert!(["down", "restart", "up"].iter().all(|kind| kinds.iter().any(|one| one == kind)), "{kinds:?}");
    site.observatory.stop().await;
    let up = site.samples("pg_up");
    assert_eq!(up[0].0, r#"pg_up{cluster="shop", instance="main", job="postgres"}"#);
    // The last one is the mark that ends the series of a target that is not watched any more.
    let (end, told) = up[0].1.split_last().unwrap();
    assert!(is_stale(*end) && told.contains(&0.0) && told.first() == Some(&1.0) && told.last() == Some(&1.0), "{up:?}");
    assert!(!told.iter().any(|value| is_stale(*value)), "whether it is there is always known: {up:?}");
    let same = &site.samples("up")[0];
    assert_eq!((same.0.as_str(), same.1.len()), (&*up[0].0.replace("pg_", ""), up[0].1.len()));
    let backends = &site.samples("test_backends")[0].1;
    assert!(backends.iter().any(|value| is_stale(*value)), "the series ended when the server did: {backends:?}");
}

#[tokio::test]
async fn a_string_that_is_no_connection_string_is_a_target_with_its_reason() {
    let watched = Watched { name: "odd".into(), dsn: "hots=there".into(), cluster: None, heartbeat: None };
    let site = watch(vec![watched], settings());
    let now = site.observatory.targets().remove(0);
    assert_eq!(now.trouble.as_ref().and_then(|why| why.code), Some("SURUS-C001"));
    site.observatory.stop().await;
}
