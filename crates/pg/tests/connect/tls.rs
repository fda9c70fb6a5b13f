//! TLS as libpq's sslmode means it.

use crate::{connect, connect_in, nobody, refused};
use surus_core::code;
use surus_pg::{Session, Verification};
use surus_testkit::{Certs, Server};

fn server(certs: &Certs, hba: &str) -> Server {
    let server = Server::builder().tls(certs).hba(hba).start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'p'");
    server
}

fn dsn(server: &Server) -> String {
    format!("host=localhost hostaddr=127.0.0.1 port={} user=anna password=p dbname=postgres", server.local().port())
}

/// What the server itself says about the session.
async fn on_server(session: &Session) -> (bool, String) {
    let sql = "SELECT ssl, coalesce(version, '') AS version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let rows = session.ask(sql).await.unwrap();
    let row = rows.first().unwrap();
    (row.bool("ssl").unwrap(), row.str("version").unwrap().to_owned())
}

#[tokio::test]
async fn every_sslmode_with_a_server_that_takes_both() {
    let certs = Certs::new();
    let server = server(&certs, "host all all 127.0.0.1/32 scram-sha-256");
    let root = certs.root_cert().display().to_string();
    let cases = [
        ("disable", false, None),
        ("allow", false, None),
        ("prefer", true, Some(Verification::None)),
        ("require", true, Some(Verification::None)),
        ("verify-ca", true, Some(Verification::Chain)),
        ("verify-full", true, Some(Verification::ChainAndName)),
    ];
    for (mode, encrypted, verification) in cases {
        let trust = if mode.starts_with("verify") { format!("sslrootcert={root}") } else { String::new() };
        let session = connect(&format!("{} sslmode={mode} {trust}", dsn(&server))).await.unwrap();
        assert_eq!(session.encrypted(), encrypted, "{mode}");
        assert_eq!(session.tls().map(|tls| tls.verification), verification, "{mode}");
        let (on, version) = on_server(&session).await;
        assert_eq!((on, version.as_str()), (encrypted, if encrypted { "TLSv1.3" } else { "" }), "{mode}");
    }
    // A root certificate file that is there is used in weaker modes, too.
    let session = connect(&format!("{} sslmode=require sslrootcert={root}", dsn(&server))).await.unwrap();
    let tls = session.tls().unwrap();
    assert_eq!((tls.verification, tls.roots.as_deref()), (Verification::Chain, Some(root.as_str())));
    assert_eq!(tls.certificate.names, ["localhost", "127.0.0.1", "::1"]);
    assert_eq!(tls.certificate.issuer, "CN=surus test CA");
    assert_eq!(tls.certificate.signature_algorithm, "ecdsa-with-SHA256");
    assert!(tls.certificate.not_before < tls.certificate.not_after && tls.can_bind());
    let session = connect(&format!("{} ssl_max_protocol_version=TLSv1.2", dsn(&server))).await.unwrap();
    assert_eq!(session.tls().unwrap().protocol, "TLSv1.2");
    assert_eq!(on_server(&session).await.1, "TLSv1.2");
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".postgresql")).unwrap();
    std::fs::copy(certs.root_cert(), home.path().join(".postgresql/root.crt")).unwrap();
    let session = connect_in(&dsn(&server), &nobody().with_home(home.path())).await.unwrap();
    assert_eq!(session.tls().unwrap().verification, Verification::Chain);
}

#[tokio::test]
async fn certificates_that_must_not_be_accepted() {
    let (good, other) = (Certs::new(), Certs::new());
    let trust = |certs: &Certs, mode: &str| format!("sslmode={mode} sslrootcert={}", certs.root_cert().display());
    let good_server = server(&good, "host all all 127.0.0.1/32 scram-sha-256");
    let error = refused(&format!("{} {}", dsn(&good_server), trust(&other, "verify-ca"))).await;
    assert_eq!(error.code, code::CONNECT_CERTIFICATE);
    assert!(error.message.contains("no trusted authority"), "{error}");
    let error = refused(&format!("{} {}", dsn(&good_server), "sslmode=verify-full sslrootcert=/gone")).await;
    assert!(error.code == code::CONNECT_CERTIFICATE && error.message.contains("/gone does not exist"), "{error}");
    let error = refused(&format!("{} sslmode=verify-ca", dsn(&good_server))).await;
    assert!(error.code == code::CONNECT_CERTIFICATE && error.message.contains("sslrootcert=system"), "{error}");
    // With prefer, a certificate that cannot be trusted leads to plaintext, as with libpq.
    let session = connect(&format!("{} {}", dsn(&good_server), trust(&other, "prefer"))).await.unwrap();
    assert!(!session.encrypted());

    let expired = Certs::expired();
    let expired_server = server(&expired, "host all all 127.0.0.1/32 scram-sha-256");
    let error = refused(&format!("{} {}", dsn(&expired_server), trust(&expired, "verify-ca"))).await;
    assert!(error.code == code::CONNECT_CERTIFICATE && error.message.contains("has expired"), "{error}");
    let session = connect(&format!("{} sslmode=require", dsn(&expired_server))).await.unwrap();
    assert_eq!(session.tls().unwrap().certificate.not_after.to_string(), "2020-12-31T00:00:00Z");

    let elsewhere = Certs::for_name("db.elsewhere.example");
    let elsewhere_server = server(&elsewhere, "host all all 127.0.0.1/32 scram-sha-256");
    let error = refused(&format!("{} {}", dsn(&elsewhere_server), trust(&elsewhere, "verify-full"))).await;
    assert_eq!(error.code, code::CONNECT_CERTIFICATE);
    assert!(error.message.contains("it is for db.elsewhere.example, not for localhost"), "{error}");
    connect(&format!("{} {}", dsn(&elsewhere_server), trust(&elsewhere, "verify-ca"))).await.unwrap();
    let named = dsn(&elsewhere_server).replace("host=localhost", "host=db.elsewhere.example");
    connect(&format!("{named} {}", trust(&elsewhere, "verify-full"))).await.unwrap();
}
