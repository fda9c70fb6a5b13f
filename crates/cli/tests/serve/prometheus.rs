//! A real Prometheus on both sides: it scrapes surus, and takes what surus sends on.

use crate::Serve;
use surus_testkit::{Server, peer::Peer};

/// Until the peer's answer holds the text.
#[track_caller]
fn until(serve: &Serve, peer: &Peer, promql: &str, text: &str) {
    serve.until(&format!("{promql} has {text}"), |_| peer.query(promql).contains(text));
}

#[test]
fn prometheus_scrapes_surus() {
    let server = Server::start();
    let mut serve = Serve::watching(&server, "");
    let configuration = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n\
         - job_name: surus\n  static_configs: [{{targets: ['{}']}}]\n",
        serve.listen()
    );
    let Some(peer) = Peer::prometheus(&configuration) else {
        eprintln!("skipped: prometheus is not installed");
        return;
    };
    until(&serve, &peer, r#"up{job="surus"}"#, r#""1"]"#);
    until(&serve, &peer, r#"pg_up{job="surus"}"#, r#""1"]"#);
    let same = r#"sum(pg_settings_max_connections)"#;
    let own = serve.value(same).unwrap();
    until(&serve, &peer, same, &format!("\"{own}\"]"));
    assert!(serve.stop().success(), "{}", serve.log());
}

#[test]
fn what_is_sent_on_has_no_gap_but_the_outage() {
    let server = Server::start();
    let Some(mut peer) = Peer::prometheus("") else {
        eprintln!("skipped: prometheus is not installed");
        return;
    };
    let remote = format!(
        "[[remote_write]]\nname = 'peer'\nurl = 'http://127.0.0.1:{}/api/v1/write'\nexternal_labels = {{ region = 'eu' }}\n",
        peer.port()
    );
    let mut serve = Serve::watching(&server, &remote);
    let count = r#"count_over_time(pg_up{instance="shop"}[1h])"#;
    until(&serve, &peer, r#"pg_up{instance="shop",region="eu"}"#, r#""1"]"#);

    // A killed surus says no goodbye.
    server.expect_log("connection to client lost");
    // The receiver is away; surus is killed and comes back meanwhile.
    peer.stop();
    let before = serve.value(count).unwrap();
    serve.until("more samples", |serve| serve.value(count) >= Some(before + 3.0));
    serve.kill();
    // A small container has no certificates of the system; nothing here is encrypted.
    serve.start_with(|command| command.env("SSL_CERT_FILE", "/nowhere/pem").env("SSL_CERT_DIR", "/nowhere"));
    let before = serve.value(count).unwrap();
    serve.until("more samples", |serve| serve.value(count) >= Some(before + 3.0));
    peer.start();

    // Everything that surus remembers up to now is there too.
    let end = serve.value("timestamp(pg_up)").unwrap();
    let all = count.replace("[1h]", &format!("[1h] @ {end}"));
    let own = serve.value(&all).unwrap();
    // One more where surus was killed between queueing and remembering.
    let counts = [own, own + 1.0].map(|count| format!("\"{count}\"]"));
    serve.until(&format!("{all} is {own}"), |_| counts.iter().any(|count| peer.query(&all).contains(count)));
    let metrics = serve.get("/metrics").unwrap().body;
    assert!(metrics.contains("\nsurus_remote_write_dropped_samples_total{remote=\"peer\"} 0\n"), "{metrics}");
    assert!(serve.stop().success(), "{}", serve.log());
}
