//! PgBouncer in between.

use crate::{connect, refused};
use std::{
    io::Read,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};
use surus_core::code;
use surus_pg::{
    Manners, Target,
    account::Account,
    trial::{Outcome, plaintext_refused},
};
use surus_testkit::{Certs, Server};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A PgBouncer before a server; it ends with the test.
struct Pooler {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    fn start(server: &Server, more: &str) -> Option<Self> {
        if !std::path::Path::new(PROGRAM).exists() {
            eprintln!("skipped: pooler: pgbouncer is not installed (sudo apt-get install pgbouncer)");
            return None;
        }
        let account = Account::unprivileged().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let local = server.local();
        let config = format!(
            "[databases]\npostgres = host={} port={} dbname=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {dir}/users\nadmin_users = boss\n{more}\n",
            local.socket_dir().display(),
            local.port(),
            dir = directory.path().display(),
        );
        std::fs::write(directory.path().join("pgbouncer.ini"), config).unwrap();
        std::fs::write(directory.path().join("users"), "\"anna\" \"right\"\n\"boss\" \"right\"\n").unwrap();
        for path in
            [directory.path().to_owned(), directory.path().join("pgbouncer.ini"), directory.path().join("users")]
        {
            std::os::unix::fs::chown(&path, Some(account.uid()), Some(account.gid())).unwrap();
        }
        let mut command: Command = account.command(PROGRAM.as_ref(), directory.path());
        let child = command
            .arg("-q")
            .arg(directory.path().join("pgbouncer.ini"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut pooler = Self { child, port, _directory: directory };
        for _ in 0..250 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(pooler);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = pooler.child.kill();
        let mut said = String::new();
        let _ = pooler.child.stderr.take().unwrap().read_to_string(&mut said);
        panic!("pgbouncer does not listen: {said}");
    }

    fn dsn(&self, options: &str) -> String {
        format!("host=127.0.0.1 port={} user=anna password=right dbname=postgres {options}", self.port)
    }
}

fn server() -> Server {
    let server = Server::start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
    server
}

#[tokio::test]
async fn a_pooler_is_seen_and_its_other_clients_are_left_alone() {
    for mode in ["session", "transaction"] {
        let server = server();
        let Some(pooler) = Pooler::start(&server, &format!("pool_mode = {mode}\ndefault_pool_size = 1")) else {
            return;
        };
        let session = connect(&pooler.dsn("")).await.unwrap();
        assert!(session.pooled(), "{mode}");
        assert_eq!(session.backend_pid(), None);
        assert_eq!(session.version().major(), server.major());
        let refusal = session.behave(&Manners::looking()).await.unwrap_err();
        assert!(refusal.message.contains("pooler"), "{refusal}");
        session.close().await;
        // The only server session behind the pooler has kept its own settings.
        let session = connect(&pooler.dsn("")).await.unwrap();
        let sql =
            "SELECT current_setting('default_transaction_read_only') || ' ' || current_setting('lock_timeout') AS v";
        let rows = session.ask(sql).await.unwrap();
        assert_eq!(rows.first().unwrap().str("v").unwrap(), "off 0", "{mode}");
    }
    let server = server();
    assert!(!connect(&server.dsn("postgres")).await.unwrap().pooled());
}

#[tokio::test]
async fn what_a_pooler_refuses() {
    let server = server();
    let Some(pooler) = Pooler::start(&server, "pool_mode = transaction\nmax_client_conn = 2") else { return };
    let cases = [
        ("user=boss dbname=pgbouncer", code::CONNECT_POOLER, "PgBouncer's own console"),
        ("options='-c geqo=off'", code::CONNECT_POOLER, "unsupported startup parameter"),
        ("dbname=gone", code::CONNECT_DATABASE, "no such database"),
        ("password=hunter2", code::CONNECT_PASSWORD, "authentication failed"),
        ("sslmode=require", code::CONNECT_NO_TLS, "does not offer TLS"),
    ];
    for (options, wanted, text) in cases {
        let error = refused(&pooler.dsn(options)).await;
        assert_eq!(error.code, wanted, "{options}: {error}");
        assert!(error.message.contains(text), "{options}: {error}");
    }
    let _held = (connect(&pooler.dsn("")).await.unwrap(), connect(&pooler.dsn("")).await.unwrap());
    assert_eq!(refused(&pooler.dsn("")).await.code, code::CONNECT_TOO_MANY);
}

#[tokio::test]
async fn a_pooler_whose_server_is_gone() {
    let mut server = server();
    let Some(pooler) = Pooler::start(&server, "query_wait_timeout = 1") else { return };
    server.local_mut().stop(surus_pg::server::Mode::Fast).unwrap();
    let error = refused(&pooler.dsn("")).await;
    assert_eq!(error.code, code::CONNECT_OTHER, "{error}");
    assert!(error.message.contains("query_wait_timeout") || error.message.contains("server"), "{error}");
}

#[tokio::test]
async fn a_pooler_that_wants_tls_refuses_plaintext() {
    let (server, certs) = (server(), Certs::new());
    let files = tempfile::tempdir().unwrap();
    for (name, text) in [("crt", certs.server_cert_pem()), ("key", certs.server_key_pem())] {
        std::fs::write(files.path().join(name), text).unwrap();
    }
    let account = Account::unprivileged().unwrap();
    for path in [files.path().to_owned(), files.path().join("key"), files.path().join("crt")] {
        std::os::unix::fs::chown(path, Some(account.uid()), Some(account.gid())).unwrap();
    }
    let directory = files.path().display();
    let tls = format!(
        "client_tls_sslmode = require\nclient_tls_cert_file = {directory}/crt\nclient_tls_key_file = {directory}/key"
    );
    let Some(pooler) = Pooler::start(&server, &tls) else { return };
    let root = certs.root_cert();
    let session = connect(&pooler.dsn(&format!("sslmode=verify-full sslrootcert={}", root.display()))).await.unwrap();
    assert!(session.encrypted() && session.pooled());
    let trial = plaintext_refused(&Target::parse_in(&pooler.dsn(""), &crate::nobody()).unwrap()).await;
    assert_eq!(trial.outcome, Outcome::Refused, "{trial:?}");
}
