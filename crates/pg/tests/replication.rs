//! The replication protocol, spoken with real servers.

use std::fs;
use surus_core::{code, lsn::Lsn};
use surus_pg::{
    AskErrorKind, Environment, Replication, Target,
    replication::{
        base_backup::{BackupEvent, BaseBackupOptions},
        stream::{NextTimeline, Started, WalEvent},
    },
};
use surus_testkit::{Certs, Server, each_major};

const HBA: &str = "hostssl replication all 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256";

fn target(dsn: &str) -> Target {
    Target::parse_in(dsn, &Environment::empty().with_user("postgres")).unwrap()
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn replicate(server: &Server) -> Replication {
    target(&server.dsn("postgres")).replicate().await.unwrap()
}

#[test]
fn over_tls_with_scram_and_channel_binding() {
    each_major(|major| {
        let certs = Certs::new();
        let builder = Server::builder().major(major).setting("password_encryption", "scram-sha-256");
        let server = builder.tls(&certs).hba(HBA).start();
        server.sql("CREATE ROLE rita LOGIN REPLICATION PASSWORD 'påss'; CREATE ROLE walter LOGIN PASSWORD 'w'");
        let port = server.local().port();
        let root = certs.root_cert().display().to_string();
        let dsn = |user: &str, password: &str| {
            let how = format!("sslmode=verify-full sslrootcert={root} channel_binding=require");
            format!("host=localhost hostaddr=127.0.0.1 port={port} user={user} password='{password}' {how}")
        };
        run(async {
            let mut connection = target(&dsn("rita", "påss")).replicate().await.unwrap();
            assert!(connection.tls().is_some_and(|tls| tls.can_bind()));
            let identity = connection.identify().await.unwrap();
            let system = server.value("SELECT system_identifier AS v FROM pg_control_system()");
            assert_eq!((identity.system_identifier.to_string(), identity.timeline), (system, 1));
            assert_eq!(connection.version().major(), major);
            connection.close().await;

            server.expect_log("password authentication failed for user \"rita\"");
            let error = target(&dsn("rita", "pass")).replicate().await.unwrap_err();
            assert_eq!(error.code, code::CONNECT_PASSWORD, "{error}");
            server.expect_log("to start WAL sender");
            server.expect_log("must be superuser or replication role");
            let error = target(&dsn("walter", "w")).replicate().await.unwrap_err();
            assert!(error.sqlstate.as_deref() == Some("42501"), "{error}");
            server.expect_log("no pg_hba.conf entry for replication connection");
            let plain = format!("host=127.0.0.1 port={port} user=rita password=påss sslmode=disable");
            assert_eq!(target(&plain).replicate().await.unwrap_err().code, code::CONNECT_HBA);
            let none = dsn("rita", "").replace("password=''", "");
            assert_eq!(target(&none).replicate().await.unwrap_err().code, code::CONNECT_NO_PASSWORD);
            let standby = format!("{} target_session_attrs=standby", dsn("rita", "påss"));
            assert_eq!(target(&standby).replicate().await.unwrap_err().code, code::CONNECT_SESSION_ATTRS);
        });
    });
}

#[test]
fn a_password_file_knows_the_connection_as_replication() {
    let server = Server::builder().tcp().hba("host replication all 127.0.0.1/32 scram-sha-256").start();
    server.sql("CREATE ROLE rita LOGIN REPLICATION PASSWORD 'r'");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("pgpass");
    fs::write(&file, "*:*:postgres:*:wrong\n*:*:replication:rita:r\n").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let port = server.local().port();
    let dsn = format!("host=127.0.0.1 port={port} user=rita dbname=postgres passfile={}", file.display());
    run(async { target(&dsn).replicate().await.unwrap().close().await });
}

#[test]
fn slots_settings_and_history() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        run(async {
            let mut connection = replicate(&server).await;
            assert_eq!(connection.wal_segment_size().await.unwrap(), 1 << 20);
            connection.create_physical_slot("physical", false, true).await.unwrap();
            server.expect_log("already exists");
            let error = connection.create_physical_slot("physical", false, true).await.unwrap_err();
            assert_eq!(error.sqlstate.as_deref(), Some("42710"));
            // After a refusal the connection goes on.
            if major >= 15 {
                let slot = connection.read_slot("physical").await.unwrap().unwrap();
                assert_eq!(slot.restart.unwrap().1, 1);
                assert_eq!(connection.read_slot("no_such").await.unwrap(), None);
            }
            connection.drop_slot("physical", true).await.unwrap();
            server.expect_log("could not open file \"pg_wal/00000002.history\"");
            assert!(connection.timeline_history(2).await.is_err());
            assert!(connection.show("data_checksums").await.unwrap() == "on");
            connection.close().await;
        });
        // The standby leaves when it is promoted.
        server.expect_log("connection to client lost");
        let standby = server.standby();
        standby.local().promote(std::time::Duration::from_secs(30)).unwrap();
        run(async {
            let mut connection = replicate(&standby).await;
            assert_eq!(connection.identify().await.unwrap().timeline, 2);
            let history = connection.timeline_history(2).await.unwrap();
            assert_eq!(history.name, "00000002.history");
            let file = fs::read(standby.data_dir().join("pg_wal/00000002.history")).unwrap();
            assert_eq!(history.content, file);
            // The end of a timeline leads to the next one.
            let text = String::from_utf8(history.content).unwrap();
            let left: Lsn = text.split_whitespace().nth(1).unwrap().parse().unwrap();
            let from = Lsn(left.0 / (1 << 20) * (1 << 20));
            let next = match connection.start_physical(None, from, 1).await.unwrap() {
                Started::Ended(next) => next,
                Started::Streaming(mut stream) => loop {
                    match stream.next().await.unwrap() {
                        WalEvent::Ended(next) => break next,
                        _ => continue,
                    }
                },
            };
            assert_eq!(next, Some(NextTimeline { timeline: 2, from: left }));
            connection.identify().await.unwrap();
        });
    });
}

#[test]
fn wal_comes_as_it_is_in_pg_wal() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        server.sql("SELECT pg_switch_wal()");
        server.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g");
        let end: Lsn = server.value("SELECT pg_current_wal_flush_lsn() AS v").parse().unwrap();
        run(async {
            let mut connection = replicate(&server).await;
            let size = connection.wal_segment_size().await.unwrap();
            let from = Lsn(end.0 / size * size - 2 * size);
            let Started::Streaming(mut stream) = connection.start_physical(None, from, 1).await.unwrap() else {
                panic!("no stream");
            };
            let mut wal = Vec::new();
            while from.0 + (wal.len() as u64) < end.0 {
                if let WalEvent::Data { start, bytes } = stream.next().await.unwrap() {
                    assert_eq!(start.0, from.0 + wal.len() as u64);
                    wal.extend_from_slice(bytes);
                }
            }
            let here = Lsn(from.0 + wal.len() as u64);
            stream.report(here, here, false).await.unwrap();
            stream.end().await.unwrap();
            assert_eq!(connection.identify().await.unwrap().timeline, 1);
            for number in 0..2 {
                let segment = from.0 / size + number;
                let per_log = (1 << 32) / size;
                let name = format!("{:08X}{:08X}{:08X}", 1, segment / per_log, segment % per_log);
                let file = fs::read(server.data_dir().join("pg_wal").join(name)).unwrap();
                let at = (number * size) as usize;
                assert!(file == wal[at..at + size as usize], "segment {number}");
            }
            server.expect_log("has already been removed");
            match connection.start_physical(None, Lsn(0), 1).await {
                Ok(Started::Streaming(mut stream)) => {
                    let error = stream.next().await.unwrap_err();
                    assert_eq!(error.sqlstate.as_deref(), Some("58P01"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        });
    });
}

#[test]
fn a_base_backup_comes_as_archives() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        let space = server.data_dir().parent().unwrap().join("space");
        fs::create_dir(&space).unwrap();
        server.local().account().own(&space).unwrap();
        server.sql(&format!("CREATE TABLESPACE s LOCATION '{}'", space.display()));
        server.sql("CREATE TABLE t TABLESPACE s AS SELECT g FROM generate_series(1, 10000) g");
        run(async {
            let mut connection = replicate(&server).await;
            let options = BaseBackupOptions { label: "it's".into(), fast: true, ..BaseBackupOptions::default() };
            let mut backup = connection.base_backup(&options).await.unwrap();
            let (start, announced) = (backup.start, backup.bytes());
            let (mut archives, mut bytes) = (Vec::new(), Vec::new());
            let end = loop {
                match backup.next().await.unwrap() {
                    BackupEvent::Archive(archive) => {
                        archives.push(archive);
                        bytes.push(Vec::new());
                    }
                    BackupEvent::Data(data) => bytes.last_mut().unwrap().extend_from_slice(data),
                    BackupEvent::End(end) => break end,
                }
            };
            assert!(start.lsn < end.lsn && start.timeline == 1, "{start:?} {end:?}");
            assert_eq!(archives.len(), 2);
            let (at, other) = if archives[0].oid.is_none() { (0, 1) } else { (1, 0) };
            assert_eq!(archives[other].location.as_deref(), space.to_str());
            for archive in &bytes {
                assert!(archive.len() % 512 == 0 && archive.len() > 100_000);
            }
            assert!(bytes[at].windows(12).any(|window| window == b"backup_label"));
            assert!(announced > 1 << 20);
            assert_eq!(connection.identify().await.unwrap().timeline, 1);
            if major >= 17 {
                server.expect_log("could not parse backup manifest");
                let error = connection.upload_manifest(&mut b"{}".as_slice()).await.unwrap_err();
                assert_ne!(error.kind, AskErrorKind::Closed, "{error}");
            }
        });
    });
}
