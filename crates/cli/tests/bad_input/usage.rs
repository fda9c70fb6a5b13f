//! Mistakes on the command line and in the configuration.

use crate::{Desk, steady};
use insta::assert_snapshot;
use surus_testkit::Server;

#[test]
fn flags_that_are_none() {
    let desk = Desk::new();
    let cases: &[&[&str]] = &[
        &["check", "--no-such-flag"],
        &["check", "host=h", "--format", "pdf"],
        &["check", "host=h", "--fail-under", "101"],
        &["check", "host=h", "--fail-under", "-1"],
        &["fix"],
        &["fix", "host=h", "--yes"],
        &["fix", "host=h", "--format", "markdown"],
        &["tune", "host=h", "--memory", "16"],
        &["tune", "host=h", "--memory", "99999999999TB"],
        &["tune", "host=h", "--cores", "0"],
        &["undo", "first"],
        &["proof", "show"],
        &["no-such-command"],
        &[],
    ];
    for arguments in cases {
        let run = desk.run(arguments);
        assert_eq!(run.status, 2, "{arguments:?}: {run:?}");
        assert!(
            run.out.is_empty() && (run.err.starts_with("error: ") || run.err.contains("Usage: surus")),
            "{arguments:?}: {run:?}"
        );
    }
}

#[test]
fn every_command_documents_its_exit_status() {
    let desk = Desk::new();
    for arguments in [
        &["--help"][..],
        &["check", "--help"],
        &["fix", "--help"],
        &["undo", "--help"],
        &["tune", "--help"],
        &["proof", "--help"],
    ] {
        let run = desk.run(arguments);
        assert_eq!(run.status, 0);
        run.says(&["Exit status: 0 "]);
    }
}

#[test]
fn checks_and_findings_that_do_not_exist() {
    let desk = Desk::new();
    desk.run(&["check", "host=h", "--only", "idx,no.such"]).fails(2, "SURUS-O002", &["\"no.such\" is neither"]);
    desk.run(&["check", "explain", "idx.fkey"]).fails(2, "SURUS-O002", &["did you mean idx.fk"]);
    assert_eq!(desk.run(&["check", "explain", "idx.fk:shop/public.orders"]).status, 0);
    let server = Server::start();
    let dsn = server.dsn("postgres");
    let run = desk.run(&["fix", &dsn, "no.such"]);
    run.fails(2, "SURUS-F001", &["no current finding matches \"no.such\"", "nothing was planned"]);
    assert_snapshot!(run.err);
    desk.run(&["fix", &dsn, "idx.fk"]).fails(2, "SURUS-F001", &["\"idx.fk\""]);
}

#[test]
fn a_database_that_does_not_exist_is_unknown_and_not_fine() {
    let desk = Desk::new();
    let server = Server::start();
    let dsn = server.dsn("postgres");
    let run = desk.run(&["check", &dsn, "--only", "idx,tbl", "--database", "shpo", "--format", "json"]);
    assert_eq!(run.status, 0, "{run:?}");
    let target = run.json()["targets"][0].clone();
    assert_eq!(target["ok"].as_array().unwrap().len(), 0, "{target:#}");
    let unknown = target["unknown"].as_array().unwrap();
    assert!(unknown.len() > 10, "{unknown:?}");
    assert!(unknown.iter().all(|one| one["what"] == "the server has no database of this name"), "{unknown:?}");
    assert!(unknown.iter().all(|one| one["databases"] == serde_json::json!(["shpo"])), "{unknown:?}");
}

#[test]
fn no_target() {
    let desk = Desk::new();
    let run = desk.run(&["check"]);
    run.fails(2, "SURUS-G003", &["no connection string"]);
    assert_snapshot!(run.err);
    for dsn in ["host=h port=x", "postgresql://h:70000/db", "no such thing", "=", "host='h", "postgresql://[::1/db"] {
        let run = desk.run(&["fix", dsn]);
        assert_eq!(run.status, 2, "{dsn}: {run:?}");
        assert!(run.err.starts_with("error[SURUS-C0"), "{dsn}: {run:?}");
    }
}

#[test]
fn a_broken_configuration() {
    let desk = Desk::new();
    let dir = desk.dir.path().to_str().unwrap().to_owned();
    let cases = [
        ("[check]\nignroe = []\n", &["surus.toml", "line 2", "ignroe", "ignore"][..]),
        ("[[target]]\nname = 'main'\ndsn = 5\n", &["line 3", "string"]),
        ("[check]\nignore = [{ key = 'idx.unused' }]\n", &["line 2", "reason"]),
        ("[check]\nignore = [{ key = 'idx.unused', reason = '' }]\n", &["idx.unused", "has no reason"]),
        ("[check.thresholds.'idx.nope']\nx = { warn = 1 }\n", &["idx.nope", "no check"]),
        ("[check\n", &["line 1"]),
        ("\u{0}", &["surus.toml"]),
    ];
    for (text, parts) in cases {
        desk.write("surus.toml", text);
        for arguments in [&["check"][..], &["fix", "host=h"], &["undo"], &["tune", "host=h"]] {
            desk.run(arguments).fails(2, "SURUS-G002", parts);
        }
    }
    desk.write("surus.toml", "[check]\nignroe = []\n");
    assert_snapshot!(steady(&desk.run(&["check"]).err, &[(&dir, "DIR")]));
    desk.run(&["check", "--config", "gone.toml"]).fails(2, "SURUS-G001", &["gone.toml", "No such file"]);
    desk.run(&["check", "--config", &dir]).fails(2, "SURUS-G001", &["Is a directory"]);
    std::fs::write(desk.path("latin1.toml"), b"data_dir = '\xe9'").unwrap();
    desk.run(&["check", "--config", "latin1.toml"]).fails(2, "SURUS-G001", &["UTF-8"]);
    desk.write("surus.toml", "[[target]]\nname = 'main'\ndsn = 'env:NO_SUCH_VARIABLE'\n");
    desk.run(&["check"]).fails(2, "SURUS-G003", &["target main", "NO_SUCH_VARIABLE"]);
    desk.write("surus.toml", "[[target]]\nname = 'main'\ndsn = 'file:/no/such/file'\n");
    desk.run(&["check"]).fails(2, "SURUS-G003", &["target main", "/no/such/file"]);
}

#[test]
fn a_score_below_the_wanted_one_fails() {
    let desk = Desk::new();
    let server = Server::start();
    let dsn = server.dsn("postgres");
    // No check of the group finds anything worse than info on this server: only the score can fail it.
    let quiet = desk.run(&["check", "--only", "lo", &dsn, "--format", "json"]);
    assert_eq!(quiet.status, 0, "{quiet:?}");
    let score = quiet.json()["targets"][0]["readiness"]["score"].as_u64().unwrap();
    assert!(score < 100);
    let with = |least: u64| desk.run(&["check", "--only", "lo", &dsn, "--fail-under", &least.to_string()]).status;
    assert_eq!((with(score), with(score + 1), with(0), with(100)), (0, 1, 0, 1));
}
