//! What the tests of the catalogue share: a stage to seed trouble on, and two clusters on which every check is run
//! once per major.
//!
//! Every check has three tests. *Seeded*: trouble is made and must be found, with its key and fix. *Clean*: a
//! well-kept cluster gives no finding. *Unprivileged*: a role with LOGIN and nothing else gives unknown, never ok;
//! a check whose catalogs everybody may read must see the same as a superuser.

use crate::{
    options::{Levels, Options, Repository},
    report::TargetReport,
    rule::{Check, Look, Need},
    run::{self, Given},
};
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};
use surus_core::{
    clock::Deadline,
    finding::Finding,
    monitor::Silent,
    protection::{ProtectedBackup, Protection},
    version::Version,
};
use surus_pg::{Manners, Session, Target};
use surus_testkit::{Builder, Server};

/// How long a test waits for statistics or a background process, and how long between two looks.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(100);

/// Generates the clean and the unprivileged test of a check.
macro_rules! check_tests {
    ($check:expr) => {
        #[test]
        fn a_well_kept_cluster_is_quiet() {
            crate::testing::clean(&$check);
        }

        #[test]
        fn without_privilege_it_is_unknown() {
            crate::testing::unprivileged(&$check);
        }
    };
}
pub(crate) use check_tests;

/// Runs `body` with a look at a repository that holds for the server what the test says.
pub(crate) fn with_repository(check: &'static Check, body: impl Fn(&mut dyn FnMut(&Protection) -> Vec<Finding>)) {
    let server = Server::start();
    let options = Options { only: vec![check.id.to_owned()], ..Options::default() };
    let mut on = Stage { server, check, options, runtime: runtime() };
    let system = on.server.value("SELECT system_identifier AS v FROM pg_control_system()");
    body(&mut |protection| {
        let clusters = Ok(BTreeMap::from([(system.clone(), protection.clone())]));
        on.options.repositories = vec![Repository { address: protection.repository.clone(), clusters }];
        on.findings()
    });
}

/// A repository with backups that ended so many hours ago, full or not, oldest first.
pub(crate) fn protection(backups: &[(i64, bool)]) -> Protection {
    let now = surus_core::clock::now();
    let backup = |(hours, full): &(i64, bool)| ProtectedBackup {
        label: format!("{hours} h ago"),
        full: *full,
        parent: None,
        timeline: 1,
        start_lsn: surus_core::lsn::Lsn(0),
        stop_lsn: surus_core::lsn::Lsn(0),
        started_at: now - jiff::SignedDuration::from_hours(*hours),
        stopped_at: now - jiff::SignedDuration::from_hours(*hours),
        size: 300 << 20,
        own: 300 << 20,
        stored: 100 << 20,
        verified_at: None,
        trouble: None,
        damaged_pages: 0,
    };
    Protection {
        repository: "/srv/surus".into(),
        off_site: false,
        encrypted: false,
        open_to_others: Some(false),
        segment_size: 16 << 20,
        backups: backups.iter().map(backup).collect(),
        unreadable: BTreeMap::new(),
        in_progress: None,
        gaps: Vec::new(),
        newest_segment: None,
        newest_segment_at: None,
        wal_stored: 0,
        free: None,
        looked_at: now,
    }
}

/// A private server with trouble on it, and the check that must see it.
#[allow(dead_code, reason = "a check's test uses what it needs")]
pub(crate) struct Stage {
    pub server: Server,
    pub check: &'static Check,
    /// Change them before [`Stage::findings`] to test declared policies and limits.
    pub options: Options,
    runtime: tokio::runtime::Runtime,
}

/// Runs `body` on a private server of each major that matters to the check; see [`stage_majors`].
pub(crate) fn seeded(check: &'static Check, body: impl Fn(&mut Stage)) {
    seeded_on(check, |builder| builder, body);
}

/// As [`seeded`], with a server that is built differently (TCP, hba lines, initdb arguments …).
pub(crate) fn seeded_on(check: &'static Check, build: impl Fn(Builder) -> Builder, body: impl Fn(&mut Stage)) {
    for major in stage_majors(check) {
        eprintln!("on PostgreSQL {major}");
        let server = build(Server::builder().major(major)).start();
        let options = Options { only: vec![check.id.to_owned()], ..Options::default() };
        body(&mut Stage { server, check, options, runtime: runtime() });
    }
}

/// Where trouble is made: on the newest major, on Debian's (else the oldest), and on the newest of each range that has
/// a query of its own. `SURUS_TEST_ALL_MAJORS=1` takes every major that is here; the clean and the unprivileged
/// test always do.
fn stage_majors(check: &Check) -> Vec<u16> {
    let oldest = oldest_major(check);
    let here: Vec<u16> = surus_testkit::majors().into_iter().filter(|major| *major >= oldest).collect();
    if std::env::var_os("SURUS_TEST_ALL_MAJORS").is_some() {
        return here;
    }
    let newest_in = |from: u16, to: u16| here.iter().copied().filter(|major| (from..=to).contains(major)).max();
    let mut majors: Vec<u16> = match &check.look {
        Look::Query(texts, _) => texts.iter().filter_map(|sql| newest_in(sql.from, sql.to)).collect(),
        _ => Vec::new(),
    };
    majors.extend(newest_in(0, u16::MAX));
    majors.extend(here.iter().find(|major| **major >= 15));
    majors.sort_unstable();
    majors.dedup();
    majors
}

fn oldest_major(check: &Check) -> u16 {
    let majors = check.needs.iter().filter_map(|need| if let Need::Major(major) = need { Some(*major) } else { None });
    majors.max().unwrap_or(0)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn given(name: &str, dsn: &str) -> Given {
    Given { name: name.to_owned(), target: Target::parse(dsn) }
}

#[allow(dead_code, reason = "a check's test uses what it needs")]
impl Stage {
    /// The server's major.
    pub fn major(&self) -> u16 {
        self.server.major()
    }

    /// Runs SQL in the database `postgres` as superuser.
    pub fn sql(&self, sql: &str) {
        self.server.sql(sql);
    }

    /// Configures the warning level of one of the check's limits, so that small data is enough.
    pub fn limit(&mut self, name: &str, level: f64) {
        set_limit(&mut self.options, self.check.id, name, level);
    }

    /// Sets server settings and restarts the server.
    pub fn configure(&mut self, settings: &[(&str, &str)]) {
        let local = self.server.local_mut();
        local.write_settings(settings).unwrap();
        local.restart(std::time::Duration::from_secs(60)).unwrap();
    }

    /// Sets server settings and lets the server read them without a restart.
    pub fn reload(&self, settings: &[(&str, &str)]) {
        self.server.local().write_settings(settings).unwrap();
        let read_at = || self.server.value("SELECT pg_conf_load_time() AS v");
        let before = read_at();
        self.server.local().reload();
        let deadline = surus_core::clock::Deadline::after(std::time::Duration::from_secs(30));
        while read_at() == before {
            assert!(!deadline.passed(), "the server does not read its settings");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A session that stays open until it is dropped.
    pub fn session(&self, database: &str) -> Session {
        let manners = Manners { application_name: "app".into(), ..Manners::changing() };
        self.runtime.block_on(Target::parse(&self.server.dsn(database)).unwrap().connect(&manners)).unwrap()
    }

    /// As [`Stage::session`], as another role.
    pub fn session_as(&self, role: &str, database: &str) -> Session {
        let manners = Manners { application_name: "app".into(), ..Manners::changing() };
        let dsn = self.server.dsn_as(role, "", database);
        self.runtime.block_on(Target::parse(&dsn).unwrap().connect(&manners)).unwrap()
    }

    /// Kills one backend with signal 9, so that the server restarts all its processes, and waits until it is back.
    pub fn kill_backend(&self) {
        let doomed = self.session("postgres");
        let rows = self.runtime.block_on(doomed.ask("SELECT pg_backend_pid() AS pid")).unwrap();
        let pid = rows.first().unwrap().i64("pid").unwrap();
        assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
        let target = Target::parse(&self.server.dsn("postgres")).unwrap();
        let deadline = surus_core::clock::Deadline::after(std::time::Duration::from_secs(30));
        while doomed.is_open() || self.runtime.block_on(target.connect(&Manners::looking())).is_err() {
            assert!(!deadline.passed(), "the server does not come back");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Runs SQL in an open session and waits for it.
    pub fn run_in(&self, session: &Session, sql: &str) {
        self.runtime.block_on(session.run(sql)).unwrap();
    }

    /// Runs SQL in an open session that may refuse it.
    pub fn try_run_in(&self, session: &Session, sql: &str) -> Result<(), surus_pg::AskError> {
        self.runtime.block_on(session.run(sql))
    }

    /// As [`Stage::run_in`], for SQL that the server may refuse.
    pub fn try_in(&self, session: &Session, sql: &str) -> Result<(), surus_pg::AskError> {
        self.runtime.block_on(session.run(sql))
    }

    /// Starts SQL that will not return soon (a lock wait, a sleep) in a session of its own; it ends with the server.
    pub fn start_in_background(&self, sql: &str) {
        let session = self.session("postgres");
        let sql = sql.to_owned();
        self.runtime.spawn(async move { session.run(&sql).await });
    }

    /// What the check finds now, as superuser; nothing may be unknown.
    pub fn findings(&self) -> Vec<Finding> {
        let report = self.report();
        assert!(report.unknown.is_empty(), "unknown: {:?}", report.unknown);
        report.findings
    }

    /// What the check finds as soon as it finds anything: for what statistics or a background process must tell first.
    pub fn soon_finds(&self) -> Vec<Finding> {
        self.soon_finds_on(&self.server.dsn("postgres"))
    }

    /// As [`Stage::soon_finds`], over another connection string.
    pub fn soon_finds_on(&self, dsn: &str) -> Vec<Finding> {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let report = self.report_of(dsn);
            assert!(report.error.is_none() && report.unknown.is_empty(), "{:?} {:?}", report.error, report.unknown);
            let found = report.findings;
            if !found.is_empty() {
                return found;
            }
            assert!(!deadline.passed(), "nothing found within {PATIENCE:?}");
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the check finds nothing any more.
    pub fn soon_quiet(&self) {
        let deadline = Deadline::after(PATIENCE);
        loop {
            let report = self.report();
            if report.findings.is_empty() && report.unknown.is_empty() {
                return;
            }
            assert!(!deadline.passed(), "not quiet within {PATIENCE:?}: {:?} {:?}", report.findings, report.unknown);
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the column `v` of this query is true.
    pub fn until(&self, sql: &str) {
        let deadline = Deadline::after(PATIENCE);
        while self.server.value(sql) != "t" {
            assert!(!deadline.passed(), "not within {PATIENCE:?}: {sql}");
            std::thread::sleep(PAUSE);
        }
    }

    /// The whole report of the check, as superuser.
    pub fn report(&self) -> TargetReport {
        self.report_of(&self.server.dsn("postgres"))
    }

    /// The whole report of the check over another connection string.
    pub fn report_of(&self, dsn: &str) -> TargetReport {
        self.report_of_all(&[("server", dsn)]).remove(0)
    }

    /// The reports of several targets of one run, for checks that compare the nodes of a cluster.
    pub fn report_of_all(&self, dsns: &[(&str, &str)]) -> Vec<TargetReport> {
        let given = dsns.iter().map(|(name, dsn)| given(name, dsn)).collect();
        self.runtime.block_on(run::run(given, &self.options, &Silent)).targets
    }
}

/// A cluster as a careful operator keeps it. The tests' small settings are overruled where a check looks.
fn well_kept(major: u16) -> Server {
    WELL_KEPT.iter().fold(Server::builder().major(major), |builder, (name, value)| builder.setting(name, value)).start()
}

/// Settings of the well-kept cluster; each line is there because some check would rightly complain without it.
const WELL_KEPT: &[(&str, &str)] = &[
    ("fsync", "on"),
    ("shared_preload_libraries", "pg_stat_statements"),
    ("archive_mode", "on"),
    ("archive_command", "mkdir -p ../archive && cp %p ../archive/%f"),
    ("archive_timeout", "60"),
    ("track_io_timing", "on"),
    ("track_activity_query_size", "4096"),
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "200"),
    ("statement_timeout", "1h"),
    ("lock_timeout", "1min"),
    ("idle_in_transaction_session_timeout", "10min"),
    ("unix_socket_permissions", "0700"),
    ("password_encryption", "scram-sha-256"),
    ("log_checkpoints", "on"),
    ("log_lock_waits", "on"),
    ("log_temp_files", "10MB"),
    ("log_autovacuum_min_duration", "10min"),
    ("log_connections", "on"),
    ("log_statement", "ddl"),
];

/// Limits that a test's server cannot keep: it was started a moment ago, it does not own the machine's memory, and
/// some of the majors have had their day.
const NOT_FOR_TESTS: &[(&str, &str, f64)] =
    &[("srv.restarted", "uptime", -1.0), ("cfg.shared_buffers", "least", -1.0), ("srv.minor_version", "support", -1e6)];

fn set_limit(options: &mut Options, id: &str, name: &str, level: f64) {
    let limits = options.config.thresholds.entry(id.to_owned()).or_default();
    limits.insert(name.to_owned(), Levels { warn: Some(level), crit: None });
}

/// The reports of the well-kept cluster: as superuser, and as a role that may only log in.
struct Seen {
    privileged: TargetReport,
    unprivileged: TargetReport,
}

impl Seen {
    fn found(&self, check: &Check) -> Vec<&Finding> {
        self.privileged.findings.iter().filter(|finding| finding.id == check.id).collect()
    }
}

fn seen() -> &'static BTreeMap<u16, Seen> {
    static SEEN: OnceLock<BTreeMap<u16, Seen>> = OnceLock::new();
    SEEN.get_or_init(|| surus_testkit::majors().into_iter().map(|major| (major, look(major))).collect())
}

fn look(major: u16) -> Seen {
    let server = well_kept(major);
    server.sql("CREATE ROLE plain LOGIN");
    // What PostgreSQL 15 and newer do in new databases.
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    server.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements");
    server.sql("CREATE EXTENSION IF NOT EXISTS amcheck");
    server.expect_log("permission denied");
    let mut options = Options::default();
    for (id, name, level) in NOT_FOR_TESTS {
        let limits = options.config.thresholds.entry((*id).to_owned()).or_default();
        limits.insert((*name).to_owned(), Levels { warn: Some(*level), crit: Some(*level) });
    }
    let report =
        |dsn: String| runtime().block_on(run::run(vec![given("server", &dsn)], &options, &Silent)).targets.remove(0);
    let privileged = report(server.dsn("postgres"));
    let unprivileged = report(server.dsn_as("plain", "", "postgres"));
    for seen in [&privileged, &unprivileged] {
        assert!(seen.error.is_none(), "{:?}", seen.error);
        for query in &seen.queries {
            assert!(query.duration_ms < 5000.0, "{query:?}");
        }
    }
    Seen { privileged, unprivileged }
}

/// The well-kept cluster gives no finding of this check on any major.
pub(crate) fn clean(check: &Check) {
    for (major, seen) in seen() {
        let found = seen.found(check);
        // The machine that runs the tests is nobody's well-kept host: it may have a full disk or save power.
        let machine = check.group() == "host";
        assert!(machine || found.is_empty(), "on PostgreSQL {major}: {found:#?}");
        for unknown in seen.privileged.unknown.iter().filter(|unknown| unknown.id == check.id) {
            let expected = ["version", "history", "repository", "log", "statistics", "undeclared"];
            // A kernel need not tell everything either.
            let fine = expected.contains(&unknown.reason.kind())
                || (check.group() == "host" && unknown.reason.kind() == "host");
            assert!(fine, "on PostgreSQL {major}: {unknown:?}");
        }
    }
}

/// The findings of this check on the well-kept cluster of each version that is here.
pub(crate) fn on_well_kept(check: &Check) -> Vec<(Version, Vec<&'static Finding>)> {
    let version = |seen: &Seen| Version::from_text(seen.privileged.version.as_deref().unwrap()).unwrap();
    seen().values().map(|seen| (version(seen), seen.found(check))).collect()
}

/// A role that may only log in gets unknown where privileges are needed, and else the same as a superuser.
pub(crate) fn unprivileged(check: &Check) {
    let privileges = [Need::Stats, Need::Settings, Need::Monitor, Need::ReadAllData, Need::Hba, Need::Superuser];
    let guarded = check.needs.iter().any(|need| privileges.contains(need))
        || matches!(check.look, Look::Later(_) | Look::Repository(_));
    for (major, seen) in seen() {
        let kinds = |report: &TargetReport| -> Vec<&'static str> {
            report
                .unknown
                .iter()
                .filter(|unknown| unknown.id == check.id)
                .map(|unknown| unknown.reason.kind())
                .collect()
        };
        let (with, without) = (kinds(&seen.privileged), kinds(&seen.unprivileged));
        let fine = seen.unprivileged.ok.contains(&check.id);
        let elsewhere = seen.privileged.not_applicable.iter().any(|one| one.id == check.id);
        if guarded && !elsewhere {
            assert!(!fine && !without.is_empty(), "on PostgreSQL {major}: ok without privilege");
        } else if !guarded && with.is_empty() {
            let denied = without.contains(&"privilege");
            let keys = |report: &TargetReport| -> Vec<String> {
                report.findings.iter().filter(|one| one.id == check.id).map(|one| one.key.clone()).collect()
            };
            let same = !keys(&seen.privileged).is_empty() && keys(&seen.privileged) == keys(&seen.unprivileged);
            assert!(fine || same || denied || elsewhere, "on PostgreSQL {major}: {without:?}");
        }
    }
}
