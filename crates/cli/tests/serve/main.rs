//! The real `surus serve` over real servers: what it answers, what it refuses, and what survives.

mod api;
mod checking;
mod events;
mod login;
mod prometheus;
mod protecting;
mod refusals;
mod reload;
mod reports;
mod restarts;
mod systemd;

use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_testkit::{
    Server,
    peer::{HttpAnswer, free_port, http, url_encoded},
};
use tempfile::TempDir;

/// How long something that will happen may take on a busy machine.
const WITHIN: Duration = Duration::from_secs(90);
/// The password of these tests; it must not appear in a log.
const SECRET: &str = "Zebra-77-plaintext";
/// So that a test need not wait for the ordinary intervals.
const QUICK: &str = "[observe]\ncounters = '1s'\ndetail = '2s'\nslow = '20s'\n";

/// A directory for a configuration and for what surus keeps, and the process that works in it.
struct Serve {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Serve {
    /// Nothing runs yet.
    fn prepared(configuration: &str) -> Self {
        let serve = Self { dir: tempfile::tempdir().unwrap(), port: free_port(), child: None };
        serve.write("surus.toml", configuration);
        serve
    }

    /// Watches a server, quickly.
    fn watching(server: &Server, configuration: &str) -> Self {
        let mut serve = Self::prepared(&format!("{QUICK}{configuration}{}", target("shop", server)));
        serve.start();
        serve
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `surus serve` that knows nothing of this machine's own settings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
        let ours = |name: &str| ["PG", "SURUS_", "NOTIFY_", "WATCHDOG_"].iter().any(|start| name.starts_with(start));
        for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        command.arg("serve").args(arguments).arg("--data-dir").arg(self.path("data")).current_dir(self.dir.path());
        command.env("HOME", self.dir.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn listen(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Runs it to its end, which should come by itself.
    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn start(&mut self) {
        self.start_with(|command| command);
    }

    /// Starts it and waits until it is ready.
    fn start_with(&mut self, change: impl FnOnce(&mut Command) -> &mut Command) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = self.command(&["--listen", &self.listen(), "--log-format", "json"]);
        change(&mut command);
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        self.until("it is ready", |serve| serve.get("/-/ready").is_some_and(|answer| answer.status == 200));
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Deadline::after(WITHIN);
        while !holds(self) {
            assert!(!deadline.passed(), "never: {what}; its log: {}", self.log());
            thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn until_logged(&self, text: &str) {
        self.until(text, |serve| serve.log().contains(text));
    }

    fn get(&self, path: &str) -> Option<HttpAnswer> {
        http(self.port, "GET", path, &[], "")
    }

    /// The JSON of an answer.
    #[track_caller]
    fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path).unwrap();
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {answer:?}"))
    }

    /// The number that a query for now gives; none when it gives no series.
    #[track_caller]
    fn value(&self, promql: &str) -> Option<f64> {
        let answer = self.json(&format!("/api/v1/query?query={}", url_encoded(promql)));
        assert_eq!(answer["status"], "success", "{promql}: {answer}");
        answer["data"]["result"].get(0).map(|one| one["value"][1].as_str().unwrap().parse().unwrap())
    }

    #[track_caller]
    fn until_value(&self, promql: &str, value: f64) {
        self.until(&format!("{promql} is {value}"), |serve| serve.value(promql) == Some(value));
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Asks it to stop and waits for that.
    #[track_caller]
    fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended()
    }

    #[track_caller]
    fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended();
    }

    #[track_caller]
    fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let deadline = Deadline::after(WITHIN);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if deadline.passed() {
                let _killed = child.kill();
                panic!("it does not end: {}", self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _killed = child.kill();
            let _ended = child.wait();
        }
        let log = self.log();
        if !thread::panicking() {
            assert!(!log.contains("panicked"), "{log}");
            assert!(!log.contains(SECRET), "the password is in: {log}");
        }
    }
}

/// A `[[target]]`.
fn target(name: &str, server: &Server) -> String {
    format!("[[target]]\nname = '{name}'\ndsn = \"{}\"\n", server.dsn("postgres"))
}

/// It ended with this status and code, and said these things on standard error.
#[track_caller]
fn fails(output: &Output, status: i32, code: &str, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    assert!(said.starts_with(&format!("error[{code}]: ")) && said.contains("\n  next: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "\"{part}\" is not in: {said}");
    }
    assert!(!said.contains("panicked") && !said.contains(SECRET), "{said}");
}

/// The newest `count` lines of a file.
fn tail(path: &Path, count: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
