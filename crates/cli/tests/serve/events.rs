//! Events over the API and by the command.

use crate::{SECRET, Serve, fails};
use serde_json::{Value, json};
use std::process::Output;
use surus_testkit::peer::http;

const PATH: &str = "/api/surus/v1/events";
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A surus that watches nobody who is there.
fn alone(configuration: &str) -> Serve {
    let nobody = "[[target]]\nname = 'none'\ndsn = 'host=/nowhere'\n";
    let mut serve = Serve::prepared("");
    let listen = serve.listen();
    serve.write("surus.toml", &format!("[serve]\nlisten = '{listen}'\n{configuration}{nobody}"));
    serve.start();
    serve
}

/// `surus event …` with the configuration of the one that runs.
fn event(serve: &Serve, arguments: &[&str]) -> Output {
    let mut command = serve.command(&[]);
    let program = command.get_program().to_owned();
    command = std::process::Command::new(program);
    command.arg("event").args(arguments).arg("--data-dir").arg(serve.path("data")).current_dir(serve.dir.path());
    command.env("HOME", serve.dir.path()).env("NO_COLOR", "1").env_remove("SURUS_TOKEN").output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn titles(answer: &Value) -> Vec<&str> {
    answer["data"]["events"].as_array().unwrap().iter().map(|event| event["title"].as_str().unwrap()).collect()
}

#[test]
fn a_mark_is_kept_with_and_without_a_surus_that_runs() {
    let mut serve = alone("");
    assert_eq!(said(&event(&serve, &["add", "deployed v42", "--key", "v42", "--at", "1m"])), "Kept.\n");
    assert!(said(&event(&serve, &["add", "deployed v42 again", "--key", "v42"])).contains("already"));
    let detail = ["add", "load test", "--kind", "test", "--target", "none", "--detail", r#"{"rate": 7}"#];
    assert_eq!(said(&event(&serve, &detail)), "Kept.\n");
    let marks = |target: &str| format!("{PATH}?target={target}");
    assert_eq!(titles(&serve.json(&marks("none"))), ["deployed v42", "load test"]);
    assert_eq!(titles(&serve.json(&marks("other"))), ["deployed v42"]);
    let test = serve.json(&format!("{PATH}?kind=test"));
    assert_eq!(titles(&test), ["load test"]);
    assert_eq!(test["data"]["events"][0]["detail"], json!({ "rate": 7 }));
    assert_eq!(titles(&serve.json(&format!("{PATH}?to=2000-01-01T00:00:00Z"))), Vec::<&str>::new());
    let url = format!("http://{}", serve.listen());
    let listed = said(&event(&serve, &["list", "--server", &url, "--format", "json"]));
    assert_eq!(serde_json::from_str::<Value>(&listed).unwrap()["events"].as_array().unwrap().len(), 2);
    serve.write("elsewhere.toml", "[serve]\nlisten = '127.0.0.1:1'\n");
    let elsewhere = event(&serve, &["add", "lost", "--config", "elsewhere.toml"]);
    fails(&elsewhere, 4, "SURUS-M004", &["127.0.0.1:1", "--server"]);
    assert!(serve.stop().success());
    // Nobody holds the file now.
    assert_eq!(said(&event(&serve, &["add", "while away"])), "Kept.\n");
    let listed = said(&event(&serve, &["list", "--from", "1h"]));
    let ends: Vec<&str> = listed.lines().map(|line| line.rsplit("  ").next().unwrap()).collect();
    assert_eq!(ends, ["deployed v42", "load test", "while away"]);
}

#[test]
fn what_is_no_event_is_refused() {
    let mut serve = alone("");
    let long = "x".repeat(201);
    fails(&event(&serve, &["add", &long]), 2, "SURUS-V001", &["201", "200"]);
    fails(&event(&serve, &["add", "a", "--kind", "No Word"]), 2, "SURUS-V001", &["kind"]);
    fails(&event(&serve, &["add", "a", "--detail", "{"]), 2, "SURUS-V001", &["no JSON"]);
    fails(&event(&serve, &["add", "a", "--at", "yesterday"]), 2, "SURUS-M005", &["yesterday"]);
    fails(&event(&serve, &["add", "a", "--server", "http://127.0.0.1:1"]), 4, "SURUS-M004", &[]);
    let post = |headers: &[(&str, &str)], body: &str| http(serve.port, "POST", PATH, headers, body).unwrap();
    let good = r#"{"kind": "deploy", "title": "good"}"#;
    let bad = |body: &str| assert_eq!(post(&[JSON], body).status, 400, "{body}");
    bad("");
    bad(r#"{"title": "no kind"}"#);
    bad(r#"{"kind": "deploy", "title": ""}"#);
    bad(r#"{"kind": "deploy", "title": "a", "slip": 1}"#);
    bad(r#"{"kind": "deploy", "title": "a", "at_ms": 99999999999999}"#);
    bad(&json!({ "kind": "deploy", "title": "a", "detail": "x".repeat(17 << 10) }).to_string());
    assert_eq!(post(&[("Content-Type", "text/plain")], good).status, 400);
    assert_eq!(post(&[JSON, ("Origin", "http://evil.example")], good).status, 403);
    assert_eq!(post(&[JSON, ("Sec-Fetch-Site", "cross-site")], good).status, 403);
    assert!(titles(&serve.json(PATH)).is_empty());
    assert_eq!(post(&[JSON], good).status, 200);
    let flood = (0..130).filter(|_| post(&[JSON], good).status == 503).count();
    assert!((1..=129).contains(&flood), "{flood}");
    assert!(serve.stop().success());
}

#[test]
fn a_login_is_taken_from_the_configuration() {
    let serve = Serve::prepared("");
    let password = serve.write("password", &format!("{SECRET}\n"));
    let serve = alone(&format!("password = 'file:{password}'\n"));
    assert_eq!(http(serve.port, "POST", PATH, &[JSON], r#"{"kind": "deploy", "title": "a"}"#).unwrap().status, 401);
    assert_eq!(said(&event(&serve, &["add", "with the password"])), "Kept.\n");
    let url = format!("http://surus:{SECRET}@{}", serve.listen());
    assert_eq!(said(&event(&serve, &["add", "in the address", "--server", &url])), "Kept.\n");
    let listed = said(&event(&serve, &["list", "--server", &url]));
    assert_eq!(listed.lines().count(), 2);
}
