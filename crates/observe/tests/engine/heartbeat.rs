//! The heartbeat row: written where it is wished for, on primaries, and never against the server's will.

use crate::scene::{settings, watch, watched};
use std::time::Duration;
use surus_core::clock::Deadline;
use surus_observe::Watched;
use surus_testkit::Server;

/// The rows' number and the newest one's age in seconds.
const ROWS: &str = "SELECT count(*) || ' ' || (max(at) > clock_timestamp() - interval '3 s') AS v FROM surus.heartbeat";

async fn wait(what: &str, server: &Server, sql: &str, wanted: &str) {
    let limit = Deadline::after(Duration::from_secs(30));
    while server.try_query_in("postgres", sql).ok().and_then(|rows| rows.first().ok()?.text("v").ok()).as_deref()
        != Some(wanted)
    {
        assert!(!limit.passed(), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn beating(server: &Server) -> Watched {
    Watched { heartbeat: Some(Duration::from_millis(300)), ..watched(server) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_is_written_again_and_again_in_the_first_session() {
    let server = Server::start();
    server.expect_log("relation \"surus.heartbeat\" does not exist");
    let site = watch(vec![beating(&server)], settings());
    wait("a heartbeat is there", &server, ROWS, "1 true").await;
    let first = server.value("SELECT max(at)::text AS v FROM surus.heartbeat");
    wait("it goes on", &server, &format!("SELECT (max(at) > '{first}')::text AS v FROM surus.heartbeat"), "true").await;
    let most = "SELECT (count(*) <= 2)::text AS v FROM pg_stat_activity WHERE application_name = 'surus'";
    assert_eq!(server.value(most), "true");
    // The session that watches still reads only: what it writes is this alone.
    let now = site.until("it is shown", |now| now.up).await;
    assert!(now.missing.is_empty(), "{:?}", now.missing);
    site.observatory.stop().await;
    wait("nobody writes any more", &server, ROWS, "1 false").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_write_says_what_to_grant_and_leaves_no_error_in_the_log() {
    let server = Server::start();
    server.sql("CREATE ROLE guest LOGIN; GRANT pg_monitor TO guest");
    let guest = Watched { dsn: server.dsn_as("guest", "", "postgres"), ..beating(&server) };
    let site = watch(vec![guest], settings());
    let now =
        site.until("the reason is shown", |now| now.missing.iter().any(|why| why.text.contains("heartbeat"))).await;
    assert!(now.missing.iter().any(|why| why.text.contains("GRANT CREATE ON DATABASE")), "{:?}", now.missing);
    site.observatory.stop().await;
    assert_eq!(server.value("SELECT count(*) AS v FROM pg_namespace WHERE nspname = 'surus'"), "0");
}
