//! A network that breaks after so many bytes: never a panic, always a coded error or honest unknowns.

use crate::{Desk, SECRET, guarded};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};
use surus_testkit::Server;

/// A proxy to a server that passes on so many bytes of each connection's answers and then cuts it.
fn cut_after(server: u16, bytes: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(upstream) = TcpStream::connect(("127.0.0.1", server)) else { continue };
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Both);
            });
            thread::spawn(move || {
                let (mut client, mut answers) = (client, upstream.take(bytes as u64));
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = answers.read(&mut buffer) {
                    if client.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
                let _ = answers.into_inner().shutdown(Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_connection_that_is_cut_is_an_error_or_leaves_unknowns() {
    let desk = Desk::new();
    let server = guarded(Server::builder());
    server.expect_log("could not receive data from client");
    server.expect_log("connection to client lost");
    let at = |port| format!("host=127.0.0.1 port={port} user=boss dbname=postgres sslmode=disable password={SECRET}");
    let mut reached = Vec::new();
    for bytes in [0, 1, 9, 60, 250, 500, 900, 4_000, 40_000, 90_000, 150_000, 400_000] {
        let run = desk.run(&["check", "--format", "json", &at(cut_after(server.local().port(), bytes))]);
        let target = run.json()["targets"][0].clone();
        if target["error"].is_null() {
            assert!(run.status <= 1, "{bytes}: {run:?}");
            assert!(!target["unknown"].as_array().unwrap().is_empty(), "{bytes}");
            reached.push(bytes);
        } else {
            assert_eq!(run.status, 4, "{bytes}: {}", target["error"]);
            assert!(target["error"]["code"].as_str().unwrap().starts_with("SURUS-C"), "{bytes}: {}", target["error"]);
            assert!(reached.is_empty(), "more bytes reach further: {reached:?}, then not with {bytes}");
        }
    }
    assert!(!reached.is_empty() && reached.len() < 9, "some of each: {reached:?}");
}

#[test]
fn a_fix_whose_connection_is_cut_stops() {
    let desk = Desk::new();
    let server = guarded(Server::builder());
    server.expect_log("could not receive data from client");
    server.expect_log("connection to client lost");
    let dsn = |port| format!("host=127.0.0.1 port={port} user=boss dbname=postgres sslmode=disable password={SECRET}");
    for bytes in [900, 3_000, 60_000] {
        let port = cut_after(server.local().port(), bytes);
        let run = desk.run(&["fix", &dsn(port), "cfg.observability", "--apply", "--yes"]);
        assert!(run.status == 4 || run.status == 0, "{bytes}: {run:?}");
        assert_eq!(run.status == 4, run.err.starts_with("error[SURUS-"), "{bytes}: {run:?}");
    }
    assert_eq!(desk.run(&["proof", "list"]).status % 3, 0, "an intact ledger, or none");
}
