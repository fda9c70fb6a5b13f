//! The harness itself: servers start, stop and go without leaving anything.

use std::{process::Command, time::Duration};
use surus_pg::{Manners, Programs, Target, server::Mode};
use surus_testkit::{Certs, Cluster, Server, each_major};

#[test]
fn every_major_starts_answers_and_goes() {
    each_major(|major| {
        let server = Server::builder().major(major).setting("wal_level", "logical").start();
        assert_eq!(server.value("SELECT current_setting('wal_level') AS v"), "logical");
    });
}

#[test]
fn every_major_has_tls_and_the_contrib_modules() {
    let certs = Certs::new();
    each_major(|major| {
        let loaded = "pg_stat_statements";
        let server = Server::builder().major(major).tls(&certs).setting("shared_preload_libraries", loaded).start();
        server.sql("CREATE EXTENSION pg_stat_statements; CREATE EXTENSION pgstattuple; CREATE EXTENSION amcheck");
        assert_eq!(server.value("SELECT calls > 0 AS v FROM pg_stat_statements LIMIT 1"), "t");
        // 13 still makes md5 verifiers by default.
        server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'it''s'");
        let root = certs.root_cert();
        let dsn = server.dsn_as("app", "it's", "postgres").replace("host=127.0.0.1", "host=localhost");
        let dsn = format!("{dsn} sslmode=verify-full sslrootcert={}", root.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = runtime.block_on(Target::parse(&dsn).unwrap().connect(&Manners::looking())).unwrap();
        assert!(session.encrypted());
    });
}

#[test]
fn standbys_stream_and_one_is_promoted() {
    let mut cluster = Cluster::with_standbys(2);
    cluster.primary.sql("CREATE TABLE t AS SELECT 1 AS id");
    cluster.wait_caught_up();
    for standby in &cluster.standbys {
        assert_eq!(standby.value("SELECT pg_is_in_recovery() AS v"), "t");
        assert_eq!(standby.value("SELECT id AS v FROM t"), "1");
    }
    let streaming = "SELECT string_agg(application_name || ' ' || slot_name, ', ' ORDER BY slot_name) AS v \
         FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid";
    assert_eq!(cluster.primary.value(streaming), "standby1 standby1, standby2 standby2");

    cluster.primary.local_mut().stop(Mode::Fast).unwrap();
    cluster.standbys[0].local().promote(Duration::from_secs(30)).unwrap();
    cluster.standbys[0].sql("INSERT INTO t VALUES (2)");
    assert_eq!(cluster.standbys[0].value("SELECT count(*) AS v FROM t"), "2");
}

#[test]
fn tls_is_on_with_the_given_certificates() {
    let certs = Certs::new();
    let server = Server::builder().tls(&certs).hba("hostssl all all 127.0.0.1/32 cert").start();
    assert_eq!(server.value("SELECT current_setting('ssl') AS v"), "on");
    let client = certs.client("postgres");
    // The fetched client programs are built without TLS, the distribution's with it.
    let with_tls = Programs::find_all().into_iter().filter(|programs| programs.library_path().is_none());
    let Some(psql_path) = with_tls.filter_map(|programs| programs.bin("psql").ok()).next() else {
        eprintln!("skipped: tls_is_on_with_the_given_certificates: no psql with TLS is here");
        return;
    };
    // libpq judges: the harness must not depend on surus's own TLS being right.
    let psql = |mode: &str, host: &str| {
        let conninfo = format!(
            "host={host} port={} user=postgres dbname=postgres sslmode={mode} sslrootcert={} sslcert={} sslkey={}",
            server.local().port(),
            certs.root_cert().display(),
            client.cert.display(),
            client.key.display(),
        );
        let mut psql = Command::new(&psql_path);
        psql.arg(conninfo).args(["-AtXc", "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]);
        let output = psql.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(psql("verify-full", "localhost").0, "t|/CN=postgres\n");
    server.expect_log("no pg_hba.conf entry");
    let (_, refused) = psql("disable", "127.0.0.1");
    assert!(refused.contains("no pg_hba.conf entry"), "{refused}");
}
