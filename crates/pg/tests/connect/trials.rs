//! Trials against real servers, and stored passwords of real servers.

use crate::nobody;
use surus_core::code;
use surus_pg::{
    Target, Verification,
    trial::{Outcome, VerifyFull, plaintext_refused, verify_full},
    verifier::Verifier,
};
use surus_testkit::{Certs, Server, each_major};

fn target(server: &Server, options: &str) -> Target {
    let port = server.local().port();
    let dsn = format!("host=localhost hostaddr=127.0.0.1 port={port} user=anna password=p dbname=postgres {options}");
    Target::parse_in(&dsn, &nobody()).unwrap()
}

#[tokio::test]
async fn plaintext_is_refused_accepted_or_unknown() {
    let certs = Certs::new();
    let cases = [
        ("hostssl all all 127.0.0.1/32 scram-sha-256", Outcome::Refused, "no pg_hba.conf entry"),
        ("hostnossl all all 127.0.0.1/32 reject", Outcome::Refused, "rejects connection"),
        ("host all all 127.0.0.1/32 scram-sha-256", Outcome::Accepted, "asks for the password"),
        ("host all all 127.0.0.1/32 password", Outcome::Accepted, "asks for the password"),
        ("host all all 127.0.0.1/32 trust", Outcome::Accepted, "no password was asked for"),
        ("host all all 127.0.0.1/32 ident", Outcome::Accepted, "went on to authentication"),
    ];
    for (hba, outcome, text) in cases {
        let server = Server::builder().tls(&certs).hba(hba).start();
        server.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE anna LOGIN PASSWORD 'p'");
        for expected in ["no pg_hba.conf entry", "rejects connection", "Ident authentication failed"] {
            server.expect_log(expected);
        }
        let trial = plaintext_refused(&target(&server, "sslmode=verify-full sslrootcert=system")).await;
        assert_eq!(trial.outcome, outcome, "{hba}: {trial:?}");
        assert!(trial.how.contains(text), "{hba}: {trial:?}");
    }
    let server = Server::start();
    let trial = plaintext_refused(&Target::parse_in(&server.dsn("postgres"), &nobody()).unwrap()).await;
    assert_eq!(trial.outcome, Outcome::Unknown);
    let nowhere = Target::parse_in("host=127.0.0.1 port=1", &nobody()).unwrap();
    assert_eq!(plaintext_refused(&nowhere).await.outcome, Outcome::Unknown);
}

#[tokio::test]
async fn verify_full_holds_or_says_why_not() {
    let certs = Certs::new();
    let server = Server::builder().tls(&certs).hba("host all all 127.0.0.1/32 scram-sha-256").start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'p'");
    let root = format!("sslrootcert={}", certs.root_cert().display());
    let VerifyFull::Verified(info) = verify_full(&target(&server, &root)).await else { panic!("must hold") };
    assert_eq!(info.verification, Verification::ChainAndName);
    // The machine's own authorities have not issued it.
    let VerifyFull::Failed(error) = verify_full(&target(&server, "")).await else { panic!("must fail") };
    assert_eq!(error.code, code::CONNECT_CERTIFICATE);
    let wrong = VerifyFull::Unknown(String::new());
    let seen = verify_full(&target(&server, &format!("{root} password=wrong"))).await;
    server.expect_log("password authentication failed");
    assert_eq!(std::mem::discriminant(&seen), std::mem::discriminant(&wrong), "{seen:?}");

    let plain = Server::builder().tcp().start();
    plain.sql("CREATE ROLE anna LOGIN PASSWORD 'p'");
    let VerifyFull::Failed(error) = verify_full(&target(&plain, &root)).await else { panic!("must fail") };
    assert_eq!(error.code, code::CONNECT_NO_TLS);
}

#[test]
fn passwords_fit_what_the_server_stores() {
    each_major(|major| {
        let server = Server::builder().major(major).start();
        let passwords = ["postgres", "it's a \"secret\"", "pässword ﬁ Ⅸ", "\u{3000}wide", "\u{7}bell", "1"];
        for (method, scram) in [("scram-sha-256", true), ("md5", false)] {
            for password in passwords {
                let literal = surus_pg::quote::literal(password);
                server.sql(&format!(
                    "DROP ROLE IF EXISTS anna; SET password_encryption = '{method}'; CREATE ROLE anna PASSWORD {literal}"
                ));
                let stored = server.value("SELECT rolpassword AS v FROM pg_authid WHERE rolname = 'anna'");
                let verifier = Verifier::parse(&stored).unwrap();
                assert_eq!((verifier.is_scram(), verifier.iterations()), (scram, if scram { 4096 } else { 1 }));
                assert!(verifier.fits("anna", password), "{method} {password}");
                assert!(!verifier.fits("anna", &format!("{password}x")), "{method} {password}");
                assert_eq!(verifier.fits("bert", password), scram, "only MD5 depends on the role's name");
            }
        }
    });
}
