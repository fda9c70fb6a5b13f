//! Runs the real `surus` and looks at what it leaves behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};
use tempfile::TempDir;

/// A place for temporary directories that nobody else uses, with a short path for sockets.
pub struct Stage {
    dir: TempDir,
    programs: Option<String>,
}

impl Stage {
    /// With the newest PostgreSQL here, or with that of one directory.
    pub fn new(programs: Option<String>) -> Self {
        let dir = tempfile::Builder::new().prefix("sd").tempdir_in("/tmp").unwrap();
        // Root's servers run as another account, which must be able to enter.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir, programs }
    }

    /// A command that knows nothing of the environment's own servers.
    pub fn surus(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
        command.args(arguments).current_dir(self.dir.path()).env("TMPDIR", self.dir.path());
        for name in ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGPASSFILE", "PGSSLMODE"] {
            command.env_remove(name);
        }
        if let Some(programs) = &self.programs {
            command.env("SURUS_PG_BIN", programs);
        }
        command
    }

    /// A path in the place.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Neither a file nor a process is left.
    pub fn assert_clean(&self) {
        let files: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(files.is_empty(), "left behind: {files:?}");
        let running = self.processes();
        assert!(running.is_empty(), "still running: {running:?}");
    }

    /// The command lines of all processes that name the place.
    pub fn processes(&self) -> Vec<String> {
        let place = self.dir.path().display().to_string();
        let all = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
        let lines = all.filter_map(|path| fs::read_to_string(path).ok());
        lines.filter(|line| line.contains(&place)).map(|line| line.replace('\0', " ")).collect()
    }
}

/// A running `surus demo`; ended when dropped.
pub struct Demo {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Demo {
    /// Starts it.
    pub fn start(stage: &Stage, arguments: &[&str]) -> Self {
        let mut command = stage.surus(&["demo"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads until a line that satisfies; all lines read.
    pub fn read_until(&mut self, satisfied: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        for line in &mut self.lines {
            let line = line.unwrap();
            text.push_str(&line);
            text.push('\n');
            if satisfied(&line) {
                return text;
            }
        }
        panic!("the demo ended before: {text}");
    }

    /// The JSON document.
    pub fn document(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.read_until(|line| line == "}")).unwrap()
    }

    /// Sends a signal by its name, as `kill -<name>` does.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; the rest of what it said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let rest: Vec<String> = (&mut self.lines).map(Result::unwrap).collect();
        (self.child.wait().unwrap(), rest.join("\n"))
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal("TERM");
            let _ = self.child.wait();
        }
    }
}
