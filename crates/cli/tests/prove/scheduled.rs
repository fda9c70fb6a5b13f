//! The restore drills of `surus serve`: run when they are due, and seen as series, events and readiness; who is to be
//! told of a failed one is told.

use crate::{crashes::serve, room::Room};
use std::{fs, thread, time::Duration};
use surus_testkit::{
    peer::{http, url_encoded},
    require_major,
};

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..900 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("never: {what}");
}

/// The number that a query for now gives.
fn value(port: u16, promql: &str) -> Option<f64> {
    let answer = http(port, "GET", &format!("/api/v1/query?query={}", url_encoded(promql)), &[], "")?;
    let answer: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    answer["data"]["result"].get(0)?["value"][1].as_str()?.parse().ok()
}

#[test]
fn a_drill_that_is_due_is_run_and_everybody_sees_it() {
    let room = Room::new(require_major(15).unwrap_or(15));
    let (copies, told) = (room.path("copies"), room.path("told"));
    room.configure(&format!(
        "heartbeat = '1s'\n[observe]\ncounters = '1s'\n[check]\nevery = '10s'\n\
         [prove]\nscratch = '{}'\nreserve = '1kB'\ncommand = 'cat > {}'\n\
         [[invariant]]\nname = 'ids'\ndatabase = 'postgres'\nsql = 'SELECT id FROM t WHERE id < 1'\n\
         [[drill]]\ntarget = 'shop'\nrepository = 'main'\nevery = '1d'\n",
        copies.display(),
        told.display()
    ));
    room.server.expect_log("surus.heartbeat");
    room.back_up();
    room.switch_wal();
    let (_serve, port) = serve(&room);
    wait_until("a drill has passed", || value(port, "surus_proof_passed{kind='restore'}") == Some(1.0));
    assert!(value(port, "surus_proof_rto_seconds{kind='restore'}").unwrap() > 0.0);
    assert!(value(port, "surus_proof_expires_timestamp_seconds{kind='restore'} > time() + 6 * 86400").is_some());
    let get = |path: &str| http(port, "GET", path, &[], "").map_or_else(String::new, |answer| answer.body);
    assert!(get("/api/surus/v1/events?range=1h").contains("A restore drill passed"));
    wait_until("readiness has it", || {
        let found: serde_json::Value =
            serde_json::from_str(&get("/api/surus/v1/targets/shop/findings")).unwrap_or_default();
        let items = found["data"]["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|item| item["id"] == 5 && item["state"] == "proven")
    });
    assert!(!told.exists(), "nobody is told of a success");
    room.server.sql("INSERT INTO t VALUES (-1, 'odd')");
    room.switch_wal();
    let (code, _) = room.drill(&[]);
    assert_eq!(code, Some(1));
    let message: serde_json::Value = serde_json::from_str(&fs::read_to_string(&told).unwrap()).unwrap();
    assert!(message["outcome"] == "failed" && message["summary"].as_str().unwrap().contains("ids"), "{message}");
    wait_until("the failure is seen", || value(port, "surus_proof_passed{kind='restore'}") == Some(0.0));
}
