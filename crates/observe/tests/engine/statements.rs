//! What statements add to pg_stat_statements.

use crate::scene::{EVER, collector, settings, values, watch, watched};
use surus_observe::State;
use surus_store::samples::{QueryDelta, SampleStore};
use surus_testkit::Server;

fn with_text(store: &SampleStore, text: &str) -> Vec<QueryDelta> {
    let all = store.query_deltas("main", EVER).unwrap().into_iter().flat_map(|moment| moment.deltas);
    let known =
        |delta: &QueryDelta| store.query_text("main", delta.query_id).unwrap().is_some_and(|own| own.contains(text));
    all.filter(known).collect()
}

fn calls(store: &SampleStore, text: &str) -> i64 {
    with_text(store, text).iter().map(|delta| delta.calls).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deltas_are_what_was_called_in_between_and_a_reset_is_no_negative_one() {
    for major in surus_testkit::majors().into_iter().filter(|major| [13, 15].contains(major) || *major >= 18) {
        let server = Server::builder().major(major).setting("shared_preload_libraries", "pg_stat_statements").start();
        // Not where search_path would find it.
        server
            .sql("CREATE SCHEMA tools; CREATE EXTENSION pg_stat_statements SCHEMA tools; CREATE TABLE t (marked int)");
        server.sql("INSERT INTO t SELECT 1 FROM generate_series(1, 5)");
        let site = watch(vec![watched(&server)], settings());
        let fine = |now: &surus_observe::TargetNow| {
            collector(now, "statements", None).is_some_and(|one| one.state == State::Fine)
        };
        site.until("the first reading is done", fine).await;
        for _ in 0..3 {
            server.sql("SELECT marked FROM t");
        }
        site.found("three calls", |store| (calls(store, "SELECT marked") == 3).then_some(())).await;
        let deltas = with_text(&site.store, "SELECT marked");
        assert_eq!(deltas.iter().map(|delta| delta.rows).sum::<i64>(), 15);
        assert!(deltas.iter().all(|delta| delta.user == "postgres" && delta.database == "postgres"));
        assert_eq!(calls(&site.store, "INSERT INTO t"), 0, "what was before the first reading is not counted");
        server.sql("SELECT tools.pg_stat_statements_reset()");
        server.sql("SELECT marked FROM t");
        server.sql("SELECT marked FROM t");
        site.found("two more", |store| (calls(store, "SELECT marked") == 5).then_some(())).await;
        if major >= 14 {
            let events = site.store.events(None, EVER).unwrap();
            assert!(
                events.iter().any(|event| event.title == "The statistics of pg_stat_statements were reset"),
                "{events:?}"
            );
        }
        let all = site.store.query_deltas("main", EVER).unwrap();
        let negative = |delta: &QueryDelta| delta.calls < 0 || delta.rows < 0 || delta.exec_time_ms < 0.0;
        assert!(!all.iter().flat_map(|moment| &moment.deltas).any(negative));
        let now = site.until("sums are told", |now| !values(now, "surus_statements_calls_total").is_empty()).await;
        assert!(values(&now, "surus_statements_calls_total").iter().all(|(labels, _)| labels.starts_with("{datname=")));
        site.observatory.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_a_statement_is_not_remembered() {
    let server = Server::builder().setting("shared_preload_libraries", "pg_stat_statements").start();
    server.sql("CREATE EXTENSION pg_stat_statements");
    let site = watch(vec![watched(&server)], settings());
    site.until("the first reading is done", |now| {
        collector(now, "statements", None).is_some_and(|one| one.state == State::Fine)
    })
    .await;
    server.sql("CREATE ROLE someone PASSWORD 'hu''sh'");
    let text = site
        .found("its text", |store| {
            let ids = store.query_deltas("main", EVER).unwrap().into_iter().flat_map(|moment| moment.deltas);
            let mut texts = ids.filter_map(|delta| store.query_text("main", delta.query_id).unwrap());
            texts.find(|text| text.contains("CREATE ROLE someone"))
        })
        .await;
    assert!(!text.contains("sh'") && text.contains("PASSWORD"), "{text}");
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_extension_or_its_library_there_is_a_reason() {
    let server = Server::start();
    let site = watch(vec![watched(&server)], settings());
    let reason = |now: &surus_observe::TargetNow| {
        let one = collector(now, "statements", None)?;
        (one.state == State::Absent).then(|| one.reason.clone())?
    };
    let now = site.until("there is a reason", |now| reason(now).is_some()).await;
    assert!(reason(&now).unwrap().text.contains("not installed in database postgres"), "{:?}", reason(&now));
    server.expect_log("pg_stat_statements must be loaded");
    server.sql("CREATE EXTENSION pg_stat_statements");
    site.until("the library is missing", |now| {
        reason(now).is_some_and(|why| why.text.contains("shared_preload_libraries"))
    })
    .await;
    site.observatory.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_read_in_the_database_that_has_the_extension() {
    let server = Server::builder().setting("shared_preload_libraries", "pg_stat_statements").start();
    server.create_database("tools");
    server.sql_in("tools", "CREATE EXTENSION pg_stat_statements");
    server.sql("CREATE TABLE t (marked int)");
    let site = watch(vec![watched(&server)], settings());
    site.until("the first reading is done", |now| {
        collector(now, "statements", None).is_some_and(|one| one.state == State::Fine)
    })
    .await;
    server.sql("SELECT marked FROM t");
    site.found("the call", |store| (calls(store, "SELECT marked") == 1).then_some(())).await;
    assert!(with_text(&site.store, "SELECT marked").iter().all(|delta| delta.database == "postgres"));
    site.observatory.stop().await;
}
