//! What systemd is told.

use crate::Serve;
use rustix::process::Signal;
use std::{os::unix::net::UnixDatagram, time::Duration};
use surus_core::clock::Deadline;

/// Until a message with this text comes.
#[track_caller]
fn until_told(socket: &UnixDatagram, text: &str) -> String {
    let deadline = Deadline::after(crate::WITHIN);
    let mut buffer = [0; 4096];
    while !deadline.passed() {
        if let Ok(length) = socket.recv(&mut buffer) {
            let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if told.contains(text) {
                return told;
            }
        }
    }
    panic!("never told: {text}");
}

#[test]
fn it_hears_of_the_start_of_life_of_reloads_and_of_the_end() {
    let mut serve = Serve::prepared("[[target]]\nname = 'none'\ndsn = 'host=/nowhere'\n");
    let path = serve.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    serve.start_with(|command| command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000"));
    assert!(until_told(&socket, "READY=1").contains("STATUS=watching 1 target"));
    until_told(&socket, "WATCHDOG=1");
    until_told(&socket, "WATCHDOG=1");
    serve.signal(Signal::HUP);
    assert!(until_told(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    until_told(&socket, "READY=1");
    serve.signal(Signal::TERM);
    until_told(&socket, "STOPPING=1");
    assert!(serve.ended().success(), "{}", serve.log());
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    if surus_testkit::peer::program("systemd-analyze").is_none() {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    let unit = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/surus.service")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The program is looked for; the unit's own place for it is that of an installed surus.
    std::fs::write(dir.path().join("surus.service"), unit.replace("/usr/bin/surus", env!("CARGO_BIN_EXE_surus")))
        .unwrap();
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no", "surus.service"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("surus.service")).collect();
    assert!(about_us.is_empty(), "{said}");
}
