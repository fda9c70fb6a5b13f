//! Reports that cannot be written, pipes that close, and a ledger in the wrong place.

use crate::{Desk, Run};
use insta::assert_snapshot;
use std::{
    fs::{self, File},
    io::Read,
    process::Stdio,
};
use surus_testkit::Server;

/// A quick look at a server.
const QUICK: &[&str] = &["check", "--only", "srv"];

fn quick<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [QUICK, more].concat()
}

#[test]
fn a_path_that_cannot_be_written_is_said_before_the_server_is_bothered() {
    let desk = Desk::new();
    // No server is there: the path is looked at first.
    let nobody = "host=127.0.0.1 port=1 user=app dbname=postgres";
    let run = desk.run(&quick(&[nobody, "--html", "/no/such/directory/report.html"]));
    run.fails(4, "SURUS-O001", &["was not written", "No such file or directory"]);
    assert_snapshot!(run.err);
    let dir = desk.dir.path().to_str().unwrap();
    desk.run(&quick(&[nobody, "--html", dir])).fails(4, "SURUS-O001", &["Is a directory"]);
    desk.run(&quick(&[nobody, "--html", "/proc/version"])).fails(4, "SURUS-O001", &[]);
}

#[test]
fn full_disks_and_closed_pipes() {
    let desk = Desk::new();
    let server = Server::start();
    let dsn = server.dsn("postgres");
    desk.run(&quick(&[&dsn, "--html", "/dev/full"])).fails(4, "SURUS-O001", &["/dev/full", "No space left"]);

    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    for arguments in [&["check", "list"][..], &["check", "explain", "idx.fk"], &["proof", "export"]] {
        let run = Run::of(desk.command(arguments).stdout(full()).output().unwrap());
        // The ledger came with the first check.
        run.fails(4, "SURUS-O001", &["No space left"]);
    }
    desk.run(&["proof", "export", "/dev/full"]).fails(4, "SURUS-O001", &["No space left"]);

    // A reader who has seen enough.
    for arguments in [&["check", "list"][..], &["check", &dsn, "--format", "json"], &["proof", "export"], &["--help"]] {
        let mut child = desk.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 1];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let run = Run::of(child.wait_with_output().unwrap());
        assert!(run.status <= 1 && run.err.is_empty(), "{arguments:?}: {run:?}");
    }
    let run = Run::of(desk.command(&quick(&[&dsn, "--html", "/dev/stdout"])).stdout(Stdio::piped()).output().unwrap());
    assert!(run.status <= 1 && run.out.contains("<!DOCTYPE html>"), "{run:?}");
}

#[test]
fn an_earlier_report_stays_until_there_is_a_new_one() {
    let desk = Desk::new();
    let file = desk.write("report.html", &"an earlier report".repeat(100_000));
    desk.run(&quick(&["--html", &file])).fails(2, "SURUS-G003", &[]);
    assert!(fs::read_to_string(&file).unwrap().starts_with("an earlier report"));
    let server = Server::start();
    let run = desk.run(&quick(&[&server.dsn("postgres"), "--html", &file]));
    assert!(run.status <= 1, "{run:?}");
    let page = fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && !page.contains("earlier") && page.trim_end().ends_with("</html>"));
}

#[test]
fn a_ledger_that_cannot_be_used_hides_no_finding_and_stops_every_change() {
    let desk = Desk::new();
    let server = Server::start();
    let dsn = server.dsn("postgres");
    desk.write("data", "a file where the directory should be");
    let run = desk.run(&["check", &dsn, "--format", "json"]);
    assert!(run.status <= 1, "{run:?}");
    assert!(run.err.starts_with("warning[SURUS-S00"), "{}", run.err);
    assert!(run.json()["targets"][0]["ok"].as_array().unwrap().len() > 30);
    let change = ["tune", &dsn, "--memory", "1GB", "--cores", "2", "--apply", "--yes"];
    let run = desk.run(&change);
    assert_eq!(run.status, 3, "{run:?}");
    assert!(run.err.starts_with("error[SURUS-S001]"), "{}", run.err);
    assert_eq!(server.value("SELECT count(*) AS v FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"), "0");
    for arguments in [&["proof", "list"][..], &["proof", "verify"], &["undo", "--yes"]] {
        assert!(desk.run(arguments).err.starts_with("error[SURUS-S00"), "{arguments:?}");
    }
}

#[test]
fn the_ledgers_commands_say_what_is_not_there() {
    let desk = Desk::new();
    desk.run(&["proof", "list"]).fails(3, "SURUS-S001", &["nothing was recorded there yet"]);
    desk.run(&["proof", "verify", "/no/such/export"]).fails(2, "SURUS-O003", &["nothing was verified"]);
    let file = desk.write("export.jsonl", "no export\n");
    let run = desk.run(&["proof", "verify", &file]);
    assert!(run.status == 4 && run.err.starts_with("error[SURUS-S003]"), "{run:?}");
    desk.run(&["undo", "--yes"]).fails(2, "SURUS-F004", &["holds no change that can be taken back"]);
    desk.run(&["undo", "7", "--yes"]).fails(2, "SURUS-S006", &["no entry 7"]);
    desk.run(&["proof", "show", "7"]).fails(2, "SURUS-S006", &[]);
    assert_eq!(desk.run(&["proof", "list"]).status, 0);
    assert_eq!(desk.run(&["proof", "verify"]).status, 0);
}
