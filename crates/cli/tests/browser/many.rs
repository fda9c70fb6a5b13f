//! `surus serve` over a server with 1,000 tables.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};
use surus_core::clock::Deadline;
use surus_testkit::{
    Server,
    peer::{free_port, http},
};
use tempfile::TempDir;

/// How long it may take on a busy machine until all tables are known.
const WITHIN: Duration = Duration::from_secs(120);
/// Each has some rows, and one is the largest.
const TABLES: &str = "
    DO $$ BEGIN
        FOR number IN 1..1000 LOOP
            EXECUTE format('CREATE TABLE table_%s (id int PRIMARY KEY, note text)', to_char(number, 'FM0000'));
        END LOOP;
    END $$;
    INSERT INTO table_0777 SELECT number, repeat('x', 200) FROM generate_series(1, 5000) number;
    ANALYZE table_0777";

/// Both processes; ended when dropped.
pub struct Many {
    port: u16,
    child: Child,
    dir: TempDir,
    _server: Server,
}

impl Many {
    /// Starts both, and waits until surus knows all tables.
    ///
    /// # Panics
    /// When that never happens.
    pub fn start() -> Self {
        let server = Server::start();
        server.sql(TABLES);
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let target = format!("[[target]]\nname = 'many'\ndsn = \"{}\"\n", server.dsn("postgres"));
        let quick = "[observe]\ncounters = '2s'\ndetail = '3s'\nslow = '5s'\n";
        fs::write(dir.path().join("surus.toml"), format!("{quick}{target}")).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_surus"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG") || name.starts_with("SURUS_")) {
            command.env_remove(name);
        }
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]).arg(dir.path().join("data"));
        command.current_dir(dir.path()).env("HOME", dir.path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let many = Self { port, child, dir, _server: server };
        let deadline = Deadline::after(WITHIN);
        while !many.knows_all() {
            assert!(!deadline.passed(), "not all tables are known: {}", many.log());
            thread::sleep(Duration::from_millis(250));
        }
        many
    }

    /// The address for a browser.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn knows_all(&self) -> bool {
        let answer = http(self.port, "GET", "/api/surus/v1/targets/many/tables?all=1", &[], "");
        let document = answer.and_then(|answer| serde_json::from_str::<serde_json::Value>(&answer.body).ok());
        let Some(document) = document else { return false };
        let rows = document["data"]["rows"].as_array().cloned().unwrap_or_default();
        let largest = rows.iter().find(|row| row["name"] == "table_0777");
        document["data"]["all"] == 1000 && largest.is_some_and(|row| row["bytes"].as_f64() > Some(1e6))
    }

    fn log(&self) -> String {
        let path: PathBuf = self.dir.path().join("log");
        fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _ended = self.child.wait();
    }
}
