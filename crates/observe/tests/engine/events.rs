//! What changes on a target becomes an event.

use crate::scene::{EVER, collector, settings, values, watch, watched};
use surus_observe::{State, Watched};
use surus_testkit::{Cluster, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_are_followed() {
    let server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    site.until("the first is known", |now| values(now, "test_tables").len() == 1).await;
    server.create_database("late");
    server.sql_in("late", "CREATE TABLE t (id int)");
    site.until("the new one is known", |now| {
        values(now, "test_tables").iter().any(|(name, v)| name.contains("late") && *v == 1.0)
    })
    .await;
    assert_eq!(site.event("database").await.title, "Database late is new");
    // A session of ours may be in it just now.
    server.sql("DROP DATABASE late WITH (FORCE)");
    server.expect_log("terminating connection due to administrator command");
    server.expect_log("database \"late\" does not exist");
    site.found("its end", |store| {
        store.events(None, EVER).unwrap().into_iter().find(|event| event.title == "Database late is gone")
    })
    .await;
    site.until("it is forgotten", |now| collector(now, "tables", Some("late")).is_none()).await;
    assert_eq!(values(&site.observatory.targets()[0], "test_tables").len(), 1);
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_setting_is_named_with_both_values_but_never_with_a_secret() {
    let mut server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    site.until("it is up", |now| now.up).await;
    server.sql("ALTER SYSTEM SET work_mem = '9MB'");
    server.sql("ALTER SYSTEM SET primary_conninfo = 'host=nowhere password=hush'");
    server.local_mut().reload();
    site.event("reload").await;
    let event = site.event("settings").await;
    assert!(event.title.starts_with("2 settings changed: primary_conninfo, work_mem"), "{event:?}");
    assert!(event.detail.to_string().contains(r#""from":"4MB","to":"9MB""#), "{event:?}");
    assert!(!event.detail.to_string().contains("hush"), "{event:?}");
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promotion_is_noticed() {
    let mut cluster = Cluster::with_standbys(1);
    let site = watch(vec![watched(&cluster.standbys[0])], settings());
    let now = site.until("it is up", |now| now.up && !values(now, "test_backends").is_empty()).await;
    assert_eq!(now.role, Some("standby"));
    cluster.standbys[0].local_mut().promote(std::time::Duration::from_secs(60)).unwrap();
    site.until("it is a primary", |now| now.role == Some("primary")).await;
    assert_eq!(site.event("role").await.title, "Promoted: the standby is a primary now");
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_statistics_and_a_new_extension_are_noticed() {
    let server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    site.until("it was looked around", |now| values(now, "test_tables").len() == 1).await;
    server.sql("SELECT pg_stat_reset()");
    assert_eq!(site.event("stats_reset").await.title, "The statistics of database postgres were reset");
    server.sql("CREATE EXTENSION pgcrypto");
    let event = site.event("extension").await;
    assert!(
        event.title.starts_with("Extension pgcrypto ") && event.title.ends_with("was installed in postgres"),
        "{event:?}"
    );
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_see_little_gets_reasons_until_it_may() {
    let server = Server::start();
    server.sql("CREATE ROLE guest LOGIN");
    let guest =
        Watched { name: "main".into(), dsn: server.dsn_as("guest", "", "postgres"), cluster: None, heartbeat: None };
    let site = watch(vec![guest], settings());
    let now = site
        .until("activity has its reason", |now| {
            collector(now, "activity", None).is_some_and(|one| one.state == State::Absent)
        })
        .await;
    let why = collector(&now, "activity", None).and_then(|one| one.reason.clone()).unwrap();
    assert_eq!(why.code, Some("SURUS-Q001"));
    assert!(why.text.contains("guest") && why.text.contains("pg_read_all_stats"), "{why:?}");
    server.sql("GRANT pg_monitor TO guest");
    site.event("privileges").await;
    site.until("it may", |now| collector(now, "activity", None).is_some_and(|one| one.state == State::Fine)).await;
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_schema_are_told_in_every_database() {
    let server = Server::start();
    server.create_database("shop");
    server.sql_in("shop", "CREATE TABLE orders (id int PRIMARY KEY, sum int)");
    let site = watch(vec![watched(&server)], settings());
    let read = |now: &surus_observe::TargetNow, database| {
        collector(now, "schema", Some(database)).is_some_and(|one| one.state == State::Fine)
    };
    site.until("both were read", |now| read(now, "postgres") && read(now, "shop")).await;
    server.sql_in("shop", "ALTER TABLE orders ADD COLUMN note text; CREATE INDEX ON orders (sum)");
    server.sql("CREATE TABLE here (id int)");
    server.sql("CREATE TEMP TABLE passing (id int)");
    let titles = |store: &surus_store::samples::SampleStore| -> Vec<String> {
        let all = store.events(None, EVER).unwrap().into_iter().filter(|event| event.kind == "ddl");
        all.map(|event| event.title).collect()
    };
    let mut found = site.found("three changes", |store| Some(titles(store)).filter(|all| all.len() >= 3)).await;
    found.sort();
    assert_eq!(
        found,
        [
            "Column note was added to public.orders (database shop)",
            "Index public.orders_sum_idx on public.orders was created (database shop)",
            "Table public.here was created (database postgres)"
        ]
    );
    let event = site.event("ddl").await;
    let ms = |name: &str| event.detail[name].as_i64().unwrap();
    assert!(ms("not_before_ms") < ms("not_after_ms") && ms("not_after_ms") == event.at_ms, "{event:?}");
    server.sql_in("shop", "DROP TABLE orders");
    site.found("the end of a table", |store| {
        titles(store).into_iter().find(|title| title == "Table public.orders was dropped (database shop)")
    })
    .await;
    site.observatory.stop().await;
}
