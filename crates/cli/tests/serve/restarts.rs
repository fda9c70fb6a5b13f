//! What survives: a killed surus, and a server that goes and comes.

use crate::{Serve, tail};
use std::time::Duration;
use surus_testkit::Server;

#[test]
fn a_killed_surus_keeps_its_samples() {
    let server = Server::start();
    let mut serve = Serve::watching(&server, "");
    // A killed surus says no goodbye.
    server.expect_log("connection to client lost");
    let count = "count_over_time(pg_up[1h])";
    for round in 1..=3 {
        let least = f64::from(round) * 3.0;
        serve.until("samples", |serve| serve.value(count) >= Some(least));
        let end = serve.value("timestamp(pg_up)").unwrap();
        let before = serve.value(count).unwrap();
        serve.until("they are a second old", |serve| serve.value("timestamp(pg_up)") >= Some(end + 1.5));
        serve.kill();
        serve.start();
        let after = serve.value(&format!("count_over_time(pg_up[1h] @ {end})")).unwrap();
        assert!(after >= before, "{before} samples before, {after} after: {}", tail(&serve.path("log"), 20));
    }
    assert!(serve.stop().success(), "{}", serve.log());
}

#[test]
fn a_server_that_goes_is_down_and_comes_back() {
    let mut server = Server::start();
    let mut serve = Serve::watching(&server, "");
    serve.until_value("pg_up", 1.0);
    server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
    serve.until_value("pg_up", 0.0);
    let page = serve.get("/").unwrap().body;
    assert!(page.contains("does not answer") && page.contains("SURUS-C"), "{page}");
    assert!(serve.get("/metrics").unwrap().body.contains("\npg_up 0\n"));
    server.local_mut().start(Duration::from_secs(60)).unwrap();
    serve.until_value("pg_up", 1.0);
    assert!(serve.stop().success(), "{}", serve.log());
}
