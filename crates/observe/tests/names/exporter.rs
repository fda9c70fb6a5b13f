//! Debian's prometheus-postgres-exporter, run on loopback for one page.

use crate::spoken::Spoken;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_testkit::Server;

const PROGRAM: &str = "/usr/bin/prometheus-postgres-exporter";
const QUERIES: &str = "/usr/share/doc/prometheus-postgres-exporter/examples/queries.yaml";
const LIMIT: Duration = Duration::from_secs(30);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What the exporter says of the server. None, with a word about it, where it is not installed.
pub fn of(server: &Server) -> Option<Spoken> {
    if !Path::new(PROGRAM).exists() {
        eprintln!(
            "skipped: {PROGRAM} is not here (apt-get install --no-install-recommends prometheus-postgres-exporter)"
        );
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(PROGRAM);
    command
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .env("DATA_SOURCE_NAME", server.dsn("postgres") + " sslmode=disable");
    if Path::new(QUERIES).exists() {
        command.arg(format!("--extend.query-path={QUERIES}"));
    }
    let running = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let limit = Deadline::after(LIMIT);
    let page = loop {
        match fetch(port) {
            Ok(page) if page.contains("\npg_up 1") => break page,
            other => assert!(!limit.passed(), "the exporter gives no page: {other:?}"),
        }
        thread::sleep(Duration::from_millis(200));
    };
    drop(running);
    Some(Spoken::read(&page))
}

fn fetch(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    // 1.0 has no chunks.
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\nAccept: text/plain\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
