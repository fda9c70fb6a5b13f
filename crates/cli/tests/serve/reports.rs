//! `surus report instance` against a real surus over a real server.

use crate::{SECRET, Serve, fails};
use std::{
    fs,
    process::{Command, Output},
};
use surus_testkit::Server;

/// `surus report instance …` in the directory of the one that runs.
fn report(serve: &Serve, arguments: &[&str]) -> Output {
    let url = format!("http://{}", serve.listen());
    let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
    command.args(["report", "instance"]).args(arguments);
    if !arguments.contains(&"--server") && !arguments.contains(&"--config") {
        command.args(["--server", &url]);
    }
    command.current_dir(serve.dir.path()).env("HOME", serve.dir.path()).env("NO_COLOR", "1").env_remove("SURUS_TOKEN");
    command.output().unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_range_becomes_a_file_that_needs_nothing_else() {
    let server = Server::builder().setting("shared_preload_libraries", "pg_stat_statements").start();
    let sql = |text: &str| server.sql(text);
    sql("CREATE EXTENSION pg_stat_statements; CREATE TABLE orders AS SELECT g AS id FROM generate_series(1, 9) AS g");
    let mut serve = Serve::watching(&server, "");
    // What a statement adds is known when it was read twice.
    serve.until("the statements are known", |serve| {
        sql("SELECT count(*) FROM orders WHERE id > 3");
        let queries = serve.json("/api/surus/v1/targets/shop/queries");
        queries["data"]["rows"].as_array().is_some_and(|rows| {
            rows.iter().any(|row| row["text"].as_str().is_some_and(|text| text.contains("FROM orders WHERE")))
        })
    });
    let told = said(&report(&serve, &["--html", "-o", "a.html", "--from", "now-15m"]));
    assert!(told.starts_with("a.html written ("), "{told}");
    let page = fs::read_to_string(serve.path("a.html")).unwrap();
    for outside in ["<script", "http://", "https://", "url(", "@import", " href=", " src=", "<link"] {
        assert!(!page.contains(outside), "{outside} is in the page");
    }
    for part in ["FROM orders WHERE id &gt; $1", "Average active sessions", "<svg class=\"chart\"", "About this report"]
    {
        assert!(page.contains(part), "{part} is not in: {page}");
    }
    assert!(page.contains(env!("CARGO_PKG_VERSION")) && page.contains("shop"));
    let overview = serve.get("/t/shop?from=now-15m").unwrap().body;
    assert!(overview.contains("href=\"/t/shop/report?from=now-15m\""), "{overview}");
    let served = serve.get("/t/shop/report?from=now-15m").unwrap();
    assert!(served.head.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'"));
    assert!(served.head.contains("content-disposition: inline; filename=\"surus-shop-"), "{}", served.head);
    // The same as data.
    let json: serde_json::Value = serde_json::from_str(&said(&report(&serve, &["shop", "--format", "json"]))).unwrap();
    assert_eq!((json["instance"]["name"].as_str(), json["instance"]["up"].as_bool()), (Some("shop"), Some(true)));
    let load = &json["drawn"][0]["series"];
    assert_eq!((json["drawn"][0]["id"].as_str(), load.is_array()), (Some("load"), true));
    // A file that is there stays as it is.
    fails(&report(&serve, &["-o", "a.html"]), 2, "SURUS-O006", &["a.html"]);
    assert_eq!(fs::read_to_string(serve.path("a.html")).unwrap(), page);
    said(&report(&serve, &["-o", "a.html", "--force"]));
    assert!(said(&report(&serve, &["-o", "-"])).starts_with("<!DOCTYPE html>"));
    said(&report(&serve, &["--quiet"]));
    let named = |name: &str| name.starts_with("surus-shop-") && name.ends_with("Z.html");
    let files = fs::read_dir(serve.dir.path()).unwrap();
    assert_eq!(files.filter(|file| named(&file.as_ref().unwrap().file_name().to_string_lossy())).count(), 1);
    fails(&report(&serve, &["other"]), 2, "SURUS-O005", &["\"other\"", "shop"]);
    fails(&report(&serve, &["--from", "now", "--to", "now-1h"]), 2, "SURUS-M005", &["before"]);
    fails(&report(&serve, &["--from", "yesterday"]), 2, "SURUS-M005", &["yesterday"]);
    fails(&report(&serve, &["--from", "now-2s"]), 2, "SURUS-M005", &["10 seconds"]);
    fails(&report(&serve, &["-o", "no/such.html"]), 4, "SURUS-O001", &["no/such.html"]);
    assert!(serve.stop().success());
    fails(&report(&serve, &["shop", "-o", "late.html"]), 4, "SURUS-M004", &[]);
}

#[test]
fn a_report_needs_a_login_and_a_target() {
    let mut serve = Serve::prepared("");
    let password = serve.write("password", &format!("{SECRET}\n"));
    let nobody = |name: &str| format!("[[target]]\nname = '{name}'\ndsn = 'host=/nowhere'\n");
    let listen = serve.listen();
    let own = format!("[serve]\nlisten = '{listen}'\npassword = 'file:{password}'\n");
    serve.write("surus.toml", &format!("{own}{}{}", nobody("one"), nobody("two")));
    serve.start();
    fails(&report(&serve, &["one"]), 4, "SURUS-W006", &["password"]);
    let config = ["--config", "surus.toml", "-o", "-"];
    let with = |more: &[&'static str]| report(&serve, &[&config[..], more].concat());
    fails(&with(&[]), 2, "SURUS-O005", &["one, two"]);
    let page = said(&with(&["one"]));
    // Nothing was seen of it: that is what the page says.
    assert!(page.contains("one does not answer") && page.contains("What could not be seen"), "{page}");
    assert!(!page.contains(SECRET));
}
