//! A server with something to lose, its backups by other tools, and copies of those to damage.

use crate::tally::named;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use surus_backup::{
    restore::target::{Action, RecoveryTarget},
    wal::name::Segment,
};
use surus_core::{clock::Deadline, monitor::Silent};
use surus_pg::{LocalServer, account::Account};
use surus_prove::{
    copy,
    engine::{Engine, Landed, Order},
    scratch::{Purpose, Scratch},
};
use surus_testkit::{Server, peer};
use tempfile::TempDir;

/// The major that Debian 12 has, and its pgBackRest and Barman know.
pub const MAJOR: u16 = 15;
/// Rows of the table that is counted.
pub const ORDERS: i64 = 6000;
/// Rows of the table in the tablespace.
pub const HOT: i64 = 500;
/// WAL segments that are filled after the backup.
pub const SEGMENTS: i64 = 6;

/// A directory that the server's account may enter.
pub fn directory() -> TempDir {
    let dir = tempfile::Builder::new().prefix("engines").tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// A new directory of the server's account.
pub fn own_directory(path: &Path) -> PathBuf {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o750)).unwrap();
    Account::unprivileged().unwrap().own(path).unwrap();
    path.to_owned()
}

/// Is the program here? Otherwise says that the test is skipped; with `SURUS_PEERS_REQUIRE` that is a failure.
pub fn installed(name: &str) -> Option<PathBuf> {
    let found = peer::program(name);
    if found.is_none() {
        assert!(std::env::var_os("SURUS_PEERS_REQUIRE").is_none(), "{name} is not here; dev/setup installs it");
        let test = std::thread::current().name().unwrap_or("test").to_owned();
        eprintln!("skipped: {test}: {name} is not here; dev/setup installs it");
    }
    found
}

/// Runs a program as the server's account; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// A command as the server's account.
pub fn command(program: &Path, dir: &Path) -> Command {
    Account::unprivileged().unwrap().command(program, dir)
}

/// A client program of PostgreSQL.
pub fn client(server: &Server, program: &str) -> Command {
    let mut command = server.local().client(program).unwrap();
    command.args(["-h", &server.local().socket_dir().display().to_string()]);
    command.args(["-p", &server.local().port().to_string(), "-U", "postgres"]);
    command
}

/// Copies a directory with owners, modes and links.
pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

/// Every file below with its size, time, mode and owner.
pub fn listing(dir: &Path) -> String {
    run(Command::new("find").arg(dir).args(["-printf", "%p %s %T@ %m %u\\n"]))
}

/// A server, and where its WAL goes.
pub struct Scene {
    pub server: Server,
    pub dir: TempDir,
}

impl Scene {
    /// A server whose archive_command is given the scene's directory; its data is made.
    pub fn new(archive_command: impl Fn(&Path) -> String) -> Self {
        Self::with(archive_command, true, "1")
    }

    /// With or without data checksums, and with segments of so many MiB.
    pub fn with(archive_command: impl Fn(&Path) -> String, checksums: bool, segment: &str) -> Self {
        let dir = directory();
        let command = archive_command(dir.path());
        let server = Server::builder()
            .major(MAJOR)
            .checksums(checksums)
            .initdb_arg(&format!("--wal-segsize={segment}"))
            .setting("wal_level", "replica")
            .setting("archive_mode", if command.is_empty() { "off" } else { "on" })
            .setting("archive_command", &command)
            .setting("archive_timeout", "0")
            .setting("autovacuum", "off")
            .setting("min_wal_size", "32MB")
            .setting("max_wal_size", "64MB")
            .start();
        Self { server, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes the data: a database, a table with a foreign key and an index, one in a tablespace.
    pub fn fill(&self) {
        let space = own_directory(&self.path("space"));
        self.server.sql("CREATE ROLE clerk NOLOGIN");
        self.server.create_database("shop");
        self.server.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
        for sql in [
            "CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL)",
            "INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 200) i",
            "CREATE TABLE orders (id int PRIMARY KEY, customer int NOT NULL REFERENCES customers, note text)",
            "INSERT INTO orders SELECT i, 1 + i % 200, repeat(md5(i::text), 2) FROM generate_series(1, 6000) i",
            "CREATE INDEX orders_customer ON orders (customer)",
            "CREATE TABLE hot (id int PRIMARY KEY) TABLESPACE fast",
            "INSERT INTO hot SELECT generate_series(1, 500)",
            "ALTER TABLE customers OWNER TO clerk",
            "GRANT SELECT ON orders TO clerk",
        ] {
            self.server.sql_in("shop", sql);
        }
        self.server.sql("CHECKPOINT");
    }

    /// Path of a relation's file below the data directory.
    pub fn file_of(&self, relation: &str) -> String {
        let rows = self.server.query_in("shop", &format!("SELECT pg_relation_filepath('{relation}') AS v"));
        rows.first().unwrap().text("v").unwrap()
    }

    /// The tablespace's OID.
    pub fn space(&self) -> u32 {
        self.server.value("SELECT oid::text AS v FROM pg_tablespace WHERE spcname = 'fast'").parse().unwrap()
    }

    /// Commits, each in a segment of its own, and waits until all are archived.
    pub fn go_on(&self) {
        self.server.sql_in("shop", "CREATE TABLE later (id int)");
        for number in 0..SEGMENTS {
            self.server.sql_in("shop", &format!("INSERT INTO later VALUES ({number})"));
            self.server.sql("SELECT pg_create_restore_point('point')");
            self.server.sql("SELECT pg_switch_wal()");
        }
        self.wait_archived();
    }

    /// Waits until the last segment that is full is archived.
    pub fn wait_archived(&self) {
        let last = self.server.value("SELECT pg_walfile_name(pg_switch_wal()) AS v");
        let done = format!("SELECT (last_archived_wal >= '{last}')::text AS v FROM pg_stat_archiver");
        let deadline = Deadline::after(Duration::from_secs(90));
        while self.server.value(&done) != "true" {
            assert!(!deadline.passed(), "{last} was not archived; the log:\n{}", self.server.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What came of a restore that went well.
pub struct Good {
    pub landed: Landed,
    /// Rows of `later`.
    pub later: i64,
}

/// Restores into a place of its own, starts the copy, and looks whether all is there; what went wrong otherwise.
pub fn restore(engine: &dyn Engine, target: &RecoveryTarget) -> Result<Good, String> {
    let dir = directory();
    let scratch = Scratch::at(dir.path().join("scratch"));
    let place = scratch.make(Purpose::Drill, "test", serde_json::Value::Null).unwrap();
    let order = Order { backup: None, target, place: &place, jobs: 2, pace: None, monitor: &Silent };
    let landed = engine.restore(&order).map_err(|error| error.to_string())?;
    let wish =
        copy::Wish { action: Action::Promote, within: Duration::from_secs(120), port: None, settings: Vec::new() };
    let started = copy::start(&landed, &place, &wish, &Silent).map_err(|error| error.to_string())?;
    let count = |table: &str| count(&started.server, table);
    if count("orders") != ORDERS || count("customers") != 200 || count("hot") != HOT {
        return Err("rows are missing".into());
    }
    let later = count("later");
    drop(started);
    place.remove().unwrap();
    Ok(Good { landed, later })
}

fn count(server: &LocalServer, table: &str) -> i64 {
    let dsn = server.dsn("postgres", "shop");
    let sql =
        format!("SELECT CASE WHEN to_regclass('{table}') IS NULL THEN -1 ELSE (SELECT count(*) FROM {table}) END");
    let sql = if table == "later" {
        "SELECT (xpath('/row/c/text()', query_to_xml(CASE WHEN to_regclass('later') IS NULL THEN 'SELECT 0 AS c' ELSE \
         'SELECT count(*) AS c FROM later' END, false, true, '')))[1]::text"
            .to_owned()
    } else {
        sql
    };
    let mut psql = server.client("psql").unwrap();
    let text = run(psql.args(["-XAtq", "-d", &dsn, "-c", &sql]));
    text.trim().parse().unwrap_or(-2)
}

/// Gives a file to root.
pub fn to_root(path: &Path, mode: u32) {
    chown(path, Some(0), Some(0)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Changes one byte in the middle of the file's first page.
pub fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x41], at).unwrap();
}

/// Takes bytes from the file's end.
pub fn cut(path: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - bytes).unwrap();
}

/// The name of the segment that a path is of.
pub fn segment_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy()[..24].to_owned()
}

/// The segment that lies so many before the last of them.
pub fn nth(mut segments: Vec<PathBuf>, from_end: usize) -> PathBuf {
    segments.swap_remove(segments.len() - 1 - from_end)
}

/// Removes an archived segment; how that must be named.
pub fn lose(segment: &Path) -> Vec<String> {
    fs::remove_file(segment).unwrap();
    named(&[&segment_name(segment), "is missing"])
}

/// Removes the archived segment that the first backup begins in; how that must be named.
pub fn lose_needed(engine: &dyn Engine, segments: Vec<PathBuf>) -> Vec<String> {
    let start = engine.survey().unwrap().backups[0].start_lsn.unwrap();
    let name = Segment::at(1, start, 1 << 20).to_string();
    fs::remove_file(segments.into_iter().find(|path| segment_name(path) == name).unwrap()).unwrap();
    named(&[&name, "lacks WAL segment"])
}

impl Scene {
    /// Changes a byte of a relation while the server is down: what is backed up then is damaged already.
    pub fn damage(&mut self, relation: &str, at: u64) {
        let path = self.server.data_dir().join(self.file_of(relation));
        self.server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
        flip(&path, at);
        self.server.local_mut().start(Duration::from_secs(30)).unwrap();
    }
}
