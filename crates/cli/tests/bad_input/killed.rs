//! A surus that is killed in the middle of its changes: whatever is on the server then is in the ledger, with the way
//! back.

use crate::Desk;
use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
    thread,
    time::Duration,
};
use surus_core::clock::Stopwatch;
use surus_store::{Filter, Store};
use surus_testkit::Server;

const KILLS: u32 = 20;
/// As many of them are followed by taking everything back with surus itself; after the others the test cleans up.
const TAKEN_BACK: u32 = 4;

/// What the plan may change, one line for each thing that is not as after `CREATE TABLE`.
const CHANGED: &str = "SELECT string_agg(what, ' ' ORDER BY what) AS v FROM ( \
     SELECT name AS what FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf' \
     UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE '%_pkey' \
     UNION ALL SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' \
     UNION ALL SELECT 'REVOKE' FROM pg_class WHERE relname = 'tasks' AND NOT has_table_privilege('nobody', oid, 'INSERT')) w";
const BUSY: &str = "SELECT count(*) > 0 AS v FROM pg_stat_activity WHERE application_name = 'surus fix'";

fn server() -> Server {
    let server = Server::builder().autovacuum(false).start();
    server.sql(
        "CREATE ROLE nobody; CREATE TABLE users(id int PRIMARY KEY); \
         CREATE TABLE tasks(id int PRIMARY KEY, user_id int REFERENCES users); \
         INSERT INTO users VALUES (1); INSERT INTO tasks SELECT g, 1 FROM generate_series(1, 60000) g; \
         GRANT INSERT ON tasks TO PUBLIC",
    );
    server.sql("VACUUM ANALYZE");
    // A backend that finds its client gone.
    server.expect_log("connection to client lost");
    server
}

fn clean_up(server: &Server) {
    server.sql("ALTER SYSTEM RESET ALL");
    server.sql(
        "DO $$ DECLARE i text; BEGIN FOR i IN SELECT indexname FROM pg_indexes WHERE schemaname = 'public' \
                AND indexname NOT LIKE '%_pkey' LOOP EXECUTE format('DROP INDEX %I', i); END LOOP; END $$; \
                GRANT INSERT ON tasks TO PUBLIC; DROP EXTENSION IF EXISTS pg_stat_statements; SELECT pg_reload_conf()",
    );
}

fn changed(server: &Server) -> BTreeSet<String> {
    server.value(CHANGED).split_whitespace().map(str::to_owned).collect()
}

/// Starts to apply the plan and kills surus so long after it has shown it; `None` lets it finish. Tells how long that
/// took.
fn apply(desk: &Desk, dsn: &str, kill_after: Option<Duration>) -> Duration {
    let arguments = ["fix", dsn, "cfg.observability", "idx.fk", "sec.public_grants", "--apply", "--yes"];
    let mut child = desk.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("Plan: ")), "the plan was shown");
    let watch = Stopwatch::start();
    match kill_after {
        Some(after) => {
            thread::sleep(after);
            child.kill().unwrap();
        }
        None => assert!(lines.any(|line| line.unwrap().contains("Looked again"))),
    }
    let took = Duration::from_secs_f64(watch.elapsed_ms() / 1000.0);
    let status = child.wait().unwrap();
    assert!(kill_after.is_some() || status.success(), "{status}");
    took
}

#[test]
fn what_a_killed_surus_changed_is_in_its_ledger() {
    let server = server();
    let dsn = server.dsn("postgres");
    let whole = Desk::new();
    let took = apply(&whole, &dsn, None);
    let all = changed(&server);
    assert!(all.len() >= 4 && all.contains("REVOKE"), "{all:?}");
    clean_up(&server);

    let mut partly = 0;
    for kill in 0..KILLS {
        let desk = Desk::new();
        // The second look at the end takes its part of the time.
        apply(&desk, &dsn, Some(took.mul_f64(f64::from(kill) / f64::from(KILLS))));
        while server.value(BUSY) == "t" {
            thread::sleep(Duration::from_millis(5));
        }
        let there = changed(&server);
        partly += u32::from(!there.is_empty() && there.len() < all.len());
        let recorded = recorded(&desk);
        for what in &there {
            assert!(
                recorded.iter().any(|entry| entry.contains(what.as_str())),
                "{what} is not in the ledger: {recorded:?}"
            );
        }
        if kill % (KILLS / TAKEN_BACK) == 1 {
            take_all_back(&desk);
            assert_eq!(changed(&server), BTreeSet::new());
        }
        clean_up(&server);
    }
    assert!(partly > 0, "no kill hit the middle");
}

/// What each change in the ledger was, and what takes it back; the chain must be intact.
fn recorded(desk: &Desk) -> Vec<String> {
    if !desk.path("data/surus.db").exists() {
        return Vec::new();
    }
    assert_eq!(desk.run(&["proof", "verify"]).status, 0);
    let store = Store::open_read_only(&desk.path("data/surus.db")).unwrap();
    let entries = store.entries(&Filter::default()).unwrap();
    entries.iter().map(|entry| format!("{} ← {}", entry.proof.subject, entry.proof.undo.as_ref().unwrap())).collect()
}

fn take_all_back(desk: &Desk) {
    if !desk.path("data/surus.db").exists() {
        return;
    }
    for _ in 0..50 {
        let run = desk.run(&["undo", "--yes"]);
        if run.status == 2 {
            run.fails(2, "SURUS-F004", &[]);
            return;
        }
        assert_eq!(run.status, 0, "{run:?}");
    }
    panic!("there is no end of what can be taken back");
}
