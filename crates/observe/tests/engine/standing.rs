//! A target that is there, goes and comes back.

use crate::scene::{settings, until, values, watched};
use surus_observe::{Observatory, Watched};
use surus_pg::server::Mode;
use surus_testkit::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_tier_answers_for_every_database() {
    let server = Server::start();
    server.create_database("shop");
    server.sql_in("shop", "CREATE TABLE t (id int)");
    let observatory = Observatory::start(vec![watched(&server)], settings());
    let now = until(&observatory, "all collectors answered", |now| {
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
    observatory.stop().await;
    assert!(observatory.targets().is_empty());
    let left =
        "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus' AND pid <> pg_backend_pid()";
    assert_eq!(server.value(left), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_dies_is_down_and_comes_back_by_itself() {
    let mut server = Server::start();
    let observatory = Observatory::start(vec![watched(&server)], settings());
    until(&observatory, "it is up", |now| !values(now, "test_backends").is_empty()).await;
    server.local_mut().stop(Mode::Fast).unwrap();
    let now = until(&observatory, "it is down", |now| values(now, "pg_up") == [(String::from("{}"), 0.0)]).await;
    assert!(!now.up && values(&now, "test_backends").is_empty());
    until(&observatory, "the reason is known", |now| {
        now.trouble.as_ref().is_some_and(|why| why.code == Some("SURUS-C006"))
    })
    .await;
    server.local_mut().start(std::time::Duration::from_secs(60)).unwrap();
    until(&observatory, "it is up again", |now| now.up && !values(now, "test_backends").is_empty()).await;
    observatory.stop().await;
}

#[tokio::test]
async fn a_string_that_is_no_connection_string_is_a_target_with_its_reason() {
    let watched = Watched { name: "odd".into(), dsn: "hots=there".into(), cluster: None };
    let observatory = Observatory::start(vec![watched], settings());
    let now = observatory.targets().remove(0);
    assert_eq!(now.trouble.as_ref().and_then(|why| why.code), Some("SURUS-C001"));
    observatory.stop().await;
}
