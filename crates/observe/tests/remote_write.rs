//! Sending samples on to the real receivers.

use std::{collections::BTreeMap, path::Path, sync::Arc, thread, time::Duration};
use surus_core::{
    clock::{self, Deadline},
    secret::Secret,
    series::{Labels, MetricKind},
};
use surus_observe::remote_write::{Login, Receiver, RemoteWrite};
use surus_store::samples::{SampleStore, Settings};
use surus_testkit::peer::Peer;

const WITHIN: Duration = Duration::from_secs(60);

fn open(dir: &Path) -> Arc<SampleStore> {
    // Whoever comes first: cryptography is chosen once in a process.
    let _chosen = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Arc::new(SampleStore::open(&dir.join("samples.db"), Settings::default()).unwrap())
}

fn receiver(port: u16) -> Receiver {
    Receiver {
        name: "peer".into(),
        url: format!("http://127.0.0.1:{port}/api/v1/write"),
        login: Login::None,
        headers: BTreeMap::new(),
        external_labels: [("region".to_owned(), "eu".to_owned())].into(),
        max_bytes: 1 << 20,
    }
}

fn point(name: &str, value: f64) -> (Labels, f64) {
    (Labels::new([("__name__", name), ("job", "postgres"), ("instance", "a")]).unwrap(), value)
}

/// A cycle for each of these seconds before `end_ms`, newest last.
fn cycles(remote: &RemoteWrite, end_ms: i64, seconds: std::ops::RangeInclusive<i64>) {
    for second in seconds.rev() {
        remote.hand_over("a", "counters", end_ms - second * 1000, &[point("surus_test", second as f64)]).unwrap();
    }
}

fn value(remote: &RemoteWrite, name: &str) -> f64 {
    let told = remote.told();
    told.iter().find(|told| told.family.name == name).map_or(0.0, |told| told.points[0].value)
}

/// Until the peer's answer to the query holds the text.
#[track_caller]
fn until(peer: &Peer, promql: &str, text: &str) {
    let deadline = Deadline::after(WITHIN);
    loop {
        let answer = peer.query(promql);
        if answer.contains(text) {
            return;
        }
        assert!(!deadline.passed(), "{text} is not in {answer}");
        thread::sleep(Duration::from_millis(100));
    }
}

async fn until_true(what: &str, holds: impl Fn() -> bool) {
    let deadline = Deadline::after(WITHIN);
    while !holds() {
        assert!(!deadline.passed(), "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Both sides are stopped and started in the middle; every sample arrives.
async fn survives_restarts(mut peer: Peer) {
    let dir = tempfile::tempdir().unwrap();
    let end_ms = clock::now().as_millisecond();
    let store = open(dir.path());
    store.describe(&[("surus_test", MetricKind::Gauge, "a test")]).unwrap();
    let remote = RemoteWrite::start(vec![receiver(peer.port())], store.clone()).unwrap();
    cycles(&remote, end_ms, 41..=60);
    until_true("the first are sent", || value(&remote, "surus_remote_write_samples_total") == 20.0).await;

    peer.stop();
    cycles(&remote, end_ms, 21..=40);
    until_true("it tries again", || value(&remote, "surus_remote_write_retries_total") > 0.0).await;
    remote.stop().await;
    drop((remote, store));

    let store = open(dir.path());
    let remote = RemoteWrite::start(vec![receiver(peer.port())], store.clone()).unwrap();
    cycles(&remote, end_ms, 1..=20);
    peer.start();
    until_true("the queue is empty", || {
        value(&remote, "surus_remote_write_samples_total") == 40.0
            && value(&remote, "surus_remote_write_pending_samples") == 0.0
    })
    .await;
    let all = r#"count_over_time(surus_test{region="eu",job="postgres",instance="a"}[10m])"#;
    until(&peer, all, r#""60"]"#);
    until(&peer, r#"sum_over_time(surus_test[10m])"#, r#""1830"]"#);
    assert_eq!(value(&remote, "surus_remote_write_dropped_samples_total"), 0.0);

    // A series that the group no longer tells ends there too.
    remote.hand_over("a", "counters", end_ms, &[point("surus_other", 1.0)]).unwrap();
    until(&peer, "surus_other", r#""1"]"#);
    until(&peer, "surus_test", r#""result":[]"#);
    remote.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_gets_every_sample_across_restarts() {
    match Peer::prometheus("") {
        Some(peer) => survives_restarts(peer).await,
        None => eprintln!("skipped: prometheus is not installed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn victoria_metrics_gets_every_sample_across_restarts() {
    match Peer::victoria_metrics() {
        Some(peer) => survives_restarts(peer).await,
        None => eprintln!("skipped: victoria-metrics is not installed"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_dropped_and_counted_and_the_rest_goes_on() {
    let Some(peer) = Peer::prometheus("") else {
        eprintln!("skipped: prometheus is not installed");
        return;
    };
    let (dir, now_ms) = (tempfile::tempdir().unwrap(), clock::now().as_millisecond());
    let remote = RemoteWrite::start(vec![receiver(peer.port())], open(dir.path())).unwrap();
    remote.hand_over("a", "counters", now_ms - 2000, &[point("surus_test", 1.0)]).unwrap();
    // Two values for one moment: Prometheus answers 400.
    remote.hand_over("a", "counters", now_ms - 2000, &[point("surus_test", 2.0)]).unwrap();
    remote.hand_over("a", "counters", now_ms - 1000, &[point("surus_test", 3.0)]).unwrap();
    until_true("one is dropped", || value(&remote, "surus_remote_write_dropped_samples_total") == 1.0).await;
    until(&peer, "surus_test", r#""3"]"#);
    until_true("two are sent", || value(&remote, "surus_remote_write_samples_total") == 2.0).await;
    remote.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_loses_the_oldest_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens there.
    let small = Receiver { max_bytes: 1000, ..receiver(surus_testkit::peer::free_port()) };
    let remote = RemoteWrite::start(vec![small], open(dir.path())).unwrap();
    cycles(&remote, clock::now().as_millisecond(), 1..=100);
    until_true("samples are dropped", || value(&remote, "surus_remote_write_dropped_samples_total") > 50.0).await;
    assert!(value(&remote, "surus_remote_write_pending_bytes") <= 1000.0);
    let told = value(&remote, "surus_remote_write_pending_samples")
        + value(&remote, "surus_remote_write_dropped_samples_total");
    assert_eq!(told, 100.0);
    remote.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_come_and_go_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let one = receiver(surus_testkit::peer::free_port());
    let remote = RemoteWrite::start(vec![one.clone()], open(dir.path())).unwrap();
    let login = Login::Basic { username: "u".into(), password: Secret::new("Zebra-77") };
    let bad = Receiver { name: "bad".into(), url: "not a url".into(), login: login.clone(), ..one.clone() };
    let refused = remote.reload(vec![bad.clone()]).await.unwrap_err();
    assert!(refused.to_string().contains("bad") && !format!("{bad:?} {refused}").contains("Zebra"));
    let names = || {
        let told = remote.told();
        let pending = told.iter().find(|told| told.family.name == "surus_remote_write_pending_samples");
        let points = pending.map_or(&[][..], |told| &told.points);
        points.iter().filter_map(|point| point.labels.get("remote").map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["peer"]);
    remote.reload(vec![one, Receiver { name: "other".into(), login, ..receiver(9) }]).await.unwrap();
    assert_eq!(names(), ["peer", "other"]);
    remote.reload(Vec::new()).await.unwrap();
    assert_eq!(names(), [""; 0]);
    remote.stop().await;
}
