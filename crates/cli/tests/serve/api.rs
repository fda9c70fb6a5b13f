//! What is answered over HTTP.

use crate::Serve;
use std::process::Command;
use surus_testkit::{
    Server,
    peer::{http, program, url_encoded},
};

#[test]
fn it_answers_as_prometheus_does() {
    let server = Server::start();
    let mut serve = Serve::watching(&server, "");
    serve.until_value(r#"pg_up{instance="shop",job="postgres"}"#, 1.0);
    serve.until("there are two samples", |serve| serve.value("count_over_time(pg_up[5m])") >= Some(2.0));
    for (path, is_right) in SHAPES {
        let answer = serve.json(path);
        assert!(answer["status"] == "success" && is_right(&answer["data"]), "{path}: {answer}");
    }
    for (path, status, kind, says) in ERRORS {
        let answer = serve.get(path).unwrap();
        let json: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, json["errorType"].as_str()), (*status, Some(*kind)), "{path}: {json}");
        assert!(json["error"].as_str().unwrap().contains(says), "{path}: {json}");
    }
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = format!("query={}&start=0&end=100&step=50", url_encoded("vector(1)"));
    let posted = http(serve.port, "POST", "/api/v1/query_range", &form, &body).unwrap().body;
    assert!(posted.contains(r#""values":[[0,"1"],[50,"1"],[100,"1"]]"#), "{posted}");
    assert_eq!(http(serve.port, "POST", "/api/v1/metadata", &form, "").unwrap().status, 405);
    assert_eq!(http(serve.port, "POST", "/api/v1/query", &form, &"x".repeat(2 << 20)).unwrap().status, 400);
    let long = "x".repeat(1 << 20);
    assert_eq!(http(serve.port, "GET", "/-/ready", &[("X-Long", &long)], "").map_or(431, |answer| answer.status), 431);
    promtool(&serve);
    dashboards(&serve);
    pages(&serve);
    assert!(serve.stop().success(), "{}", serve.log());
}

type Shape = (&'static str, fn(&serde_json::Value) -> bool);

const SHAPES: &[Shape] = &[
    ("/api/v1/query?query=1%2B1&time=1435781451.781", |data| {
        *data == serde_json::json!({ "resultType": "scalar", "result": [1435781451.781, "2"] })
    }),
    ("/api/v1/query?query=pg_up", |data| {
        data["resultType"] == "vector"
            && data["result"][0]["metric"]["__name__"] == "pg_up"
            && data["result"][0]["value"][1] == "1"
    }),
    ("/api/v1/query?query=pg_up%5B5m%5D", |data| data["resultType"] == "matrix"),
    ("/api/v1/labels", |data| data.as_array().unwrap().contains(&"instance".into())),
    ("/api/v1/labels?match[]=pg_up&limit=1", |data| data.as_array().unwrap().len() == 1),
    ("/api/v1/label/instance/values?match[]=pg_up", |data| *data == serde_json::json!(["shop"])),
    ("/api/v1/label/__name__/values", |data| data.as_array().unwrap().len() > 100),
    ("/api/v1/label/instance/values?end=1", |data| *data == serde_json::json!([])),
    ("/api/v1/series?match[]=pg_up&match[]=%7B__name__%3D%22pg_up%22%7D", |data| data.as_array().unwrap().len() == 1),
    ("/api/v1/metadata?metric=pg_up", |data| data["pg_up"][0]["type"] == "gauge"),
    ("/api/v1/metadata?limit=2", |data| data.as_object().unwrap().len() == 2),
    ("/api/v1/rules", |data| data["groups"] == serde_json::json!([])),
    ("/api/v1/alerts", |data| data["alerts"] == serde_json::json!([])),
    ("/api/v1/targets", |data| {
        data["activeTargets"][0]["labels"]["instance"] == "shop" && data["activeTargets"][0]["health"] == "up"
    }),
    ("/api/v1/status/buildinfo", |data| data["application"] == "surus"),
    ("/api/v1/format_query?query=a%2Fb", |data| *data == "a / b"),
    ("/api/v1/query_exemplars?query=pg_up", |data| *data == serde_json::json!([])),
];

const ERRORS: &[(&str, u16, &str, &str)] = &[
    ("/api/v1/query?query=sum(", 400, "bad_data", ""),
    ("/api/v1/query", 400, "bad_data", "query"),
    ("/api/v1/query?query=1&time=soon", 400, "bad_data", "time"),
    ("/api/v1/query?query=1&timeout=x", 400, "bad_data", "timeout"),
    ("/api/v1/query?query=%7B__name__%3D~%22pg_.%2B%22%7D%20%2B%20on()%20pg_up", 422, "execution", ""),
    ("/api/v1/query_range?query=1&start=0&end=11001&step=1", 400, "bad_data", "11,000 points"),
    ("/api/v1/query_range?query=1&start=2&end=1&step=1", 400, "bad_data", "end"),
    ("/api/v1/query_range?query=1&start=1&end=2&step=0", 400, "bad_data", "step"),
    ("/api/v1/query_range?query=1&start=1&end=2", 400, "bad_data", "step"),
    ("/api/v1/series", 400, "bad_data", "match[]"),
    ("/api/v1/series?match[]=%7B%7D", 400, "bad_data", ""),
    ("/api/v1/label/a-b/values", 400, "bad_data", "label name"),
    ("/api/v1/nothing", 404, "not_found", "no such address"),
];

/// The program that the user of Prometheus has at hand.
fn promtool(serve: &Serve) {
    if program("promtool").is_none() {
        eprintln!("skipped: promtool is not installed (sudo apt-get install prometheus)");
        return;
    }
    let url = format!("http://{}", serve.listen());
    let run = |arguments: &[&str]| {
        let output = Command::new("promtool").args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    let said = run(&["query", "instant", &url, "pg_up"]);
    assert!(said.contains(r#"pg_up{instance="shop", job="postgres"} => 1 @["#), "{said}");
    let said = run(&["query", "range", "--start=0", "--end=100", "--step=50s", &url, "vector(2)"]);
    assert!(said.contains("2 @[0]\n2 @[50]\n2 @[100]"), "{said}");
    let said = run(&["query", "series", "--match=pg_up", &url]);
    assert!(said.contains(r#"{__name__="pg_up", instance="shop", job="postgres"}"#), "{said}");
    assert!(run(&["query", "labels", &url, "instance"]).contains("shop"));
}

/// Each query of the dashboards is one that can be answered; those that every server has something for are.
fn dashboards(serve: &Serve) {
    let output = Command::new(env!("CARGO_BIN_EXE_surus")).args(["grafana", "export"]).output().unwrap();
    let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let panels = all.as_array().unwrap().iter().flat_map(|dashboard| dashboard["panels"].as_array().unwrap());
    let mut titles = Vec::new();
    for panel in panels {
        for query in panel["targets"].as_array().unwrap_or(&Vec::new()) {
            let filled = query["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            if serve.value(&filled.replace("$instance", ".+").replace("$datname", ".+")).is_some() {
                titles.push(panel["title"].as_str().unwrap());
            }
        }
    }
    for title in ["Up", "Uptime", "Connections used", "Connections", "Is a standby", "Time of the collectors"] {
        assert!(titles.contains(&title), "{title} is empty; not empty are: {titles:?}");
    }
}

fn pages(serve: &Serve) {
    let metrics = serve.get("/metrics").unwrap();
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in ["\npg_up 1\n", "# TYPE pg_up gauge\n", "\nsurus_build_info{version=", "\nsurus_http_requests_total{"] {
        assert!(metrics.body.contains(line), "{line} is not in /metrics");
    }
    let probed = serve.get("/probe?target=shop&auth_module=any").unwrap();
    assert!(probed.status == 200 && probed.body.contains("\npg_up 1\n") && !probed.body.contains("surus_build_info"));
    assert_eq!(serve.get("/probe?target=elsewhere:5432").unwrap().status, 404);
    assert_eq!(serve.get("/probe").unwrap().status, 400);
    let first = serve.get("/").unwrap();
    assert!(first.body.contains("id=\"target-shop\"") && first.body.contains("up"), "{}", first.body);
    assert!(first.head.contains("content-security-policy: default-src 'none'"), "{}", first.head);
    for external in ["http://", "https://", "<script>", "style=", "onclick="] {
        assert!(!first.body.contains(external), "{external} is in {}", first.body);
    }
    every_page(serve);
    let collectors = serve.get("/collectors").unwrap();
    assert!(collectors.status == 200 && collectors.body.contains("stat_database"), "{}", collectors.body);
    let style = linked(&first.body, "stylesheet\" href=\"");
    assert!(serve.get(style).unwrap().head.contains("content-type: text/css"));
    let script = serve.get(linked(&first.body, "script defer src=\"")).unwrap();
    assert!(script.head.contains("text/javascript") && script.head.contains("immutable"), "{}", script.head);
    assert_eq!(serve.get("/nothing").unwrap().status, 404);
    // A page elsewhere that calls this machine by a name of its own.
    assert_eq!(http(serve.port, "GET", "/metrics", &[("Host", "evil.example")], "").unwrap().status, 421);
}

/// Every page is there, and so is what it shows as JSON; each says what is wrong with a question that makes no sense.
fn every_page(serve: &Serve) {
    let target = [
        "",
        "/activity",
        "/blocking",
        "/queries",
        "/queries/1",
        "/tables",
        "/indexes",
        "/replication",
        "/vacuum",
        "/host",
    ];
    let of_target = target.iter().map(|page| (format!("/t/shop{page}"), format!("/targets/shop{page}")));
    let all = of_target.chain([
        ("/".into(), "/fleet".into()),
        ("/timeline".into(), "/timeline".into()),
        ("/t/shop/events".into(), "/targets/shop/timeline".into()),
        ("/explore?query=up".into(), "/explore?query=up".into()),
    ]);
    for (page, data) in all {
        let shown = serve.get(&page).unwrap();
        assert!(shown.status == 200 && shown.body.contains("<main"), "{page}: {}", shown.body);
        let (path, sign) = if page.contains('?') { (page.as_str(), '&') } else { (page.as_str(), '?') };
        assert_eq!(serve.get(&format!("{path}{sign}from=never")).unwrap().status, 400, "{page}");
        let told = serve.get(&format!("/api/surus/v1{data}")).unwrap();
        assert!(told.status == 200 && told.body.starts_with(r#"{"status":"success""#), "{data}: {}", told.body);
    }
    for missing in ["/t/elsewhere", "/t/elsewhere/activity", "/api/surus/v1/targets/elsewhere", "/api/surus/v1/none"] {
        assert_eq!(serve.get(missing).unwrap().status, 404, "{missing}");
    }
    assert_eq!(serve.get("/t/shop/queries/none").unwrap().status, 400);
    let document = serve.get("/api/surus/v1/openapi.json").unwrap();
    assert!(document.body.contains("/api/surus/v1/targets/{target}/activity"), "{}", document.body);
}

/// What follows the words on the page, to the next quotation mark.
fn linked<'a>(page: &'a str, words: &str) -> &'a str {
    page.split_once(words).and_then(|(_, rest)| rest.split_once('"')).map(|(address, _)| address).unwrap()
}
