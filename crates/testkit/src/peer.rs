//! Other programs that surus works with, as real processes on free ports of 127.0.0.1: Prometheus, VictoriaMetrics, a
//! server that speaks S3.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use tempfile::TempDir;

/// How long a program may take to answer after its start on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The program of that name in PATH; none when it is not installed, which the test should say.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// A port of 127.0.0.1 on which nobody listens now.
///
/// # Panics
/// When the machine has none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map(|address| address.port()).unwrap()
}

/// An HTTP answer.
#[derive(Debug)]
pub struct HttpAnswer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

/// Sends one HTTP request to a port of 127.0.0.1 and reads the whole answer. None when nobody answers.
pub fn http(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<HttpAnswer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(START_WITHIN)).ok()?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: 127.0.0.1:{port}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    Some(HttpAnswer { status, head, body })
}

fn unchunked(mut text: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size).filter(|_| size > 0) else { break };
        out.push_str(chunk);
        text = rest[size..].trim_start_matches("\r\n");
    }
    out
}

/// Text as a query string has it.
pub fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// The bucket of [`Peer::s3`].
pub const S3_BUCKET: &str = "shop";

/// Access key and secret key of [`Peer::s3`].
pub const S3_KEYS: (&str, &str) = ("surus", "surus-secret-for-tests");

/// A program that speaks HTTP, with a directory of its own. Stopped and removed when it is dropped.
#[derive(Debug)]
pub struct Peer {
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    ready: &'static str,
    /// The status of its answer when it is ready; it may say that one must log in.
    ready_status: u16,
    child: Option<Child>,
    dir: TempDir,
}

impl Peer {
    /// Prometheus with this configuration; it takes remote writes. None when it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn prometheus(configuration: &str) -> Option<Self> {
        let program = program("prometheus")?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::write(dir.path().join("prometheus.yml"), configuration).unwrap();
        let arguments = vec![
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-remote-write-receiver".to_owned(),
            "--log.level=warn".to_owned(),
        ];
        let mut peer = Self { program, arguments, port, ready: "/-/ready", ready_status: 200, child: None, dir };
        peer.start();
        Some(peer)
    }

    /// VictoriaMetrics. None when it is not installed.
    ///
    /// # Panics
    /// When it does not start.
    pub fn victoria_metrics() -> Option<Self> {
        let program = program("victoria-metrics")?;
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let arguments = vec![
            "-storageDataPath=data".to_owned(),
            format!("-httpListenAddr=127.0.0.1:{port}"),
            // What has just come can be asked for at once.
            "-search.latencyOffset=0s".to_owned(),
            "-loggerLevel=WARN".to_owned(),
        ];
        let mut peer = Self { program, arguments, port, ready: "/health", ready_status: 200, child: None, dir };
        peer.start();
        Some(peer)
    }

    /// s3s-fs, a server that keeps objects in files and is asked in S3's protocol: it verifies signatures and knows
    /// "only if there is none". It has one bucket, [`S3_BUCKET`], and one user, [`S3_KEYS`]. None, and said so, when it
    /// is not installed.
    ///
    /// # Panics
    /// When it does not start, or is not installed and `SURUS_S3_REQUIRE` is set.
    pub fn s3() -> Option<Self> {
        let Some(program) = program("s3s-fs") else {
            assert!(std::env::var_os("SURUS_S3_REQUIRE").is_none(), "s3s-fs is not here; dev/setup installs it");
            eprintln!("skipped: {}: s3s-fs is not here; dev/setup installs it", crate::majors::test_name());
            return None;
        };
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        std::fs::create_dir_all(dir.path().join("data").join(S3_BUCKET)).unwrap();
        let arguments = ["--host", "127.0.0.1", "--port", &port.to_string(), "--access-key", S3_KEYS.0, "--secret-key"];
        let arguments = arguments.into_iter().chain([S3_KEYS.1, "data"]).map(str::to_owned).collect();
        let mut peer = Self { program, arguments, port, ready: "/", ready_status: 403, child: None, dir };
        peer.start();
        Some(peer)
    }

    /// Ends it as a power cut does.
    ///
    /// # Panics
    /// When it cannot be ended.
    pub fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Starts it, or starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(&self.program)
            .args(&self.arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
        let deadline = Deadline::after(START_WITHIN);
        while self.get(self.ready).is_none_or(|answer| answer.status != self.ready_status) {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(!deadline.passed(), "{} does not start: {log}", self.program.display());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it as a service manager does.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let _signalled = Command::new("kill").arg(child.id().to_string()).status();
        let deadline = Deadline::after(STOP_WITHIN);
        while child.try_wait().unwrap().is_none() {
            if deadline.passed() {
                let _killed = child.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Asks for a page.
    pub fn get(&self, path: &str) -> Option<HttpAnswer> {
        http(self.port, "GET", path, &[], "")
    }

    /// The body of the answer to a PromQL query, for now.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn query(&self, promql: &str) -> String {
        self.get(&format!("/api/v1/query?query={}", url_encoded(promql))).unwrap().body
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }
}
