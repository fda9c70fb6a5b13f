//! The one demo that all stories share.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::clock::{Deadline, Stopwatch};
use surus_testkit::peer::{http, url_encoded};

/// Ends the demo when its own standard input ends, which is when the process of the tests does, however it does; what
/// is shared by tests is not dropped.
const GUARD: &str = r#"dir=$1; shift
"$@" </dev/null & demo=$!
read -r _
kill -TERM $demo; wait $demo; rm -rf "$dir""#;
/// How long the demo may take on a busy machine until all is there to be seen.
const WITHIN: Duration = Duration::from_secs(240);

/// A running `surus demo`, with everything that it plants already noticed by its own pages.
pub struct Demo {
    pub url: String,
    pub password: String,
    log: PathBuf,
    guard: Child,
}

impl Demo {
    /// Starts it the first time.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn get() -> &'static Self {
        static DEMO: OnceLock<Demo> = OnceLock::new();
        DEMO.get_or_init(Self::start)
    }

    fn start() -> Self {
        static TRIED: AtomicBool = AtomicBool::new(false);
        assert!(!TRIED.swap(true, Ordering::Relaxed), "the demo did not come up; another test tells why");
        let watch = Stopwatch::start();
        // A short path for sockets, which the servers' account can enter.
        let dir = tempfile::Builder::new().prefix("sb").tempdir_in("/tmp").unwrap().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let log = dir.join("log");
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(&dir).arg(env!("CARGO_BIN_EXE_surus"));
        command.args(["demo", "--hold-replay", "--seconds", "5", "--dir"]).arg(dir.join("demo")).current_dir(&dir);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        let out = File::create(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut demo = Self { url: String::new(), password: String::new(), log, guard: command.spawn().unwrap() };
        demo.wait(&dir.join("demo/surus"));
        eprintln!("the demo shows all after {:.1} s", watch.elapsed_ms() / 1000.0);
        demo
    }

    /// Until its pages show what was planted; one trouble is planted again, because the demo shows how it is fixed.
    fn wait(&mut self, ledger: &Path) {
        let deadline = Deadline::after(WITHIN);
        self.url = self.said(&deadline, "http://127.0.0.1:", |text| {
            Some(text.split_once("http://127.0.0.1:")?.1.split_once('/')?.0.to_owned())
        });
        let port: u16 = self.url.parse().unwrap();
        self.url = format!("http://127.0.0.1:{port}");
        self.password = self.said(&deadline, "the password", |text| {
            text.split_once("  password   ")?.1.split_once(char::is_whitespace).map(|(word, _)| word.to_owned())
        });
        let mut undo = Command::new(env!("CARGO_BIN_EXE_surus"));
        let undone = undo.args(["undo", "--yes"]).env("SURUS_DATA_DIR", ledger).output().unwrap();
        assert!(undone.status.success(), "{}", String::from_utf8_lossy(&undone.stderr));
        let tells = |path: &str, what: &str| {
            http(port, "GET", &format!("/api/surus/v1/targets/{path}"), &[], "")
                .is_some_and(|is| is.body.contains(what))
        };
        for promql in [
            "up{instance=\"primary\"}",
            "surus_check_findings{instance=\"primary\",severity=\"crit\"}",
            "surus_check_findings{instance=\"standby\",severity=\"warn\"}",
            "pg_settings_work_mem_bytes{instance=\"primary\"} == bool 65536",
            "max(pg_stat_user_tables_n_dead_tup{relname=\"login_sessions\"}) > bool 5000",
            "pg_replication_lag_seconds{instance=\"standby\"} > bool 35",
        ] {
            while value(port, promql).is_none_or(|value| value == 0.0) {
                assert!(!deadline.passed(), "never: {promql}; {}", self.told());
                thread::sleep(Duration::from_millis(250));
            }
        }
        for (path, what) in [
            ("primary/findings", "public.tasks.assigned_to"),
            ("primary/queries", "WHERE assigned_to = $1"),
            ("primary/blocking", "billing-batch"),
        ] {
            while !tells(path, what) {
                assert!(!deadline.passed(), "never in {path}: {what}; {}", self.told());
                thread::sleep(Duration::from_millis(250));
            }
        }
    }

    /// What it prints sooner or later.
    fn said(&mut self, deadline: &Deadline, what: &str, find: impl Fn(&str) -> Option<String>) -> String {
        loop {
            if let Some(found) = find(&self.told()) {
                return found;
            }
            let ended = self.guard.try_wait().unwrap();
            assert!(ended.is_none() && !deadline.passed(), "the demo never said {what}: {}", self.told());
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_else(|error| format!("{}: {error}", Path::new(&self.log).display()))
    }
}

/// The number that a query for now gives; none when it gives no series.
fn value(port: u16, promql: &str) -> Option<f64> {
    let answer = http(port, "GET", &format!("/api/v1/query?query={}", url_encoded(promql)), &[], "")?;
    let answer: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
    answer["data"]["result"].get(0)?["value"][1].as_str()?.parse().ok()
}
