//! `surus fix`, `tune` and `undo`: what is chosen, what is asked, and what a program reads.

use crate::{Desk, steady};
use insta::assert_snapshot;
use serde_json::Value;
use surus_testkit::Server;

/// A server with a foreign key without index and a table that everybody may read.
fn troubled() -> Server {
    let server = Server::builder().autovacuum(false).start();
    server.sql(
        "CREATE TABLE users(id int PRIMARY KEY); CREATE TABLE tasks(id int PRIMARY KEY, user_id int REFERENCES users); \
         CREATE TABLE notes(id int PRIMARY KEY, user_id int REFERENCES users); INSERT INTO users VALUES (1); \
         INSERT INTO tasks SELECT g, 1 FROM generate_series(1, 20000) g; \
         INSERT INTO notes SELECT g, 1 FROM generate_series(1, 20000) g",
    );
    server.sql("VACUUM ANALYZE");
    server
}

fn steps(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    document["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (text(&step["key"]), text(&step["action"]["sql"])))
        .collect()
}

const INDEXES: &str = "SELECT count(*) AS v FROM pg_indexes WHERE schemaname = 'public'";

#[test]
fn findings_are_chosen_by_key_check_or_group() {
    let desk = Desk::new();
    let server = troubled();
    let dsn = server.dsn("postgres");
    let plan = |chosen: &[&str]| desk.run(&[&["fix", &dsn, "--format", "json"], chosen].concat());
    let key = "idx.fk:postgres/public.tasks(user_id)";
    let all = plan(&["idx.fk"]).json();
    let keys: Vec<_> = steps(&all).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 2, "{all:#}");
    let one = keys.iter().find(|key| key.contains("tasks")).unwrap_or_else(|| panic!("{key}: {keys:?}"));
    assert_eq!(steps(&plan(&[one]).json()).len(), 1);
    let group = steps(&plan(&["idx"]).json());
    assert!(keys.iter().all(|key| group.iter().any(|(other, _)| other == key)), "{group:?}");
    let both = steps(&plan(&["idx.fk", "cfg"]).json());
    assert!(both.len() > 2 && both.last().unwrap().0.starts_with("idx.fk"), "settings come first: {both:?}");
    // The same server, the same plan.
    assert_eq!(plan(&["idx", "cfg"]).out, plan(&["idx", "cfg"]).out);
    assert_snapshot!(serde_json::to_string_pretty(&plan(&[one]).json()).unwrap());
    assert_snapshot!(desk.run(&["fix", &dsn, one]).out);
    assert_eq!(server.value(INDEXES), "3", "a plan changes nothing");
    assert!(!desk.path("data").exists());
}

#[test]
fn what_takes_a_right_away_waits_to_be_named() {
    let desk = Desk::new();
    let server = troubled();
    server.sql("CREATE TABLE open_to_all(id int); GRANT INSERT ON open_to_all TO PUBLIC");
    let dsn = server.dsn("postgres");
    let key = "sec.public_grants:postgres/public.open_to_all";
    let plan = |chosen: &[&str]| desk.run(&[&["fix", &dsn, "--format", "json"], chosen].concat()).json();
    let all = plan(&[]);
    assert!(steps(&all).iter().all(|(other, _)| other != key), "{all:#}");
    assert!(all["by_name"].as_array().unwrap().iter().any(|step| step["key"] == key), "{all:#}");
    let named = plan(&[key]);
    assert_eq!((steps(&named)[0].0.as_str(), named["by_name"].as_array().unwrap().len()), (key, 0), "{named:#}");
    let shown = desk.run(&["fix", &dsn]).out;
    assert!(shown.contains("Only when you name it") && shown.contains("REVOKE INSERT"), "{shown}");
}

#[test]
fn without_a_yes_nothing_is_done() {
    let desk = Desk::new();
    let server = troubled();
    let dsn = server.dsn("postgres");
    let run = desk.run(&["fix", &dsn, "idx.fk", "--apply"]);
    run.fails(3, "SURUS-F003", &["Plan: 2 steps", "nothing was changed: there is no terminal to ask on"]);
    assert_snapshot!(run.err);
    let run = desk.run(&["fix", &dsn, "idx.fk", "--apply", "--format", "json"]);
    run.fails(3, "SURUS-F003", &["with --format json nobody is asked"]);
    assert_eq!(run.out, "");
    desk.run(&["tune", &dsn, "--memory", "1GB", "--cores", "2", "--apply"]).fails(3, "SURUS-F003", &[]);
    assert_eq!(server.value(INDEXES), "3");
    assert_eq!(server.value("SELECT count(*) AS v FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"), "0");
    assert!(!desk.path("data").exists());
}

#[test]
fn applied_recorded_looked_at_again_and_taken_back() {
    let desk = Desk::new();
    let server = troubled();
    let dsn = server.dsn("postgres");
    let run = desk.run(&["fix", &dsn, "idx.fk", "--apply", "--yes", "--format", "json"]);
    assert_eq!(run.status, 0, "{run:?}");
    let document = run.json();
    assert_eq!(
        (steps(&document).len(), &document["stopped"], &document["still_there"]),
        (2, &Value::Null, &serde_json::json!([]))
    );
    let ledger: Vec<_> =
        document["done"].as_array().unwrap().iter().map(|done| done["ledger"].as_i64().unwrap()).collect();
    assert_eq!((ledger, server.value(INDEXES)), (vec![2, 4], "5".to_owned()));
    // Nothing is left to find.
    desk.run(&["fix", &dsn, "idx.fk"]).fails(2, "SURUS-F001", &[]);

    desk.run(&["undo", "2"]).fails(3, "SURUS-F003", &["is taken back by"]);
    let back = desk.run(&["undo", "2", "--yes"]);
    assert_eq!(back.status, 0, "{back:?}");
    back.says(&["DROP INDEX CONCURRENTLY IF EXISTS public.", "taken back"]);
    let again = desk.run(&["undo", "2", "--yes"]);
    again.fails(2, "SURUS-F004", &["ledger entry 2 was taken back already, see entry 5"]);
    assert_snapshot!(again.err);
    assert_eq!(desk.run(&["undo", "--yes"]).status, 0);
    assert_eq!(server.value(INDEXES), "3");
    desk.run(&["undo", "--yes"]).fails(2, "SURUS-F004", &[]);
    let verified = desk.run(&["proof", "verify"]);
    verified.says(&["The chain is intact: 6 entries"]);
}

#[test]
fn a_step_that_fails_ends_the_run_and_says_what_was_done() {
    let desk = Desk::new();
    let server = troubled();
    server.expect_log("already exists");
    let dsn = server.dsn("postgres");
    // Somebody else takes the name of the second index between plan and deed: here, before, in a way that is not seen.
    let plan = desk.run(&["fix", &dsn, "idx.fk", "--format", "json"]).json();
    let second = plan["steps"][1]["action"]["sql"].as_str().unwrap().to_owned();
    let name = second.split_whitespace().nth(3).unwrap();
    server.sql(&format!("CREATE VIEW public.{name} AS SELECT 1"));
    let run = desk.run(&["fix", &dsn, "idx.fk", "--apply", "--yes", "--format", "json"]);
    if run.status == 0 {
        // The check chose another name: then nothing can collide, and that is fine too.
        return;
    }
    run.fails(4, "SURUS-F002", &["step 2 was not done", "already exists", "later steps were not taken"]);
    let document = run.json();
    assert_eq!(document["done"].as_array().unwrap().len(), 1);
    assert_eq!(document["stopped"]["code"], "SURUS-F002");
    desk.run(&["undo", "4", "--yes"]).fails(2, "SURUS-F004", &["failed and left nothing to take back"]);
    assert_eq!(desk.run(&["undo", "--yes"]).status, 0);
    assert_eq!(server.value(INDEXES), "3");
}

#[test]
fn tuned_settings_are_applied_and_taken_back() {
    let desk = Desk::new();
    let server = Server::start();
    let dsn = server.dsn("postgres");
    let tune = ["tune", &dsn, "--memory", "4GB", "--cores", "2", "--storage", "ssd", "--connections", "30"];
    let (one, two) = (
        desk.run(&[&tune[..], &["--format", "json"]].concat()),
        desk.run(&[&tune[..], &["--format", "json"]].concat()),
    );
    assert_eq!((one.status, one.json()["settings"].clone()), (0, two.json()["settings"].clone()));
    let applied = desk.run(&[&tune[..], &["--apply", "--yes", "--format", "json"]].concat());
    assert_eq!(applied.status, 0, "{applied:?}");
    let done = applied.json()["done"].as_array().unwrap().clone();
    assert_eq!(done.len(), one.json()["plan"]["steps"].as_array().unwrap().len());
    assert!(
        done.iter().any(|done| done["after_restart"] == true) && done.iter().any(|done| done["after_restart"] == false)
    );
    let entries = "SELECT count(*) AS v FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'";
    assert_eq!(server.value(entries), done.len().to_string());
    for _ in &done {
        let back = desk.run(&["undo", "--yes"]);
        assert_eq!(back.status, 0, "{back:?}");
    }
    assert_eq!(server.value(entries), "0");
}

#[test]
fn the_plan_reads_well() {
    let desk = Desk::new();
    let server = troubled();
    let run = desk.run(&["fix", &server.dsn("postgres"), "idx.fk", "--apply", "--yes"]);
    assert_snapshot!(steady(&run.out, &[]));
}
