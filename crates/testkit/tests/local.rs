//! Control of local servers as product code uses it, on every major that is here.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use surus_core::secret::Secret;
use surus_pg::{
    LocalError, Programs,
    account::Account,
    server::{Auth, BaseBackup, InitOptions, LocalServer, Mode},
};
use surus_testkit::{Server, each_major, majors};

const WITHIN: Duration = Duration::from_secs(60);

/// A directory that the servers' account can enter.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn quick() -> InitOptions {
    InitOptions { wal_segment_mib: 1, sync: false, ..InitOptions::default() }
}

fn programs() -> Programs {
    Programs::find(majors().last().copied()).unwrap()
}

fn value(server: &LocalServer, sql: &str) -> String {
    let dsn = server.dsn("postgres", "postgres");
    server.run_client("psql", &["-AtXqc", sql, &dsn]).unwrap().trim().to_owned()
}

#[test]
fn a_server_lives_through_init_start_restart_reload_and_stop() {
    each_major(|major| {
        let dir = directory();
        let programs = Programs::find(Some(major)).unwrap();
        let mut server = LocalServer::init(&programs, &dir.path().join("a"), &quick()).unwrap();
        assert!(!server.is_running());
        server.start(WITHIN).unwrap();
        assert!(server.is_running());
        let wanted = format!("{} on {} 1MB", programs.version().num(), server.port());
        let told = "SELECT current_setting('server_version_num') || ' on ' || current_setting('port') || ' ' || \
                    current_setting('wal_segment_size')";
        assert_eq!(value(&server, told), wanted);
        assert_eq!(value(&server, "SELECT current_setting('data_checksums')"), "on");

        server.write_settings(&[("work_mem", "5MB"), ("cluster_name", "it's")]).unwrap();
        server.reload();
        for _ in 0..200 {
            if value(&server, "SELECT current_setting('work_mem')") == "5MB" {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(value(&server, "SELECT current_setting('work_mem')"), "5MB");
        let before = server.pid();
        server.restart(WITHIN).unwrap();
        assert_ne!(server.pid(), before);
        assert_eq!(value(&server, "SELECT current_setting('cluster_name')"), "it's");
        let again = server.start(WITHIN).unwrap_err();
        assert!(again.to_string().contains("already runs"), "{again}");
    });
}

#[test]
fn every_way_of_stopping_stops() {
    let mut server = Server::start();
    server.expect_log("terminating connection");
    for mode in [Mode::Fast, Mode::Smart, Mode::Immediate] {
        server.local_mut().stop(mode).unwrap();
        assert!(!server.local().is_running());
        server.local_mut().stop(mode).unwrap();
        server.local_mut().start(WITHIN).unwrap();
        assert_eq!(server.value("SELECT 1 AS v"), "1");
    }
}

#[test]
fn standbys_follow_and_are_promoted_on_every_major() {
    each_major(|major| {
        let mut primary = Server::builder().major(major).start();
        let standby = primary.standby_named("follower", &[]);
        primary.sql("CREATE TABLE t AS SELECT 42 AS id");
        standby.wait_caught_up(&primary);
        assert_eq!(standby.value("SELECT id AS v FROM t WHERE pg_is_in_recovery()"), "42");
        let streaming = "SELECT state || ' ' || application_name AS v FROM pg_stat_replication r \
                         JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE slot_name = 'follower'";
        assert_eq!(primary.value(streaming), "streaming follower");
        primary.local_mut().stop(Mode::Fast).unwrap();
        standby.local().promote(WITHIN).unwrap();
        standby.sql("INSERT INTO t VALUES (43)");
        let again = standby.local().promote(WITHIN).unwrap_err();
        assert!(matches!(again, LocalError::ProgramFailed { .. }), "{again}");
        assert_eq!(again.code().id, "SURUS-L005");
    });
}

#[test]
fn a_base_backup_starts_as_a_server_of_its_own() {
    let dir = directory();
    let programs = programs();
    let server = Server::start();
    server.sql("CREATE TABLE kept AS SELECT 42 AS id");
    let dsn = server.dsn("postgres");
    let backup = BaseBackup { dsn, slot: None, create_slot: false, standby: false, sync: false };
    let mut copy = LocalServer::from_base_backup(&programs, &dir.path().join("b"), "postgres", &backup).unwrap();
    copy.start(WITHIN).unwrap();
    assert_eq!(value(&copy, "SELECT id FROM kept WHERE NOT pg_is_in_recovery()"), "42");
    let failed = LocalServer::from_base_backup(
        &programs,
        &dir.path().join("c"),
        "postgres",
        &BaseBackup { dsn: "host=/nowhere".into(), ..backup },
    );
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("pg_basebackup failed") && text.contains("/nowhere"), "{text}");
}

#[test]
fn a_password_is_asked_for_when_told_so_and_left_nowhere() {
    let dir = directory();
    let password = "kzp4-geheim";
    let options = InitOptions { auth: Auth::Scram(Secret::new(password)), ..quick() };
    let mut server = LocalServer::init(&programs(), &dir.path().join("a"), &options).unwrap();
    server.start(WITHIN).unwrap();
    let dsn = server.dsn("postgres", "postgres");
    let ask = |dsn: &str| server.run_client("psql", &["-wAtXqc", "SELECT 1", dsn]);
    assert!(ask(&dsn).unwrap_err().to_string().contains("no password supplied"));
    assert_eq!(ask(&format!("{dsn} password={password}")).unwrap(), "1\n");
    let left: Vec<PathBuf> = fs::read_dir(dir.path().join("a")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.ends_with("initdb.password")), "{left:?}");
}

#[test]
fn the_server_does_not_run_as_root() {
    let server = Server::start();
    let server = server.local();
    let process = fs::metadata(format!("/proc/{}", server.pid().unwrap())).unwrap();
    assert_ne!(process.uid(), 0);
    assert_eq!(process.uid(), Account::unprivileged().unwrap().uid());
    assert_eq!(fs::metadata(server.data_dir()).unwrap().uid(), process.uid());
    let environment = fs::read(format!("/proc/{}/environ", server.pid().unwrap())).unwrap();
    let environment = String::from_utf8(environment).unwrap();
    assert!(environment.contains("TZ=UTC") && !environment.contains("CARGO"), "{environment}");
    let groups = fs::read_to_string(format!("/proc/{}/status", server.pid().unwrap())).unwrap();
    if Account::unprivileged().unwrap().uid() != fs::metadata("/proc/self").unwrap().uid() {
        let groups = groups.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
        assert_eq!(groups.trim(), "", "root's supplementary groups must not stay");
    }
}

#[test]
fn a_taken_port_is_left_to_its_owner() {
    let mut server = Server::start();
    let server = server.local_mut();
    server.stop(Mode::Fast).unwrap();
    server.listen_on_loopback().unwrap();
    let taken = server.port();
    let _owner = TcpListener::bind(("127.0.0.1", taken)).unwrap();
    server.start(WITHIN).unwrap();
    assert_ne!(server.port(), taken);
    assert_eq!(value(server, "SELECT current_setting('port')"), server.port().to_string());
    assert!(!server.log().contains("FATAL"), "{}", server.log());
    TcpListener::bind(("127.0.0.1", server.port())).unwrap_err();
}

#[test]
fn a_long_path_gets_its_socket_elsewhere() {
    let dir = directory();
    let deep = dir.path().join("a-name-of-forty-characters-and-some-more".repeat(3));
    let mut server = LocalServer::init(&programs(), &deep, &quick()).unwrap();
    server.start(WITHIN).unwrap();
    assert_eq!(value(&server, "SELECT 1"), "1");
    let socket_dir = server.socket_dir().to_owned();
    assert!(socket_dir.is_dir() && socket_dir.as_os_str().len() < 40);
    drop(server);
    assert!(!socket_dir.exists());
}

#[test]
fn dropping_stops_and_detaching_does_not() {
    let dir = directory();
    let mut server = LocalServer::init(&programs(), &dir.path().join("a"), &quick()).unwrap();
    let data = server.data_dir().to_owned();
    server.start(WITHIN).unwrap();
    drop(server);
    assert_eq!(surus_pg::server::running_pid(&data), None);
    let mut server = LocalServer::adopt(&programs(), &dir.path().join("a"), "postgres").unwrap();
    server.start(WITHIN).unwrap();
    server.detach();
    assert!(surus_pg::server::running_pid(&data).is_some());
    let mut server = LocalServer::adopt(&programs(), &dir.path().join("a"), "postgres").unwrap();
    server.stop(Mode::Fast).unwrap();
    assert_eq!(surus_pg::server::running_pid(&data), None);
}

#[test]
fn a_failed_start_shows_the_log_and_leaves_nothing_running() {
    let mut server = Server::start();
    server.expect_log("no_such_library");
    let server = server.local_mut();
    server.stop(Mode::Fast).unwrap();
    server.write_settings(&[("shared_preload_libraries", "no_such_library")]).unwrap();
    let error = server.start(WITHIN).unwrap_err();
    assert_eq!(error.code().id, "SURUS-L003");
    assert!(error.to_string().contains("no_such_library"), "{error}");
    assert!(!server.is_running());
    server.write_settings(&[("shared_preload_libraries", "")]).unwrap();
    server.start(WITHIN).unwrap();
    assert!(!server.log_tail().contains("no_such_library"), "the tail is of the latest start only");
}

#[test]
fn what_cannot_be_used_is_said_with_its_code() {
    let dir = directory();
    let missing = Programs::find(Some(8)).unwrap_err();
    assert_eq!(missing.code().id, "SURUS-L001");
    assert!(missing.to_string().contains("no PostgreSQL 8 was found"), "{missing}");
    let program = programs().bin("no_such_program").unwrap_err();
    assert!(matches!(program, LocalError::ProgramMissing { .. }), "{program}");

    let full = dir.path().join("full");
    fs::create_dir_all(full.join("data/something")).unwrap();
    let error = LocalServer::init(&programs(), &full, &quick()).unwrap_err();
    assert_eq!(error.code().id, "SURUS-L005");
    assert!(error.to_string().contains("not empty"), "{error}");

    let no_cluster = LocalServer::adopt(&programs(), &dir.path().join("empty"), "postgres").unwrap_err();
    assert_eq!(no_cluster.code().id, "SURUS-L004");
    let not_a_directory = LocalServer::init(&programs(), Path::new("/dev/null/x"), &quick()).unwrap_err();
    assert_eq!(not_a_directory.code().id, "SURUS-L004");
}
