//! The checks of `surus serve`, ending a session, and that all of it takes two connections.

use crate::{QUICK, SECRET, Serve, target};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
    time::Duration,
};
use surus_pg::{Manners, Session, Target};
use surus_store::samples::{self, Event, SampleStore};
use surus_testkit::{
    Server,
    peer::{HttpAnswer, http},
};
use tokio::runtime::Runtime;

const BEARER: (&str, &str) = ("Authorization", "Bearer Zebra-77-plaintext");
const LOGIN: &str = "[serve]\ntoken = 'env:T'\n";
const AT: &str = "/api/surus/v1/targets/shop/sessions";

fn post(serve: &Serve, path: &str, headers: &[(&str, &str)], body: &Value) -> HttpAnswer {
    let headers: Vec<(&str, &str)> = headers.iter().copied().chain([("Content-Type", "application/json")]).collect();
    http(serve.port, "POST", path, &headers, &body.to_string()).unwrap()
}

fn get(serve: &Serve, path: &str) -> HttpAnswer {
    http(serve.port, "GET", path, &[BEARER], "").unwrap()
}

fn data(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str::<Value>(&answer.body).unwrap()["data"].take()
}

/// A session of an application that sleeps in a statement.
fn sleeper(runtime: &Runtime, server: &Server) -> (u32, tokio::task::JoinHandle<String>) {
    let target = Target::parse(&server.dsn("postgres")).unwrap();
    let manners = Manners { application_name: "sleeper".into(), ..Manners::changing() };
    let session: Session = runtime.block_on(target.connect(&manners)).unwrap();
    let pid = session.backend_pid().unwrap();
    let task = runtime.spawn(async move {
        let answer = session.ask("SELECT pg_sleep(600), 'password=hush'").await;
        answer.map_or_else(|error| error.message, |_| "slept".to_owned())
    });
    let running = format!("SELECT count(*) AS v FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'");
    while server.value(&running) != "1" {
        thread::sleep(Duration::from_millis(10));
    }
    (pid, task)
}

#[test]
fn two_connections_do_for_watching_checking_and_ending_a_session() {
    let server = Server::start();
    for n in 0..4 {
        server.create_database(&format!("app{n}"));
    }
    server.sql("CREATE ROLE watcher LOGIN CONNECTION LIMIT 2 IN ROLE pg_monitor, pg_read_all_data");
    let dsn = server.dsn_as("watcher", "", "postgres");
    let (most, checking, done) = (AtomicI64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    /// So that a failure ends the counting too.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let _done = Done(&done);
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let sql = "SELECT count(*) AS n, coalesce(bool_or(application_name = 'surus check'), false) AS checks \
                     FROM pg_stat_activity WHERE usename = 'watcher'";
                let rows = server.query(sql);
                let row = rows.first().unwrap();
                most.fetch_max(row.i64("n").unwrap(), Ordering::Relaxed);
                checking.fetch_or(row.bool("checks").unwrap(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let watched = format!("[[target]]\nname = 'shop'\ndsn = \"{dsn}\"\n");
        let mut serve = Serve::prepared(&format!("{QUICK}{LOGIN}[check]\nevery = '10s'\n{watched}"));
        serve.start_with(|command| command.env("T", SECRET));
        serve.until("it was checked", |serve| get(serve, "/metrics").body.contains("surus_check_findings{"));
        // The second one comes and goes.
        serve.until("its own session is shown", |serve| {
            let own = "SELECT pid AS v FROM pg_stat_activity WHERE usename = 'watcher' ORDER BY backend_start LIMIT 1";
            let shown = get(serve, &format!("{AT}/{}", server.value(own)));
            shown.status == 200 && data(&shown)["user"] == "watcher"
        });
        // A second run of the checks, beside trips every two seconds.
        serve.until("it was checked again", |serve| serve.log().matches("\"message\":\"checked\"").count() >= 2);
        assert!(serve.stop().success());
        assert!(!serve.log().contains("not checked"), "{}", serve.log());
    });
    assert_eq!((most.into_inner(), checking.into_inner()), (2, true));
    assert!(!server.log().contains("too many connections"), "{}", server.log());
}

#[test]
fn findings_that_come_and_go_become_events() {
    let server = Server::start();
    let mut serve = Serve::watching(&server, "[check]\nevery = '10s'\n");
    let checked = |times: usize| {
        serve.until("it was checked", |serve| serve.log().matches("\"message\":\"checked\"").count() >= times);
    };
    checked(1);
    server.sql("CREATE UNLOGGED TABLE lost_in_a_crash (id bigint PRIMARY KEY)");
    checked(3);
    server.sql("DROP TABLE lost_in_a_crash");
    checked(5);
    assert!(serve.stop().success());
    let store = SampleStore::open(&samples::path_in(&serve.path("data")), samples::Settings::default()).unwrap();
    let ever = surus_core::series::Window { after_ms: 0, until_ms: i64::MAX };
    let about = |event: &Event| event.kind == "finding" && event.detail["id"] == "tbl.unlogged";
    let events: Vec<Event> = store.events(Some("shop"), ever).unwrap().into_iter().filter(about).collect();
    let told: Vec<_> = events.iter().map(|event| event.detail["appeared"].as_bool().unwrap()).collect();
    assert_eq!(told, [true, false], "{events:#?}");
    assert!(
        events[0].title.starts_with("Found: ") && events[0].detail["subject"].as_str().unwrap().contains("lost_in")
    );
}

#[test]
fn the_session_that_was_shown_is_ended_and_no_other() {
    let server = Server::start();
    server.expect_log("terminating connection due to administrator command");
    server.expect_log("canceling statement due to user request");
    let mut serve = Serve::prepared(&format!("{QUICK}{LOGIN}{}", target("shop", &server)));
    serve.start_with(|command| command.env("T", SECRET));
    serve.until("it is watched", |serve| get(serve, "/metrics").body.contains("surus_check_findings{"));
    let runtime = Runtime::new().unwrap();
    let (pid, task) = sleeper(&runtime, &server);
    let at = format!("{AT}/{pid}");
    let seen = data(&get(&serve, &at));
    assert_eq!((seen["application"].as_str(), seen["state"].as_str()), (Some("sleeper"), Some("active")), "{seen}");
    assert!(!seen["query"].as_str().unwrap().contains("hush") && seen["query_start"].is_string(), "{seen}");

    // Another one of that number, another statement, another site, nobody in particular, nonsense.
    let before = json!({ "backend_start": "1700000000123456" });
    let acted = data(&post(&serve, &format!("{at}/terminate"), &[BEARER], &before));
    assert!(acted["done"] == false && acted["said"].as_str().unwrap().contains("has ended by itself"), "{acted}");
    let other = json!({ "backend_start": seen["backend_start"], "query_start": "1700000000123456" });
    let acted = data(&post(&serve, &format!("{at}/cancel"), &[BEARER], &other));
    assert!(acted["said"].as_str().unwrap().contains("another statement"), "{acted}");
    let wanted =
        json!({ "backend_start": seen["backend_start"], "query_start": seen["query_start"], "reason": "it blocks" });
    let foreign = [BEARER, ("Origin", "https://evil.example")];
    assert_eq!(post(&serve, &format!("{at}/cancel"), &foreign, &wanted).status, 403);
    assert_eq!(post(&serve, &format!("{at}/cancel"), &[], &wanted).status, 401);
    assert_eq!(post(&serve, &format!("{at}/stop"), &[BEARER], &wanted).status, 404);
    assert_eq!(post(&serve, &format!("{at}/cancel"), &[BEARER], &json!({ "backend_start": "now" })).status, 400);
    assert_eq!(get(&serve, "/api/surus/v1/targets/none/sessions/1").status, 404);
    assert_eq!(get(&serve, &format!("{AT}/1")).status, 404);
    assert!(!task.is_finished());

    let acted = data(&post(&serve, &format!("{at}/cancel"), &[BEARER], &wanted));
    assert_eq!(acted["done"], true, "{acted}");
    assert!(runtime.block_on(task).unwrap().contains("canceling statement"));
    let (pid, task) = sleeper(&runtime, &server);
    let wanted = json!({ "backend_start": data(&get(&serve, &format!("{AT}/{pid}")))["backend_start"] });
    let acted = data(&post(&serve, &format!("{AT}/{pid}/terminate"), &[BEARER], &wanted));
    assert_eq!(acted["done"], true, "{acted}");
    assert!(runtime.block_on(task).unwrap().contains("terminating connection"));
    assert!(serve.stop().success());

    let store = surus_store::Store::open(&surus_store::path_in(&serve.path("data"))).unwrap();
    let entries = store.entries(&surus_store::Filter::default()).unwrap();
    let about = |kind: &str| entries.iter().filter(|entry| entry.proof.kind == kind).collect::<Vec<_>>();
    let asked = about("statement-cancel-asked");
    assert_eq!((asked.len(), about("statement-cancelled").len()), (2, 2));
    assert!(asked[1].proof.steps[0].what.contains("127.0.0.1: it blocks"), "{:?}", asked[1].proof);
    assert_eq!((about("session-terminate-asked").len(), about("session-terminated").len()), (1, 1));
    assert!(entries.iter().all(|entry| !entry.proof.log_excerpt.contains("hush")));
}

#[test]
fn without_a_login_nothing_is_ended() {
    let mut serve = Serve::prepared("[[target]]\nname = 'shop'\ndsn = 'host=/nowhere'\n");
    serve.start();
    let refused = post(&serve, &format!("{AT}/1/cancel"), &[], &json!({ "backend_start": "1" }));
    assert!(refused.status == 403 && refused.body.contains("[serve] password"), "{refused:?}");
    let asked = serve.get(&format!("{AT}/1")).unwrap();
    assert!(asked.status == 503 && asked.body.contains("/nowhere"), "{asked:?}");
}
