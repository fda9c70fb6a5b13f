//! A password reaches no report, no error and not the ledger, wherever it was given. [`Run::of`] looks at every output.

use crate::{Desk, SECRET, dsn, guarded, uri};
use std::fs;
use surus_testkit::Server;

#[test]
fn no_report_and_no_ledger_holds_the_password() {
    let desk = Desk::new();
    let server = guarded(Server::builder());
    server.sql(
        "CREATE TABLE users(id int PRIMARY KEY); CREATE TABLE tasks(id int PRIMARY KEY, user_id int REFERENCES users)",
    );
    server.sql("INSERT INTO users VALUES (1); INSERT INTO tasks SELECT g, 1 FROM generate_series(1, 20000) g; ANALYZE");
    let html = desk.path("report.html");
    let html_text = html.to_str().unwrap();
    let (key_value, uri) = (dsn(&server, "boss"), uri(&server, "boss"));
    for format in ["text", "json", "markdown"] {
        let run = desk.run(&["check", &uri, "--all", "--format", format, "--html", html_text]);
        assert!(run.status <= 1, "{run:?}");
    }
    let run = desk.run(&["fix", &key_value, "idx.fk", "--apply", "--yes"]);
    assert_eq!(run.status, 0, "{run:?}");
    desk.run(&["proof", "show", "1", "--format", "json"]);
    let export = desk.path("export.jsonl");
    assert_eq!(desk.run(&["proof", "export", export.to_str().unwrap()]).status, 0);
    assert!(fs::read_to_string(&export).unwrap().contains("127.0.0.1"), "the way to the server is recorded");
    for file in files_in(desk.dir.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", file.display());
    }
    // Without the password the way back is known, but not open.
    server.expect_log("no password supplied");
    desk.run(&["undo", "--yes"]).fails(2, "SURUS-C008", &[]);
    assert_eq!(desk.run(&["undo", "--yes", "--dsn", &key_value]).status, 0);
}

fn files_in(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(files_in(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

#[test]
fn a_connection_string_in_the_wrong_place_is_not_repeated_with_its_password() {
    let desk = Desk::new();
    let server = Server::start();
    let good = server.dsn("postgres");
    let secret_uri = format!("postgresql://anna:{SECRET}@db.example/shop");
    let secret_pairs = format!("host=db.example password={SECRET} user=anna");
    let config = desk.write("secret.toml", &format!("[[target]]\nname = 'main'\ndns = '{secret_uri}'\n"));
    for secret in [&secret_uri, &secret_pairs] {
        let cases: &[&[&str]] = &[
            &["undo", secret],
            &["proof", "show", secret],
            &["proof", "list", secret],
            &["check", "--only", secret],
            &["check", "explain", secret],
            &["check", "--format", secret],
            &["check", "--config", secret],
            &["fix", &good, secret],
            &["tune", &good, "--memory", secret],
            &["check", "--html", secret, "--only", "srv", &good, "--fail-under", secret],
            &[secret],
            &["--data-dir", secret, "proof", "list"],
            &["check", "--config", &config],
        ];
        for arguments in cases {
            let run = desk.run(arguments);
            assert!(run.status >= 2, "{arguments:?}: {run:?}");
        }
    }
    for broken in [
        format!("postgresql://anna:{SECRET}@h:port/db"),
        format!("host=h password='{SECRET}"),
        format!("host=h pasword={SECRET}"),
    ] {
        let run = desk.run(&["check", &broken]);
        assert_eq!(run.status, 2, "{run:?}");
    }
}
