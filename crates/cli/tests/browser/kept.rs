//! A server whose backups `surus serve` watches, and from whose page a drill is started.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_pg::account::Account;
use surus_testkit::{
    Server,
    peer::{free_port, http},
};

const SURUS: &str = env!("CARGO_BIN_EXE_surus");
/// How long the pages may take to come, on a busy machine.
const WITHIN: Duration = Duration::from_secs(60);
pub const PASSWORD: &str = "only for this test";

/// The server, its repository, and the pages.
pub struct Kept {
    serve: Option<Child>,
    port: u16,
    server: Server,
    dir: tempfile::TempDir,
}

impl Kept {
    /// A backup, and some segments of WAL after it; the pages are up.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("kept").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Account::unprivileged().unwrap().own(dir.path()).unwrap();
        let push = format!("{SURUS} wal push --repo {} %p", dir.path().join("repo").display());
        let server = Server::builder()
            .setting("archive_mode", "on")
            .setting("archive_command", &push)
            .setting("autovacuum", "off")
            .start();
        server.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 1000) g");
        let mut kept = Self { serve: None, port: 0, server, dir };
        let path = |name: &str| kept.dir.path().join(name).display().to_string();
        fs::write(path("password"), PASSWORD).unwrap();
        let text = format!(
            "data_dir = '{}'\n[serve]\npassword = 'file:{}'\n[[target]]\nname = 'shop'\ndsn = '{}'\n\
             [[repository]]\nname = 'main'\nplace = '{}'\n[prove]\nscratch = '{}'\nreserve = '1kB'\n",
            path("state"),
            path("password"),
            kept.server.dsn("postgres"),
            path("repo"),
            path("copies"),
        );
        fs::write(path("surus.toml"), text).unwrap();
        let taken = kept.surus(&["backup", "run", "--repo", "main", "--compress", "none", "shop"]).output().unwrap();
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        for _ in 0..4 {
            kept.server.sql("INSERT INTO t VALUES (0)");
            kept.archive();
        }
        kept.serve();
        kept
    }

    /// The address for a browser.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Takes a segment after the backup out of the archive, and starts the pages anew; gives its name.
    pub fn lose_a_segment(&mut self) -> String {
        self.stop();
        let mut all = Vec::new();
        below(&self.dir.path().join("repo"), &mut all);
        let is_segment = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.len() == 24 && name.to_string_lossy().starts_with("0000"))
        };
        all.retain(is_segment);
        all.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
        let gone = &all[all.len() - 2];
        fs::remove_file(gone).unwrap();
        self.serve();
        gone.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn surus(&self, words: &[&str]) -> Command {
        let mut command = Account::unprivileged().unwrap().command(Path::new(SURUS), Path::new("/tmp"));
        command.env("SURUS_PG_BIN", self.server.programs().bin_dir()).env("HOME", self.dir.path());
        command.arg("--config").arg(self.dir.path().join("surus.toml")).args(words).stdin(Stdio::null());
        command
    }

    fn archive(&self) {
        let segment = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let done = self.server.data_dir().join(format!("pg_wal/archive_status/{segment}.done"));
        let deadline = Deadline::after(WITHIN);
        while !done.exists() {
            assert!(!deadline.passed(), "{segment} was not archived");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn serve(&mut self) {
        self.port = free_port();
        let log = File::create(self.dir.path().join("log")).unwrap();
        let mut command = self.surus(&["serve", "--listen", &format!("127.0.0.1:{}", self.port)]);
        self.serve = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
        let deadline = Deadline::after(WITHIN);
        while http(self.port, "GET", "/login", &[], "").is_none() {
            let said = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(!deadline.passed(), "no page comes: {}", said());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.serve.take() {
            let _killed = child.kill();
            let _ended = child.wait();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stop();
    }
}

fn below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => below(&path, found),
            path => found.push(path),
        }
    }
}
