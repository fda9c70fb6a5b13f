//! Ways that lead to a server.

use crate::{connect, connect_in, nobody, refused};
use surus_core::code;
use surus_pg::{AskErrorKind, AuthMethod, Environment, Manners, Target};
use surus_testkit::{Certs, Cluster, Server, majors};

#[tokio::test]
async fn a_unix_socket_by_directory_uri_and_default() {
    let server = Server::start();
    let (directory, port) = (server.local().socket_dir().display().to_string(), server.local().port());
    let session = connect(&format!("host={directory} port={port} dbname=postgres")).await.unwrap();
    assert!(!session.encrypted() && !session.pooled() && !session.in_recovery());
    assert_eq!(session.auth_method(), AuthMethod::None);
    assert_eq!(session.version().major(), server.major());
    let rows = session.ask("SELECT pg_backend_pid() AS pid, current_user AS me").await.unwrap();
    let row = rows.first().unwrap();
    assert_eq!(row.i64("pid").unwrap(), i64::from(session.backend_pid().unwrap()));
    assert_eq!(row.str("me").unwrap(), "postgres");

    let encoded = directory.replace('/', "%2F");
    for uri in [
        format!("postgresql://postgres@{encoded}:{port}/postgres"),
        format!("postgres:///postgres?host={encoded}&port={port}"),
    ] {
        connect(&uri).await.unwrap();
    }
    // Without a host the default directories are looked into, the missing one first.
    let environment = nobody().with_socket_directories(["/nonexistent".into(), directory.clone().into()]);
    let session = connect_in(&format!("port={port}"), &environment).await.unwrap();
    assert!(session.address().to_string().starts_with(&directory));
}

#[tokio::test]
async fn manners_are_in_force() {
    let server = Server::start();
    let session = connect(&server.dsn("postgres")).await.unwrap();
    let sql = "SELECT current_setting('application_name') AS name, current_setting('statement_timeout') AS limit, \
         current_setting('lock_timeout') AS lock, current_setting('search_path') AS path";
    let rows = session.ask(sql).await.unwrap();
    let row = rows.first().unwrap();
    assert_eq!(row.str("name").unwrap(), "surus");
    assert_eq!((row.str("limit").unwrap(), row.str("lock").unwrap()), ("5s", "100ms"));
    assert_eq!(row.str("path").unwrap(), "pg_catalog");
    server.expect_log("cannot execute CREATE TABLE in a read-only transaction");
    assert!(session.run("CREATE TABLE public.t ()").await.is_err());
    session.close().await;
}

#[tokio::test]
async fn tcp_with_every_source_of_the_password() {
    let server = Server::builder().tcp().start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'it''s: a \\ secret'");
    let port = server.local().port();
    let bare = format!("host=127.0.0.1 port={port} user=anna dbname=postgres");

    let session = connect(&format!("{bare} password='it\\'s: a \\\\ secret'")).await.unwrap();
    assert_eq!(session.auth_method(), AuthMethod::Scram);
    connect(&format!("postgresql://anna:it's%3A%20a%20%5C%20secret@127.0.0.1:{port}/postgres")).await.unwrap();
    connect_in(&bare, &nobody().with("PGPASSWORD", "it's: a \\ secret")).await.unwrap();

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".pgpass");
    std::fs::write(&file, format!("127.0.0.1:{port}:postgres:anna:it's\\: a \\\\ secret\n")).unwrap();
    mode(&file, 0o600);
    connect_in(&bare, &nobody().with_home(home.path())).await.unwrap();
    connect_in(&bare, &nobody().with("PGPASSFILE", file.to_str().unwrap())).await.unwrap();

    let service = home.path().join("services");
    std::fs::write(&service, format!("[mine]\nhost=127.0.0.1\nport={port}\nuser=anna\ndbname=postgres\n")).unwrap();
    let environment = nobody().with("PGSERVICEFILE", service.to_str().unwrap()).with_home(home.path());
    connect_in("service=mine", &environment).await.unwrap();
    connect_in("", &environment.clone().with("PGSERVICE", "mine")).await.unwrap();

    mode(&file, 0o644);
    let target = Target::parse_in(&bare, &nobody().with_home(home.path())).unwrap();
    let error = target.connect(&Manners::looking()).await.unwrap_err();
    assert_eq!(error.code, code::CONNECT_NO_PASSWORD);
    assert!(error.message.contains(".pgpass is ignored") && !error.message.contains("secret"), "{error}");
}

fn mode(file: &std::path::Path, mode: u32) {
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn the_environment_gives_what_the_string_does_not() {
    let server = Server::builder().tcp().start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'p'");
    server.create_database("other");
    let environment = Environment::empty()
        .with("PGHOST", "127.0.0.1")
        .with("PGPORT", &server.local().port().to_string())
        .with("PGUSER", "anna")
        .with("PGPASSWORD", "p")
        .with("PGDATABASE", "other")
        .with("PGOPTIONS", "-c work_mem=3MB");
    let session = connect_in("", &environment).await.unwrap();
    let rows = session.ask("SELECT current_database() || ' ' || current_setting('work_mem') AS v").await.unwrap();
    assert_eq!(rows.first().unwrap().str("v").unwrap(), "other 3MB");
    let session = connect_in("dbname=postgres options='-c work_mem=4MB'", &environment).await.unwrap();
    let rows = session.ask("SELECT current_database() || ' ' || current_setting('work_mem') AS v").await.unwrap();
    assert_eq!(rows.first().unwrap().str("v").unwrap(), "postgres 4MB");
}

#[tokio::test]
async fn several_hosts_until_one_answers_and_is_of_the_wanted_kind() {
    let cluster = Cluster::with_standbys(1);
    cluster.wait_caught_up();
    let place = |server: &Server| (server.local().socket_dir().display().to_string(), server.local().port());
    let ((primary, primary_port), (standby, standby_port)) = (place(&cluster.primary), place(&cluster.standbys[0]));
    let hosts = format!("user=postgres host=/nonexistent,{standby},{primary} port=1,{standby_port},{primary_port}");
    for (wanted, in_recovery) in [
        ("any", true),
        ("read-write", false),
        ("primary", false),
        ("read-only", true),
        ("standby", true),
        ("prefer-standby", true),
    ] {
        let session = connect(&format!("{hosts} target_session_attrs={wanted}")).await.unwrap();
        assert_eq!(session.in_recovery(), in_recovery, "{wanted}");
    }
    let alone = format!("user=postgres host={primary} port={primary_port}");
    assert!(!connect(&format!("{alone} target_session_attrs=prefer-standby")).await.unwrap().in_recovery());
    let error = refused(&format!("{alone} target_session_attrs=standby")).await;
    assert_eq!(error.code, code::CONNECT_SESSION_ATTRS);
    let error = refused(&format!("{hosts} target_session_attrs=primary hostaddr=''").replace(&primary, "/gone")).await;
    assert_eq!(error.code, code::CONNECT_SESSION_ATTRS, "{error}");
    assert!(error.message.contains("/nonexistent") && error.message.contains("is a standby"), "{error}");

    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let both = format!("user=postgres host={standby},{primary} port={standby_port},{primary_port}");
        seen.insert(connect(&format!("{both} load_balance_hosts=random")).await.unwrap().in_recovery());
    }
    assert_eq!(seen.len(), 2, "40 draws from two hosts");
}

#[tokio::test]
async fn a_session_says_why_it_ended() {
    let server = Server::start();
    let session = connect(&server.dsn("postgres")).await.unwrap();
    server.sql(&format!("SELECT pg_terminate_backend({}, 5000)", session.backend_pid().unwrap()));
    let error = session.ask("SELECT 1").await.unwrap_err();
    assert_eq!(error.kind, AskErrorKind::Closed);
    assert_eq!(error.sqlstate.as_deref(), Some("57P01"), "{error}");
    assert!(!session.is_open());
}

#[tokio::test]
async fn a_dropped_or_closed_session_leaves_the_server() {
    let server = Server::start();
    let sessions =
        "SELECT count(*) AS v FROM pg_stat_activity WHERE application_name = 'surus' AND pid <> pg_backend_pid()";
    let session = connect(&server.dsn("postgres")).await.unwrap();
    assert_eq!(server.value(sessions), "1");
    session.close().await;
    drop(connect(&server.dsn("postgres")).await.unwrap());
    for _ in 0..100 {
        if server.value(sessions) == "0" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the sessions are still there");
}

#[tokio::test]
async fn requirepeer_looks_at_the_servers_user() {
    let server = Server::start();
    let owner = std::fs::metadata(server.data_dir()).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta)).unwrap();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let name = accounts.lines().find(|line| line.split(':').nth(2) == Some(&owner.to_string())).unwrap();
    let name = name.split(':').next().unwrap();
    let dsn = server.dsn("postgres");
    connect(&format!("{dsn} requirepeer={name}")).await.unwrap();
    let error = refused(&format!("{dsn} requirepeer=somebody")).await;
    assert!(error.message.contains("requirepeer") && error.message.contains(name), "{error}");
}

#[tokio::test]
async fn require_auth_keeps_the_password_at_home() {
    let server = Server::builder()
        .tcp()
        .setting("password_encryption", "md5")
        .hba("host all anna 127.0.0.1/32 password\nhost all bert 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 trust")
        .start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'p'; CREATE ROLE bert LOGIN PASSWORD 'p'");
    let port = server.local().port();
    let cases = [
        ("anna", "password", AuthMethod::Password, "!password"),
        ("bert", "md5", AuthMethod::Md5, "scram-sha-256,none"),
        ("postgres", "none", AuthMethod::None, "!none"),
    ];
    for (user, good, method, bad) in cases {
        let dsn = format!("host=127.0.0.1 port={port} user={user} password=p dbname=postgres");
        assert_eq!(connect(&format!("{dsn} require_auth={good}")).await.unwrap().auth_method(), method);
        let error = refused(&format!("{dsn} require_auth={bad}")).await;
        assert_eq!(error.code, code::CONNECT_AUTH_METHOD, "{error}");
    }
}

#[tokio::test]
async fn every_major_lets_us_in_by_scram_and_md5() {
    let certs = Certs::new();
    for major in majors() {
        let hba = "host all anna 127.0.0.1/32 scram-sha-256\nhost all bert 127.0.0.1/32 md5";
        let server = Server::builder().major(major).tls(&certs).hba(hba).start();
        server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE anna LOGIN PASSWORD 'p'");
        server.sql("SET password_encryption = 'md5'; CREATE ROLE bert LOGIN PASSWORD 'p'");
        for (user, method) in [("anna", AuthMethod::Scram), ("bert", AuthMethod::Md5)] {
            for mode in ["disable", "require"] {
                let port = server.local().port();
                let dsn = format!("host=127.0.0.1 port={port} user={user} password=p dbname=postgres sslmode={mode}");
                let session = connect(&dsn).await.unwrap();
                assert_eq!((session.version().major(), session.auth_method()), (major, method));
                assert_eq!(session.encrypted(), mode == "require");
                assert!(!session.pooled());
            }
        }
    }
}
