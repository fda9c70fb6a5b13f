//! The real `surus` with everything that a user, a network or a server can do wrong: a coded error or an honest
//! "unknown", the documented exit status, never a panic, and never a password in what it says.

mod broken_off;
mod fixing;
mod killed;
mod outputs;
mod secrets;
mod servers;
mod usage;

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output, Stdio},
};
use surus_testkit::{Builder, Server};
use tempfile::TempDir;

/// The password of every connection in these tests; it must not appear in anything that surus writes.
const SECRET: &str = "Zebra-77-plaintext";

/// A directory of its own, as home, working directory and place of surus's own file.
struct Desk {
    dir: TempDir,
}

/// What a run said.
#[derive(Debug)]
struct Run {
    status: i32,
    out: String,
    err: String,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A command that knows nothing of this machine's own settings.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name.starts_with("SURUS_")) {
            command.env_remove(name);
        }
        command.args(arguments).current_dir(self.dir.path()).env("HOME", self.dir.path());
        command.env("SURUS_DATA_DIR", self.path("data")).env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }
}

impl Run {
    #[track_caller]
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("surus writes UTF-8");
        let (out, err) = (text(output.stdout), text(output.stderr));
        let status = output.status.code().unwrap_or_else(|| panic!("{} {out} {err}", output.status));
        for said in [&out, &err] {
            assert!(!said.contains("panicked"), "{said}");
            assert!(!said.contains(SECRET), "the password is in: {said}");
        }
        assert!([0, 1, 2, 3, 4].contains(&status), "status {status}: {out}{err}");
        Self { status, out, err }
    }

    /// It ended with this status and code, and said these things on standard error.
    #[track_caller]
    fn fails(&self, status: i32, code: &str, parts: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.err.starts_with(&format!("error[{code}]: ")) && self.err.contains("\n  next: "), "{}", self.err);
        self.says(parts);
    }

    /// All of it together holds these parts.
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        for part in parts {
            assert!(
                self.out.contains(part) || self.err.contains(part),
                "\"{part}\" is not in: {}\n{}",
                self.out,
                self.err
            );
        }
    }

    #[track_caller]
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A server on 127.0.0.1 with two roles that log in with the password: `boss`, a superuser, and `app`, who may nothing.
fn guarded(builder: Builder) -> Server {
    let server = builder.tcp().start();
    server.sql(&format!(
        "SET password_encryption = 'scram-sha-256'; CREATE ROLE boss SUPERUSER LOGIN PASSWORD '{SECRET}'; \
         CREATE ROLE app LOGIN PASSWORD '{SECRET}'"
    ));
    server
}

fn dsn(server: &Server, user: &str) -> String {
    server.dsn_as(user, SECRET, "postgres")
}

/// The same as a URI.
fn uri(server: &Server, user: &str) -> String {
    format!("postgresql://{user}:{SECRET}@127.0.0.1:{}/postgres", server.local().port())
}

/// A text with what differs from run to run taken out.
fn steady(text: &str, replacements: &[(&str, &str)]) -> String {
    replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
