//! Every way of not getting in, each with its own code.

use crate::{connect, connect_in, nobody, refused};
use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    thread,
    time::Duration,
};
use surus_core::code;
use surus_pg::{Manners, Target};
use surus_testkit::{Certs, Server};

/// A peer on loopback that answers each message it gets with the next of these texts, then hangs up. It serves as many
/// connections as come while the test runs.
fn peer(answers: &'static [&'static [u8]]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut request = [0; 4096];
                for answer in answers {
                    if stream.read(&mut request).is_err() || stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

fn at(port: u16, options: &str) -> String {
    format!("host=127.0.0.1 port={port} user=anna dbname=postgres {options}")
}

#[tokio::test]
async fn hosts_that_cannot_be_reached() {
    let error = refused("host=no-such-host.invalid user=anna").await;
    assert_eq!(error.code, code::CONNECT_RESOLVE);
    assert_eq!(error.host.as_deref(), Some("no-such-host.invalid:5432"));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = refused(&at(free, "")).await;
    assert_eq!(error.code, code::CONNECT_REFUSED);
    assert!(error.message.contains(&format!("127.0.0.1:{free}")), "{error}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display();
    let error = refused(&format!("host={path} port=5499")).await;
    assert_eq!(error.code, code::CONNECT_SOCKET);
    assert!(error.message.contains(&format!("{path}/.s.PGSQL.5499")), "{error}");
    drop(UnixListener::bind(directory.path().join(".s.PGSQL.5499")).unwrap());
    assert_eq!(refused(&format!("host={path} port=5499")).await.code, code::CONNECT_REFUSED);
    let long = format!("/{}", "x".repeat(120));
    assert_eq!(refused(&format!("host={long}")).await.code, code::CONNECT_SOCKET);
    let environment = nobody().with_socket_directories(["/nonexistent/a".into(), "/nonexistent/b".into()]);
    let error = connect_in("", &environment).await.unwrap_err();
    assert_eq!(error.code, code::CONNECT_SOCKET);
    assert!(error.message.contains("/nonexistent/a") && error.message.contains("/nonexistent/b"), "{error}");
}

#[tokio::test]
async fn a_peer_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for mode in ["disable", "prefer", "require sslnegotiation=direct"] {
        let error = refused(&at(port, &format!("connect_timeout=1 sslmode={mode}"))).await;
        assert_eq!(error.code, code::CONNECT_TIMEOUT, "{mode}: {error}");
        assert!(error.message.contains("within 1 s"), "{mode}: {error}");
    }
    let target = Target::parse_in(&at(port, ""), &nobody()).unwrap();
    assert_eq!(target.settings().connect_timeout, Some(Duration::from_secs(5)));
}

#[tokio::test]
async fn peers_that_are_not_postgres() {
    let http = peer(&[b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"]);
    let ssh = peer(&[b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"]);
    let strange = peer(&[b"\x4a\x00\x00\x00\x0a8.0.36\x00garbage"]);
    let silly_request = peer(&[b"N", b"R\x7f\x00\x00\x00\x00\x00\x00\x00"]);
    let silly_message = peer(&[b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x00X\x00\x00\x00\x00"]);
    for (port, text) in [
        (http, "an HTTP server answers"),
        (ssh, "an SSH server answers"),
        (strange, "J\\x00\\x00\\x00\\n8.0.36"),
        (silly_request, "R\\x7f"),
        (silly_message, "PostgreSQL's protocol"),
    ] {
        let error = refused(&at(port, "sslmode=prefer")).await;
        assert_eq!(error.code, code::CONNECT_NOT_POSTGRES, "{text}: {error}");
        assert!(error.message.contains(text), "{error}");
    }
    for port in [http, ssh, strange] {
        assert_eq!(refused(&at(port, "sslmode=disable")).await.code, code::CONNECT_NOT_POSTGRES);
        assert_eq!(refused(&at(port, "sslmode=verify-full")).await.code, code::CONNECT_NOT_POSTGRES);
    }
}

#[tokio::test]
async fn peers_that_hang_up_in_the_middle() {
    const SCRAM: &[u8] = b"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00";
    const LET_IN: &[u8] = b"R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x18server_version\x0015.1\x00";
    let cases: [(&str, u16); 7] = [
        ("at once", peer(&[])),
        ("after offering TLS", peer(&[b"S"])),
        ("after refusing TLS", peer(&[b"N"])),
        ("in a message", peer(&[b"N", b"R\x00\x00\x00"])),
        ("in the authentication", peer(&[b"N", SCRAM])),
        ("after letting in", peer(&[b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x00"])),
        ("in the parameters", peer(&[b"N", LET_IN])),
    ];
    for (what, port) in cases {
        let error = refused(&at(port, "password=hunter2")).await;
        assert_eq!(error.code, code::CONNECT_CLOSED, "{what}: {error}");
    }
    let error = refused(&at(peer(&[b"EError text of an impostor\0"]), "sslmode=require")).await;
    assert_eq!(error.code, code::CONNECT_TLS);
    assert!(!error.message.contains("impostor"), "{error}");
}

#[tokio::test]
async fn authentication_that_is_not_spoken() {
    let gss = peer(&[b"N", b"R\x00\x00\x00\x08\x00\x00\x00\x07"]);
    let oauth = peer(&[b"N", b"R\x00\x00\x00\x15\x00\x00\x00\x0aOAUTHBEARER\x00\x00"]);
    for port in [gss, oauth] {
        let error = refused(&at(port, "password=hunter2")).await;
        assert_eq!(error.code, code::CONNECT_AUTH_METHOD, "{error}");
    }
}

#[tokio::test]
async fn a_server_that_cannot_show_that_it_knows_the_password() {
    // The iteration count and salt are real, but the nonce is not the client's.
    let impostor = peer(&[
        b"N",
        b"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00",
        b"R\x00\x00\x00\x2b\x00\x00\x00\x0br=somebodyelse,s=c2FsdHNhbHQ=,i=4096\x00",
    ]);
    let error = refused(&at(impostor, "password=hunter2")).await;
    assert_eq!(error.code, code::CONNECT_OTHER, "{error}");
    assert!(error.message.contains("impostor") && !error.message.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn passwords() {
    let server = Server::builder().tcp().start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
    server.expect_log("password authentication failed");
    let port = server.local().port();
    let error = refused(&at(port, "password=hunter2")).await;
    assert_eq!(error.code, code::CONNECT_PASSWORD);
    assert_eq!(error.sqlstate.as_deref(), Some("28P01"));
    assert!(!error.message.contains("hunter2"), "{error}");
    assert_eq!(refused(&at(port, "")).await.code, code::CONNECT_NO_PASSWORD);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "*:*:*:*:hunter2\n").unwrap();
    std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
    let error = refused(&at(port, &format!("passfile={}", file.path().display()))).await;
    assert_eq!(error.code, code::CONNECT_PASSWORD);
    assert!(error.message.contains(&format!("the password came from {}", file.path().display())), "{error}");
    assert!(!error.message.contains("hunter2"), "{error}");
    // The server does not tell whether the role is there.
    assert_eq!(refused(&at(port, "user=nobody password=x")).await.code, code::CONNECT_PASSWORD);
    assert_eq!(refused(&at(port, "channel_binding=require password=right")).await.code, code::CONNECT_CHANNEL_BINDING);
}

#[tokio::test]
async fn roles_databases_and_entries() {
    let server = Server::builder()
        .tcp()
        .setting("max_connections", "12")
        .hba("host all stranger 127.0.0.1/32 reject\nhost all anna,nologin,nobody,limited 127.0.0.1/32 trust")
        .start();
    server.sql("CREATE ROLE anna LOGIN; CREATE ROLE nologin; CREATE ROLE limited LOGIN CONNECTION LIMIT 0");
    server.create_database("closed");
    server.create_database("private");
    server.sql("ALTER DATABASE closed ALLOW_CONNECTIONS false; REVOKE CONNECT ON DATABASE private FROM public");
    for text in [
        "pg_hba.conf",
        "does not exist",
        "not permitted to log in",
        "not currently accepting",
        "permission denied for database",
        "too many connections for role",
    ] {
        server.expect_log(text);
    }
    let port = server.local().port();
    let cases = [
        ("user=stranger", code::CONNECT_HBA, "28000"),
        ("user=unlisted", code::CONNECT_HBA, "28000"),
        ("user=nobody", code::CONNECT_ROLE, "28000"),
        ("user=nologin", code::CONNECT_ROLE, "28000"),
        ("user=limited", code::CONNECT_TOO_MANY, "53300"),
        ("dbname=gone", code::CONNECT_DATABASE, "3D000"),
        ("dbname=closed", code::CONNECT_OTHER, "55000"),
        ("dbname=private", code::CONNECT_OTHER, "42501"),
    ];
    for (options, wanted, sqlstate) in cases {
        let error = refused(&at(port, options)).await;
        assert_eq!(error.code, wanted, "{options}: {error}");
        assert_eq!(error.sqlstate.as_deref(), Some(sqlstate), "{options}");
        assert!(error.message.contains("the server says"), "{error}");
    }
    let target = Target::parse_in(&at(port, ""), &nobody()).unwrap();
    assert!(target.connect(&Manners::looking()).await.is_ok());
    let error = target.with_database("gone").connect(&Manners::looking()).await.unwrap_err();
    assert_eq!(error.code, code::CONNECT_DATABASE);
    let error = refused(&at(port, "options='-c no_such_setting=1'")).await;
    server.expect_log("unrecognized configuration parameter");
    assert_eq!(error.code, code::CONNECT_OTHER);
    assert!(error.message.contains("no_such_setting"), "{error}");
}

#[tokio::test]
async fn peer_authentication_for_somebody_else() {
    let server = Server::builder().hba("local all all peer").start();
    server.expect_log("eer authentication failed");
    server.sql("CREATE ROLE anna LOGIN");
    let error = refused(&format!("{} user=anna", server.dsn("postgres"))).await;
    assert_eq!(error.code, code::CONNECT_HBA, "{error}");
    assert!(error.message.contains("eer authentication failed"), "{error}");
}

#[tokio::test]
async fn no_slot_is_left() {
    let server = Server::builder().tcp().setting("max_connections", "6").hba("host all all 127.0.0.1/32 trust").start();
    server.sql("CREATE ROLE anna LOGIN");
    server.expect_log("remaining connection slots are reserved");
    let port = server.local().port();
    let mut held = Vec::new();
    let error = loop {
        match connect(&at(port, "")).await {
            Ok(session) => held.push(session),
            Err(error) => break error,
        }
        assert!(held.len() < 6);
    };
    assert_eq!(error.code, code::CONNECT_TOO_MANY, "{error}");
}

#[tokio::test]
async fn a_server_that_lets_nobody_in_yet() {
    let mut cluster = surus_testkit::Cluster::with_standbys(1);
    cluster.wait_caught_up();
    let standby = &mut cluster.standbys[0];
    standby.expect_log("not accepting connections");
    standby.expect_log("is starting up");
    let dsn = standby.dsn("postgres");
    // A standby without hot_standby replays, and never accepts a connection.
    let local = standby.local_mut();
    local.write_settings(&[("hot_standby", "off")]).unwrap();
    local.stop(surus_pg::server::Mode::Fast).unwrap();
    let started = local.start(Duration::from_secs(5));
    let error = refused(&dsn).await;
    assert_eq!(error.code, code::CONNECT_STARTING, "{error} (start: {started:?})");
    assert_eq!(error.sqlstate.as_deref(), Some("57P03"));
    // libpq goes on to the next host.
    let primary = &cluster.primary;
    let hosts = format!(
        "user=postgres dbname=postgres host={},{} port={},{}",
        cluster.standbys[0].local().socket_dir().display(),
        primary.local().socket_dir().display(),
        cluster.standbys[0].local().port(),
        primary.local().port()
    );
    assert!(!connect(&hosts).await.unwrap().in_recovery());
}

#[tokio::test]
async fn the_telling_one_of_two_refusals() {
    let certs = Certs::new();
    for hba in ["hostssl all all 127.0.0.1/32 scram-sha-256", "hostnossl all all 127.0.0.1/32 scram-sha-256"] {
        let server = Server::builder().tls(&certs).hba(hba).start();
        server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
        server.expect_log("password authentication failed");
        server.expect_log("no pg_hba.conf entry");
        let port = server.local().port();
        for mode in ["prefer", "allow"] {
            let error = refused(&at(port, &format!("sslmode={mode} password=wrong"))).await;
            assert_eq!(error.code, code::CONNECT_PASSWORD, "{hba} {mode}: {error}");
            let session = connect(&at(port, &format!("sslmode={mode} password=right"))).await.unwrap();
            assert_eq!(session.encrypted(), hba.starts_with("hostssl"), "{hba} {mode}");
        }
    }
}

#[test]
fn options_that_cannot_be() {
    let cases = [
        ("port=0", "port"),
        ("port=65536", "port"),
        ("port=x", "port"),
        ("port=1,2 host=a,b,c", "2 ports do not match 3 hosts"),
        ("host=a,b hostaddr=127.0.0.1", "do not match"),
        ("hostaddr=localhost", "hostaddr"),
        ("sslmode=full", "verify-full"),
        ("sslmode=require sslrootcert=system", "needs sslmode=verify-full"),
        ("sslnegotiation=direct", "needs sslmode=require"),
        ("sslnegotiation=maybe", "sslnegotiation"),
        ("ssl_max_protocol_version=TLSv1.1 ssl_min_protocol_version=TLSv1", "TLSv1.2 and TLSv1.3"),
        ("ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=TLSv1.2", "newer"),
        ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
        ("sslsni=yes", "sslsni"),
        ("sslcertmode=maybe", "sslcertmode"),
        ("channel_binding=always", "channel_binding"),
        ("target_session_attrs=master", "target_session_attrs"),
        ("load_balance_hosts=yes", "load_balance_hosts"),
        ("connect_timeout=soon", "connect_timeout"),
        ("keepalives_idle=-1", "keepalives_idle"),
        ("require_auth=scram", "require_auth"),
        ("require_auth=md5,!password", "require_auth"),
        ("gssencmode=require", "GSSAPI"),
        ("replication=database", "replication"),
        ("scram_client_key=AAAA", "scram_client_key"),
        ("min_protocol_version=3.2", "3.0"),
    ];
    for (dsn, text) in cases {
        let error = Target::parse_in(dsn, &nobody()).unwrap_err();
        assert_eq!(error.code, code::CONNECT_OPTION, "{dsn}: {error}");
        assert!(error.message.contains(text), "{dsn}: {error}");
    }
    for harmless in [
        "gssencmode=prefer krbsrvname=postgres gsslib=gssapi gssdelegation=0 sslcompression=0 client_encoding=auto",
        "keepalives=0 keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=1000",
        "connect_timeout=0 sslmode='' port='' ssl_min_protocol_version='' max_protocol_version=latest",
    ] {
        Target::parse_in(harmless, &nobody()).unwrap();
    }
    let error = Target::parse_in("service=gone", &nobody()).unwrap_err();
    assert_eq!(error.code, code::CONNECT_SERVICE);
    let error = Target::parse_in("user=''", &surus_pg::Environment::empty()).unwrap_err();
    assert_eq!(error.code, code::CONNECT_OPTION);
}

#[test]
fn a_label_names_the_target_and_never_the_password() {
    let cases = [
        ("postgresql://anna:hunter2@db.example/app", "anna@db.example:5432/app"),
        ("host=a,b port=1,2 user=u password=hunter2", "u@a:1,b:2/u"),
        ("postgresql://[::1]:7/x", "postgres@[::1]:7/x"),
        ("host=/tmp/s", "postgres@/tmp/s:5432/postgres"),
        ("dbname=d", "postgres@/var/run/postgresql:5432/d"),
        ("hostaddr=10.0.0.1", "postgres@10.0.0.1:5432/postgres"),
    ];
    for (dsn, label) in cases {
        let target = Target::parse_in(dsn, &nobody().with("PGPASSWORD", "hunter3")).unwrap();
        assert_eq!(target.label(), label, "{dsn}");
        assert!(!format!("{target:?}").contains("hunter"), "{dsn}");
        assert_eq!(target.with_database("other").database(), "other");
    }
}
