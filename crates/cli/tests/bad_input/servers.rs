//! Whatever may answer, or not, where a PostgreSQL was expected.

use crate::{Desk, Run, SECRET, dsn, guarded, steady};
use insta::assert_snapshot;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
    thread,
    time::Duration,
};
use surus_pg::account::Account;
use surus_testkit::{Cluster, Server, require_major};

/// A port on which nothing listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A port on which this happens to every connection, as long as the test runs.
fn listening(then: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || listener.incoming().flatten().for_each(then));
    port
}

fn at(port: u16) -> String {
    format!("host=127.0.0.1 port={port} user=app dbname=postgres password={SECRET}")
}

/// Checks a target that cannot be looked at: the report says why, with its code.
#[track_caller]
fn not_reached(desk: &Desk, dsn: &str, status: i32, code: &str) -> String {
    let run = desk.run(&["check", dsn]);
    assert_eq!(run.status, status, "{run:?}");
    run.says(&["not reached", code, "next: "]);
    let json = desk.run(&["check", "--format", "json", dsn]);
    assert_eq!(json.status, status);
    let target = json.json()["targets"][0].clone();
    assert_eq!(target["error"]["code"], code);
    assert_eq!(target["findings"][0]["id"], "conn.reachable");
    assert!(target["unknown"].as_array().unwrap().len() > 100, "all else is unknown");
    assert!(target["readiness"]["items"].as_array().unwrap().iter().all(|item| item["state"] == "unknown"));
    // The other commands that need a server stop with the same error.
    for command in ["fix", "tune"] {
        desk.run(&[command, dsn]).fails(status, code, &[]);
    }
    run.out
}

#[test]
fn nothing_listens() {
    let desk = Desk::new();
    let port = closed_port();
    let said = not_reached(&desk, &at(port), 4, "SURUS-C004");
    assert_snapshot!(steady(&said, &[(&port.to_string(), "PORT")]).lines().take(3).collect::<Vec<_>>().join("\n"));
    not_reached(&desk, "host=no-such-host.invalid user=app dbname=postgres", 4, "SURUS-C003");
    not_reached(&desk, "host=/no/such/directory user=app dbname=postgres", 4, "SURUS-C006");
}

#[test]
fn what_answers_is_not_postgresql() {
    let desk = Desk::new();
    let http = listening(|mut stream| {
        let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let said = not_reached(&desk, &at(http), 4, "SURUS-C018");
    assert_snapshot!(steady(&said, &[(&http.to_string(), "PORT")]).lines().take(3).collect::<Vec<_>>().join("\n"));
    let silent = listening(|stream| {
        thread::spawn(move || (stream, thread::sleep(Duration::from_secs(30))));
    });
    not_reached(&desk, &format!("{} connect_timeout=2", at(silent)), 4, "SURUS-C005");
    let closing = listening(drop);
    not_reached(&desk, &at(closing), 4, "SURUS-C019");
}

#[test]
fn the_server_refuses() {
    let desk = Desk::new();
    let server = guarded(Server::builder());
    for text in ["password authentication failed", "does not exist", "no password supplied"] {
        server.expect_log(text);
    }
    let port = server.local().port();
    let wrong = format!("host=127.0.0.1 port={port} user=app dbname=postgres password={SECRET}x");
    let said = not_reached(&desk, &wrong, 4, "SURUS-C007");
    assert_snapshot!(steady(&said, &[(&port.to_string(), "PORT")]).lines().take(3).collect::<Vec<_>>().join("\n"));
    let none = format!("host=127.0.0.1 port={port} user=app dbname=postgres");
    not_reached(&desk, &none, 2, "SURUS-C008");
    let database = format!("host=127.0.0.1 port={port} user=app dbname=gone password={SECRET}");
    not_reached(&desk, &database, 4, "SURUS-C010");
}

#[test]
fn a_role_without_privileges_sees_little_and_says_so() {
    let desk = Desk::new();
    let server = guarded(Server::builder());
    server.expect_log("permission denied");
    let run = desk.run(&["check", "--format", "json", &dsn(&server, "app")]);
    let target = run.json()["targets"][0].clone();
    let bad = target["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] != "info");
    assert_eq!(run.status, i32::from(bad), "findings decide: {}", target["findings"]);
    let unknown = target["unknown"].as_array().unwrap();
    assert!(unknown.iter().filter(|one| one["kind"] == "privilege").count() > 10, "{unknown:?}");
    assert!(unknown.iter().all(|one| !one["what"].as_str().unwrap().is_empty()));
    assert_eq!(run.err, "");
}

#[test]
fn a_standby_is_checked_and_not_changed() {
    let desk = Desk::new();
    let cluster = Cluster::with_standbys(1);
    cluster.wait_caught_up();
    let standby = cluster.standbys[0].dsn("postgres");
    let run = desk.run(&["check", "--format", "json", &standby]);
    let target = run.json()["targets"][0].clone();
    assert!(run.status <= 1, "{run:?}");
    assert_eq!(target["role"], "standby");
    let elsewhere = target["not_applicable"].as_array().unwrap();
    assert!(elsewhere.iter().any(|one| one["why"] == "this is a standby; the primary is asked"), "{elsewhere:?}");
    desk.run(&["fix", &standby, "--apply", "--yes"]).fails(3, "SURUS-F006", &["nothing was done"]);
    desk.run(&["tune", &standby, "--memory", "1GB", "--cores", "2", "--apply", "--yes"]).fails(3, "SURUS-F006", &[]);
    assert!(
        !desk.path("data/surus.db").exists() || desk.run(&["proof", "list", "--kind", "change"]).out.contains("empty")
    );
}

#[test]
fn one_that_is_down_does_not_hide_the_other() {
    let desk = Desk::new();
    let server = Server::start();
    let (up, down) = (server.dsn("postgres"), at(closed_port()));
    for order in [[&up, &down], [&down, &up]] {
        let run = desk.run(&["check", "--format", "json", order[0], order[1]]);
        assert_eq!(run.status, 4);
        let targets = run.json()["targets"].as_array().unwrap().clone();
        let (reached, lost): (Vec<_>, Vec<_>) = targets.iter().partition(|target| target["error"].is_null());
        assert_eq!((reached.len(), lost.len()), (1, 1));
        assert!(reached[0]["ok"].as_array().unwrap().len() > 30 && reached[0]["version"].is_string());
        assert_eq!(lost[0]["error"]["code"], "SURUS-C004");
    }
    // Also when one cannot even be understood.
    let run = desk.run(&["check", "--format", "json", &up, "host=h prot=1"]);
    assert_eq!(run.status, 2);
    assert!(run.json()["targets"][0]["ok"].as_array().unwrap().len() > 30);
    assert_eq!(run.json()["targets"][1]["error"]["code"], "SURUS-C001");
}

#[test]
fn a_server_that_is_too_old_is_named() {
    let Some(major) = require_major(12) else { return };
    let desk = Desk::new();
    let server = Server::builder().major(major).start();
    let said = not_reached(&desk, &server.dsn("postgres"), 3, "SURUS-C024");
    assert!(said.contains("runs PostgreSQL 12."), "{said}");
}

const POOLER: &str = "/usr/sbin/pgbouncer";

/// A PgBouncer before a server; it ends with the test.
struct Pooler {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    fn before(server: &Server) -> Self {
        let account = Account::unprivileged().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let port = closed_port();
        let local = server.local();
        let (ini, users) = (dir.path().join("pgbouncer.ini"), dir.path().join("users"));
        let config = format!(
            "[databases]\npostgres = host={} port={} dbname=postgres user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n",
            local.socket_dir().display(),
            local.port(),
            users.display()
        );
        std::fs::write(&ini, config).unwrap();
        std::fs::write(&users, format!("\"app\" \"{SECRET}\"\n")).unwrap();
        for path in [dir.path(), &ini, &users] {
            std::os::unix::fs::chown(path, Some(account.uid()), Some(account.gid())).unwrap();
        }
        let mut command = account.command(POOLER.as_ref(), dir.path());
        let child = command.arg("-q").arg(&ini).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _dir: dir }
    }
}

#[test]
fn a_pooler_is_recognised_and_left_alone() {
    if !std::path::Path::new(POOLER).exists() {
        eprintln!(
            "skipped: a_pooler_is_recognised_and_left_alone: pgbouncer is not installed (sudo apt-get install pgbouncer)"
        );
        return;
    }
    let desk = Desk::new();
    let server = Server::start();
    let pooler = Pooler::before(&server);
    let said = not_reached(&desk, &at(pooler.port), 3, "SURUS-C023");
    assert_snapshot!(
        steady(&said, &[(&pooler.port.to_string(), "PORT")]).lines().take(3).collect::<Vec<_>>().join("\n")
    );
    // A change that was made on the server itself is not taken back through the pooler.
    let dsn = server.dsn("postgres");
    let fixed = desk.run(&["tune", &dsn, "--memory", "1GB", "--cores", "2", "--apply", "--yes"]);
    assert_eq!(fixed.status, 0, "{fixed:?}");
    let before = server.value("SELECT count(*) AS v FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'");
    desk.run(&["undo", "--yes", "--dsn", &at(pooler.port)]).fails(3, "SURUS-C023", &["nothing was done there"]);
    assert_eq!(server.value("SELECT count(*) AS v FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"), before);
    let back = desk.run(&["undo", "--yes"]);
    assert_eq!(back.status, 0, "{back:?}");
}

#[test]
fn a_server_that_is_shutting_down_meanwhile() {
    let desk = Desk::new();
    let mut server = Server::start();
    let child = desk
        .command(&["check", "--format", "json", &server.dsn("postgres")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    thread::sleep(Duration::from_millis(300));
    server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
    let run = Run::of(child.unwrap().wait_with_output().unwrap());
    let target = run.json()["targets"][0].clone();
    let unknown = target["unknown"].as_array().unwrap().len();
    assert!(run.status == 4 || unknown > 0, "{run:?}");
}
