//! What is refused before anything starts, each with its code.

use crate::{SECRET, Serve, fails};
use std::{fs, net::TcpListener};

const DSN: &str = "host=/nowhere dbname=shop";

#[test]
fn a_wrong_connection_string() {
    let serve = Serve::prepared("");
    fails(&serve.run(&["postgresql://a:b@[::1/x"]), 2, "SURUS-C001", &[]);
    fails(
        &serve.run(&[&format!("host=/x password={SECRET} nonsense=1")]),
        2,
        "SURUS-C001",
        &["target 1: an unknown option"],
    );
    fails(&serve.run(&[]), 2, "SURUS-G003", &["no connection string"]);
}

#[test]
fn an_address_that_cannot_be_listened_on() {
    let serve = Serve::prepared("");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&serve.run(&[DSN, "--listen", &address]), 3, "SURUS-W002", &[&address]);
    // An address of another machine (RFC 5737).
    serve.write("surus.toml", "[serve]\ntoken = 'env:SERVE_TOKEN'\n");
    let foreign = serve.command(&[DSN, "--listen", "192.0.2.1:7432"]).env("SERVE_TOKEN", "t").output().unwrap();
    fails(&foreign, 3, "SURUS-W003", &["192.0.2.1:7432"]);
    serve.write("surus.toml", "");
    for open in ["0.0.0.0:7432", "[::]:7432", "192.0.2.1:7432"] {
        fails(&serve.run(&[DSN, "--listen", open]), 2, "SURUS-W001", &[open, "neither a password nor a token"]);
        fails(&serve.run(&[DSN, "--listen", open, "--check-config"]), 2, "SURUS-W001", &[open]);
    }
}

#[test]
fn a_data_directory_that_cannot_be_used() {
    let serve = Serve::prepared("");
    serve.write("data", "a file");
    fails(&serve.run(&[DSN, "--listen", &serve.listen()]), 3, "SURUS-S001", &["data"]);
    fs::remove_file(serve.path("data")).unwrap();
    serve.write("data/samples.db", "this is no database, and longer than a header of one would be");
    fails(&serve.run(&[DSN, "--listen", &serve.listen()]), 4, "SURUS-S003", &["samples.db"]);
}

#[test]
fn a_second_one_in_the_same_directory() {
    let mut serve = Serve::prepared(&format!("[[target]]\nname = 'none'\ndsn = '{DSN}'\n"));
    serve.start();
    let pid = serve.child.as_ref().unwrap().id().to_string();
    let second = serve.run(&["--listen", "127.0.0.1:0"]);
    fails(&second, 3, "SURUS-W004", &["another surus serve", &pid]);
    assert!(serve.stop().success());
}

#[test]
fn a_configuration_that_is_wrong() {
    let serve = Serve::prepared("[serve]\n\nlistne = '127.0.0.1:1'\n");
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-G002", &["line 3", "did you mean `listen`?"]);
    serve.write("surus.toml", &format!("[serve]\npassword = '{SECRET}'\n"));
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-G002", &["env:NAME"]);
    serve.write("surus.toml", "[serve]\npassword = 'file:/nowhere/password'\n");
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-W005", &["serve.password", "/nowhere/password"]);
    serve.write("surus.toml", "[observe]\ndetail = '10 seconds'\n");
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-G002", &["line 2", "no duration"]);
    serve.write("surus.toml", "[observe]\nalso = ['stat_statement']\n");
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-G002", &["stat_statement\"", "none of: ", "stat_statements"]);
    serve.write("surus.toml", "[[remote_write]]\nname = 'x'\nurl = 'ftp://x'\n");
    fails(&serve.run(&["--check-config", DSN]), 2, "SURUS-G002", &["http:// or https://"]);
}

#[test]
fn a_configuration_that_is_right_is_told() {
    let serve =
        Serve::prepared("[serve]\nlisten = '127.0.0.1:7777'\n[[target]]\nname = 'a'\ndsn = 'host=/a dbname=x'\n");
    serve.write("conf.d/b.toml", "[[target]]\nname = 'b'\ndsn = 'host=/b dbname=x'\n");
    let output = serve.run(&["--check-config"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for part in ["127.0.0.1:7777, without a login", "watches a: ", "watches b: "] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    assert!(!serve.path("data").exists(), "a check leaves nothing behind");
    let line = said.lines().find(|line| line.contains("remembers samples for 15d")).unwrap_or_default();
    let most = line.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    assert!(most.is_some_and(|most| (1..=10_240).contains(&most)), "{said}");
    serve.write("conf.d/c.toml", "[samples]\nmax_bytes = '300MB'\n");
    let said = serve.run(&["--check-config"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("in 300 MiB at most"), "{said:?}");
}
