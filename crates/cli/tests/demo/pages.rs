//! The pages of the demo: there from the start, and they show what was planted.

use crate::stage::{Demo, Stage};
use std::{thread, time::Duration};
use surus_core::clock::{Deadline, Stopwatch};
use surus_testkit::peer::{http, url_encoded};

/// The number that a query for now gives; none when it gives no series.
fn value(port: u16, promql: &str) -> Option<f64> {
    let answer = http(port, "GET", &format!("/api/v1/query?query={}", url_encoded(promql)), &[], "")?;
    let answer: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    answer["data"]["result"].get(0)?["value"][1].as_str()?.parse().ok()
}

fn until(port: u16, promql: &str, within_s: u64) {
    let deadline = Deadline::after(Duration::from_secs(within_s));
    while value(port, promql).is_none_or(|value| value == 0.0) {
        assert!(!deadline.passed(), "not within {within_s} s: {promql}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn they_are_alive_at_once_and_show_what_is_wrong() {
    let stage = Stage::new(None);
    let mut demo = Demo::start(&stage, &["--rows", "1000", "--seconds", "1", "--hold-replay"]);
    let text = demo.read_until(|line| line.contains("http://127.0.0.1:"));
    let port: u16 = text.trim().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let watch = Stopwatch::start();
    until(port, "up{instance=\"primary\"} == bool 1", 30);
    eprintln!("the primary was there {:.1} s after its pages", watch.elapsed_ms() / 1000.0);
    let text = demo.read_until(|line| line.contains("  password   "));
    let password = text.lines().last().unwrap().split_whitespace().nth(1).unwrap().to_owned();

    until(port, "up{instance=\"standby\"} == bool 1", 60);
    until(port, "surus_check_findings{instance=\"primary\",severity=\"crit\"} > bool 0", 120);
    until(port, "surus_check_findings{instance=\"standby\",severity=\"warn\"} > bool 0", 120);
    until(port, "pg_replication_lag_seconds{instance=\"standby\"} > bool 1", 60);
    until(port, "pg_settings_work_mem_bytes{instance=\"primary\"} == bool 65536", 150);

    // Everybody here may read; for more it takes the password.
    let get = |path: &str| http(port, "GET", path, &[], "").unwrap().status;
    assert_eq!((get("/"), get("/metrics")), (200, 200));
    let away = http(port, "GET", "/", &[("Host", "db.example")], "").unwrap();
    assert_eq!(away.status, 401);
    let end = "/api/surus/v1/targets/primary/sessions/1/terminate";
    assert_eq!(http(port, "POST", end, &[], "").unwrap().status, 401);
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let login = http(port, "POST", "/login", &[form], &format!("password={password}")).unwrap();
    assert_eq!(login.status, 303);

    demo.signal("INT");
    let (status, rest) = demo.wait();
    assert_eq!(status.code(), Some(0), "{rest}");
    stage.assert_clean();
}
