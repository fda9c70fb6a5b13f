//! A server that archives, a repository, a ledger of what was committed when, and restores beside them.

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use surus_backup::{
    Cluster, Repo,
    repo::{
        codec::Codec,
        local::LocalPlace,
        place::{Created, Entry, Place, PlaceError, Trouble},
    },
    restore::{
        Plan, RestoreOptions,
        directory::SpaceMap,
        start::{Arrival, start},
        target::RecoveryTarget,
    },
    take::{TakeOptions, Taken, take},
    wal::{name::file_kind, push},
};
use surus_core::{
    clock::Deadline,
    monitor::{Monitor, Silent},
};
use surus_pg::{LocalServer, Manners, Programs, Rows, Target, account::Account};
use surus_testkit::Server;

/// A committed transaction that inserted one row.
#[derive(Debug, Clone)]
pub struct Commit {
    pub row: i64,
    pub xid: u64,
    pub at: jiff::Timestamp,
    /// Just before its commit record, and just after it.
    pub before: surus_core::lsn::Lsn,
    pub after: surus_core::lsn::Lsn,
    /// A restore point made after it.
    pub point: String,
}

pub struct Room {
    // Field order is drop order: servers stop before their directory goes.
    pub current: Option<LocalServer>,
    pub server: Server,
    pub repo: Repo,
    /// All commits on the way to where the current server is.
    pub ledger: Vec<Commit>,
    /// The ledgers of the timelines that were left, and of the last one.
    pub paths: BTreeMap<u32, Vec<Commit>>,
    pub first_backup: String,
    pub dir: tempfile::TempDir,
    timeline: u32,
    next_row: i64,
}

pub fn ask(dsn: &str, sql: &str) -> Rows {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::parse(dsn).unwrap();
        let mut manners = Manners::changing();
        manners.application_name = "test".into();
        let session = target.connect(&manners).await.unwrap();
        session.run("RESET ALL").await.unwrap();
        let rows = session.ask(sql).await.unwrap_or_else(|error| panic!("{error}\nin: {sql}"));
        session.close().await;
        rows
    })
}

pub fn value(dsn: &str, sql: &str) -> String {
    ask(dsn, sql).first().unwrap().text("v").unwrap()
}

/// The rows of a restored server, after its pages and indexes were looked at where it can.
pub fn restored_rows(server: &LocalServer) -> Vec<i64> {
    let dsn = server.dsn("postgres", "postgres");
    let amcheck = "SELECT count(*)::text AS v FROM pg_available_extensions WHERE name = 'amcheck'";
    if value(&dsn, "SELECT pg_is_in_recovery()::text AS v") == "false" && value(&dsn, amcheck) == "1" {
        ask(&dsn, "CREATE EXTENSION IF NOT EXISTS amcheck");
        let heaps = value(&dsn, "SELECT count(*)::text AS v FROM pg_proc WHERE proname = 'verify_heapam'");
        let heap = "SELECT count(*)::text AS v FROM pg_class c, verify_heapam(c.oid) WHERE c.relkind IN ('r', 't', 'm') \
                    AND c.relpersistence = 'p'";
        assert!(heaps == "0" || value(&dsn, heap) == "0");
        let index = "SELECT count(bt_index_check(c.oid, true)::text)::text AS v FROM pg_class c JOIN pg_index i ON \
                     i.indexrelid = c.oid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND \
                     c.relpersistence = 'p' AND i.indisvalid";
        assert!(value(&dsn, index).parse::<u32>().unwrap() > 50);
    }
    let rows = value(&dsn, "SELECT coalesce(string_agg(row::text, ',' ORDER BY row), '') AS v FROM ledger");
    rows.split(',').filter(|row| !row.is_empty()).map(|row| row.parse().unwrap()).collect()
}

impl Room {
    pub fn new(major: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("restore").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let archive = dir.path().join("archive");
        fs::create_dir(&archive).unwrap();
        Account::unprivileged().unwrap().own(&archive).unwrap();
        let to = archive.display();
        let server = Server::builder()
            .major(major)
            .checksums(true)
            .setting("archive_mode", "on")
            .setting("archive_command", &format!("test ! -f {to}/%f && cp %p {to}/%f.tmp && mv {to}/%f.tmp {to}/%f"))
            .setting("track_commit_timestamp", "on")
            .setting("autovacuum", "off")
            .setting("max_wal_size", "64MB")
            .start();
        server.sql("CREATE TABLE ledger (row int8 PRIMARY KEY, filler text)");
        server.sql(
            "CREATE TABLE churn AS SELECT g AS id, repeat(md5(g::text), 5) AS text FROM generate_series(1, 3000) g",
        );
        server.sql("ALTER TABLE churn ADD PRIMARY KEY (id)");
        let repo = Repo::in_folder(&dir.path().join("repo")).unwrap();
        Self {
            current: None,
            server,
            repo,
            ledger: Vec::new(),
            paths: BTreeMap::new(),
            first_backup: String::new(),
            dir,
            timeline: 1,
            next_row: 1,
        }
    }

    pub fn dsn(&self) -> String {
        match &self.current {
            Some(server) => server.dsn("postgres", "postgres"),
            None => self.server.dsn("postgres"),
        }
    }

    pub fn cluster(&self) -> Cluster {
        self.repo.choose(None).unwrap()
    }

    /// Commits rows one by one, with other changes between them; gives all rows that there are then.
    pub fn commit(&mut self, count: usize) -> Vec<i64> {
        let dsn = self.dsn();
        for _ in 0..count {
            let row = self.next_row;
            self.next_row += 1;
            let point = format!("point {row}");
            let sql = format!(
                "BEGIN; INSERT INTO ledger VALUES ({row}, repeat('x', {})); UPDATE churn SET text = md5(random()::text) \
                 WHERE id % 97 = {}; SELECT pg_current_xact_id()::text AS xid, pg_current_wal_insert_lsn()::text AS before",
                row % 500,
                row % 97
            );
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let commit = runtime.block_on(async {
                let session = Target::parse(&dsn).unwrap().connect(&Manners::changing()).await.unwrap();
                session.run("RESET ALL").await.unwrap();
                let begun = session.ask(&sql).await.unwrap();
                let (xid, before) = {
                    let begun = begun.first().unwrap();
                    (begun.text("xid").unwrap(), begun.text("before").unwrap())
                };
                session.ask("COMMIT").await.unwrap();
                let after = format!(
                    "SELECT pg_current_wal_insert_lsn()::text AS after, (extract(epoch FROM \
                     pg_xact_commit_timestamp('{xid}'::xid)) * 1000000)::int8 AS at"
                );
                let ended = session.ask(&after).await.unwrap();
                let ended = ended.first().unwrap();
                let commit = Commit {
                    row,
                    xid: xid.parse().unwrap(),
                    at: jiff::Timestamp::from_microsecond(ended.i64("at").unwrap()).unwrap(),
                    before: before.parse().unwrap(),
                    after: ended.text("after").unwrap().parse().unwrap(),
                    point: point.clone(),
                };
                session.ask(&format!("SELECT pg_create_restore_point('{point}')::text")).await.unwrap();
                session.close().await;
                commit
            });
            self.ledger.push(commit);
        }
        self.rows()
    }

    pub fn rows(&self) -> Vec<i64> {
        self.ledger.iter().map(|commit| commit.row).collect()
    }

    /// Remembers the way to where the current server is.
    pub fn keep_path(&mut self) {
        self.paths.insert(self.timeline, self.ledger.clone());
    }

    /// Restores a server that archives, goes on with it, and with the first `commits` commits.
    pub fn go_on_from(&mut self, target: RecoveryTarget, commits: usize) {
        self.keep_path();
        self.timeline += 1;
        let name = format!("timeline-{}", self.timeline);
        let options = RestoreOptions { keep_archiving: true, ..self.options(&name, target) };
        self.restore(&options);
        drop(self.current.take());
        let (server, arrival) = self.start(&options);
        assert_eq!(arrival.timeline, Some(self.timeline));
        self.ledger.truncate(commits);
        assert_eq!(restored_rows(&server), self.rows());
        self.current = Some(server);
    }

    pub fn back_up(&mut self) -> Taken {
        self.back_up_with(&TakeOptions { workers: 2, ..TakeOptions::default() })
    }

    pub fn try_back_up_with(&self, options: &TakeOptions) -> surus_backup::Result<Taken> {
        let target = Target::parse(&self.dsn()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        runtime.block_on(take(&self.repo, &target, options, &monitor))
    }

    pub fn back_up_with(&mut self, options: &TakeOptions) -> Taken {
        let taken = self.try_back_up_with(options).unwrap();
        if self.first_backup.is_empty() {
            self.first_backup.clone_from(&taken.about.label);
        }
        taken
    }

    /// Everything that was written so far comes into the archive, and from there into the repository.
    pub fn archive_all(&self) {
        let segment = value(&self.dsn(), "SELECT pg_walfile_name(pg_current_wal_lsn()) AS v");
        ask(&self.dsn(), "SELECT pg_switch_wal()::text");
        let archive = self.archive();
        let deadline = Deadline::after(Duration::from_secs(30));
        while !archive.join(&segment).exists() {
            assert!(!deadline.passed(), "{segment} was not archived");
            std::thread::sleep(Duration::from_millis(20));
        }
        let id = self.cluster().names.system_identifier;
        let mut files: Vec<_> = fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for path in files.iter().filter(|path| file_kind(path.file_name().unwrap().to_str().unwrap()).is_some()) {
            push::push_file(&self.repo, path, Some(id), Codec::Zstd(1)).unwrap();
        }
    }

    pub fn archive(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub fn options(&self, name: &str, target: RecoveryTarget) -> RestoreOptions {
        RestoreOptions {
            to: self.dir.path().join(name),
            backup: None,
            target,
            delta: false,
            spaces: SpaceMap::default(),
            workers: 2,
            fetch: self.fetch(),
            keep_archiving: false,
            durable: true,
        }
    }

    /// What fetches WAL in place of `surus wal get`, of which these tests have no program: the files that were
    /// archived.
    pub fn fetch(&self) -> Vec<String> {
        let script = self.dir.path().join("fetch");
        if !script.exists() {
            fs::write(&script, format!("#!/bin/sh\nexec cp {}/\"$1\" \"$2\"\n", self.archive().display())).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        }
        vec![script.display().to_string()]
    }

    pub fn plan(&self, options: &RestoreOptions) -> surus_backup::Result<Plan> {
        Plan::make(&self.cluster(), options)
    }

    pub fn restore(&self, options: &RestoreOptions) -> surus_backup::restore::Restored {
        self.plan(options).unwrap().carry_out(&Silent).unwrap()
    }

    pub fn programs(&self) -> &Programs {
        self.server.programs()
    }

    pub fn start(&self, options: &RestoreOptions) -> (LocalServer, Arrival) {
        let within = Duration::from_secs(120);
        start(self.programs(), &options.to, None, options.target.action, within, &Silent).unwrap()
    }

    /// Restores, starts and looks.
    pub fn rows_with(&self, options: &RestoreOptions) -> Vec<i64> {
        self.restore(options);
        let (server, _) = self.start(options);
        let rows = restored_rows(&server);
        drop(server);
        fs::remove_dir_all(&options.to).unwrap();
        rows
    }

    /// pg_verifybackup of the same major, where it is here and runs.
    pub fn verify_with_postgresql(&self, data: &Path) {
        let Ok(program) = self.programs().bin("pg_verifybackup") else { return };
        let mut command = Account::unprivileged().unwrap().command(&program, Path::new("/tmp"));
        if let Some(libraries) = self.programs().library_path() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        let output = command.args(["--no-parse-wal", "--exit-on-error"]).arg(data).output().unwrap();
        // One of the packages holds a program that crashes at once, whatever it is given.
        if output.status.code().is_some() {
            let text = [output.stdout, output.stderr].concat();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
        }
    }
}

/// A place that breaks off after some reads of bundles.
#[derive(Debug)]
pub struct Failing {
    inner: LocalPlace,
    left: AtomicI64,
}

impl Failing {
    pub fn new(inner: LocalPlace, reads: i64) -> Self {
        Self { inner, left: AtomicI64::new(reads) }
    }
}

impl Place for Failing {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.inner.create(name, body)
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.inner.replace(name, body)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.inner.read(name)
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        if name.contains("/data/") && self.left.fetch_sub(1, Ordering::Relaxed) <= 0 {
            let (place, problem) = (self.address(), "it broke off".to_owned());
            return Err(PlaceError {
                trouble: Trouble::Unreachable,
                doing: "read",
                name: name.to_owned(),
                place,
                problem,
            });
        }
        self.inner.read_range(name, range)
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.inner.list(folder)
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        self.inner.delete(names)
    }

    fn address(&self) -> String {
        self.inner.address()
    }
}
