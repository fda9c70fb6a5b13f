//! Certificates of all sorts: what libpq accepts is accepted, and nothing more.

use crate::{connect, nobody, refused};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};
use surus_core::code;
use surus_pg::{Manners, Programs, Target, Verification};
use surus_testkit::{Certs, Server, require_major};
use tempfile::TempDir;

const HBA: &str = "host all all 127.0.0.1/32 scram-sha-256";

fn server(certs: &Certs, hba: &str) -> Server {
    let server = Server::builder().tls(certs).hba(hba).start();
    server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
    server
}

/// Puts another certificate and key into the server.
fn wear(server: &mut Server, certificate: &Path, key: &Path) {
    let local = server.local_mut();
    for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
        let text = std::fs::read_to_string(from).unwrap();
        local.write_private(&local.data_dir().join(to), &text).unwrap();
    }
    local.restart(Duration::from_secs(30)).unwrap();
}

fn dsn(server: &Server, options: &str) -> String {
    let port = server.local().port();
    format!("host=localhost hostaddr=127.0.0.1 port={port} user=anna password=right dbname=postgres {options}")
}

/// Runs openssl in a directory; `false` when it is not installed.
fn openssl(directory: &TempDir, lines: &[&str]) -> bool {
    for line in lines {
        let Ok(done) = Command::new("openssl").args(line.split(' ')).current_dir(directory).output() else {
            eprintln!("skipped: openssl is not installed");
            return false;
        };
        assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
    }
    true
}

/// The commands of PostgreSQL's documentation, 19.9.5 "Creating Certificates".
const SELF_SIGNED: &str = "req -new -x509 -days 365 -nodes -text -out self.crt -keyout self.key -subj /CN=localhost";
const WITH_ROOT: [&str; 4] = [
    "req -new -x509 -days 3650 -nodes -out root.crt -keyout root.key -subj /CN=root.yourdomain.com",
    "req -new -nodes -text -out server.csr -keyout server.key -subj /CN=localhost",
    "x509 -req -in server.csr -text -days 365 -CA root.crt -CAkey root.key -CAcreateserial -out server.crt",
    "req -new -x509 -days 365 -nodes -out other.crt -keyout other.key -subj /CN=root.yourdomain.com",
];

#[tokio::test]
async fn certificates_made_as_the_documentation_says() {
    let directory = tempfile::tempdir().unwrap();
    if !openssl(&directory, &[SELF_SIGNED]) || !openssl(&directory, &WITH_ROOT) {
        return;
    }
    let file = |name: &str| directory.path().join(name);
    let mut server = server(&Certs::new(), HBA);
    for (certificate, key, root) in [("self.crt", "self.key", "self.crt"), ("server.crt", "server.key", "root.crt")] {
        wear(&mut server, &file(certificate), &file(key));
        for version in ["TLSv1.2", "TLSv1.3"] {
            let options = format!("ssl_max_protocol_version={version} sslrootcert={}", file(root).display());
            let session = connect(&dsn(&server, &format!("{options} sslmode=verify-full"))).await.unwrap();
            let tls = session.tls().unwrap();
            assert_eq!((tls.protocol.as_str(), tls.verification), (version, Verification::ChainAndName));
            assert_eq!(tls.certificate.common_name.as_deref(), Some("localhost"));
            connect(&dsn(&server, &format!("ssl_max_protocol_version={version} sslmode=require"))).await.unwrap();

            let other = dsn(&server, &format!("{options} sslmode=verify-full")).replace("localhost", "elsewhere");
            let error = refused(&other).await;
            assert!(error.message.contains("it is for localhost, not for elsewhere"), "{certificate}: {error}");
            for wrong in ["other.crt", if root == "self.crt" { "root.crt" } else { "self.crt" }] {
                let options = format!("sslmode=verify-ca sslrootcert={}", file(wrong).display());
                assert_eq!(
                    refused(&dsn(&server, &options)).await.code,
                    code::CONNECT_CERTIFICATE,
                    "{certificate} {wrong}"
                );
            }
        }
    }
}

#[tokio::test]
async fn channel_binding_with_every_kind_of_signature() {
    let directory = tempfile::tempdir().unwrap();
    let kinds = [
        ("rsa-sha256", "-newkey rsa:2048 -sha256", "sha256WithRSAEncryption", true),
        ("rsa-sha384", "-newkey rsa:2048 -sha384", "sha384WithRSAEncryption", true),
        ("rsa-sha512", "-newkey rsa:2048 -sha512", "sha512WithRSAEncryption", true),
        ("rsa-sha1", "-newkey rsa:2048 -sha1", "sha1WithRSAEncryption", true),
        ("rsa-pss-384", "-newkey rsa:2048 -sha384 -sigopt rsa_padding_mode:pss", "rsassaPss", true),
        ("ec-sha256", "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -sha256", "ecdsa-with-SHA256", true),
        ("ec-sha384", "-newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha384", "ecdsa-with-SHA384", true),
        ("ed25519", "-newkey ed25519", "ED25519", false),
    ];
    let mut server = server(&Certs::new(), HBA);
    for (name, options, algorithm, bound) in kinds {
        let line =
            format!("req -new -x509 -days 9 -nodes {options} -out {name}.crt -keyout {name}.key -subj /CN=localhost");
        if !openssl(&directory, &[&line]) {
            return;
        }
        let file = |end: &str| directory.path().join(format!("{name}.{end}"));
        wear(&mut server, &file("crt"), &file("key"));
        let session = connect(&dsn(&server, "sslmode=require")).await.unwrap();
        assert_eq!(session.tls().unwrap().certificate.signature_algorithm, algorithm);
        assert_eq!(session.tls().unwrap().can_bind(), bound, "{name}");
        if bound {
            connect(&dsn(&server, "sslmode=require channel_binding=require")).await.unwrap();
        } else {
            let error = refused(&dsn(&server, "sslmode=require channel_binding=require")).await;
            assert_eq!(error.code, code::CONNECT_CHANNEL_BINDING, "{name}: {error}");
        }
        connect(&dsn(&server, "sslmode=require channel_binding=disable")).await.unwrap();
    }
}

#[tokio::test]
async fn client_certificates() {
    let (certs, strangers) = (Certs::new(), Certs::new());
    let server = server(&certs, "hostssl all all 127.0.0.1/32 cert");
    for expected in ["connection requires a valid client certificate", "certificate authentication failed"] {
        server.expect_log(expected);
    }
    let (anna, bert, stranger) = (certs.client("anna"), certs.client("bert"), strangers.client("anna"));
    let with = |cert: &Path, key: &Path| format!("sslmode=require sslcert={} sslkey={}", cert.display(), key.display());
    let session = connect(&dsn(&server, &with(&anna.cert, &anna.key))).await.unwrap();
    assert!(session.tls().unwrap().client_certificate);
    connect(&dsn(&server, &format!("{} sslcertmode=require", with(&anna.cert, &anna.key)))).await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let copy = |mode: u32| {
        let path = directory.path().join(format!("{mode:o}.key"));
        std::fs::copy(&anna.key, &path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let encrypted = directory.path().join("encrypted.key");
    std::fs::write(&encrypted, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
        .unwrap();
    std::fs::set_permissions(&encrypted, PermissionsExt::from_mode(0o600)).unwrap();
    let cases = [
        ("another role's", with(&bert.cert, &bert.key), "certificate authentication failed"),
        ("another authority's", with(&stranger.cert, &stranger.key), "TLS failed"),
        ("none", "sslmode=require".to_owned(), "client certificate"),
        ("switched off", format!("{} sslcertmode=disable", with(&anna.cert, &anna.key)), "client certificate"),
        ("wanted, not there", "sslmode=require sslcertmode=require".into(), "there is no client certificate"),
        ("open to others", with(&anna.cert, &copy(0o644)), "can be used by others (mode 0644)"),
        ("another's key", with(&anna.cert, &bert.key), "does not belong to the client certificate"),
        ("no key", with(&anna.cert, Path::new("/gone")), "/gone does not exist"),
        ("a directory", with(&anna.cert, directory.path()), "is not a plain file"),
        ("encrypted", with(&anna.cert, &encrypted), "is encrypted"),
        ("no certificate inside", with(&anna.key, &anna.key), "no certificate"),
        ("no key inside", with(&anna.cert, &anna.cert), "is not a private key"),
    ];
    for (what, options, text) in cases {
        let error = refused(&dsn(&server, &options)).await;
        assert_eq!(error.code, code::CONNECT_CLIENT_CERT, "{what}: {error}");
        assert!(error.message.contains(text), "{what}: {error}");
    }
    // A server that asks for none.
    let plain = Server::builder().tls(&certs).hba(HBA).setting("ssl_ca_file", "").start();
    plain.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
    let error = refused(&dsn(&plain, &format!("{} sslcertmode=require", with(&anna.cert, &anna.key)))).await;
    assert!(error.code == code::CONNECT_CLIENT_CERT && error.message.contains("did not ask"), "{error}");
}

#[tokio::test]
async fn tls_from_the_first_byte() {
    let certs = Certs::new();
    if let Some(major) = require_major(18) {
        let server = Server::builder().major(major).tls(&certs).hba(HBA).start();
        server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
        let session = connect(&dsn(&server, "sslmode=require sslnegotiation=direct")).await.unwrap();
        assert!(session.encrypted());
    }
    if let Some(major) = require_major(15) {
        let server = Server::builder().major(major).tls(&certs).hba(HBA).start();
        server.sql("CREATE ROLE anna LOGIN PASSWORD 'right'");
        server.expect_log("invalid length of startup packet");
        let error = refused(&dsn(&server, "sslmode=require sslnegotiation=direct")).await;
        assert_eq!(error.code, code::CONNECT_TLS, "{error}");
        assert!(error.message.contains("before PostgreSQL 17"), "{error}");
    }
}

/// An authority with a server certificate and a revocation list that may name it.
fn revocable(directory: &Path, revoked: bool) -> [PathBuf; 4] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "revoking CA");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(authority, key);
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(42_u64));
    let server_key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&server_key, &issuer).unwrap().pem();
    let entry = RevokedCertParams {
        serial_number: SerialNumber::from(if revoked { 42_u64 } else { 43 }),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2099, 1, 1),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![entry],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer).unwrap().pem().unwrap();
    [("root.crt", root), ("server.crt", certificate), ("server.key", server_key.serialize_pem()), ("root.crl", list)]
        .map(|(name, text)| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            path
        })
}

#[tokio::test]
async fn revocation_lists() {
    let mut server = server(&Certs::new(), HBA);
    for revoked in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let [root, certificate, key, list] = revocable(directory.path(), revoked);
        wear(&mut server, &certificate, &key);
        let trust = format!("sslmode=verify-full sslrootcert={}", root.display());
        connect(&dsn(&server, &trust)).await.unwrap();
        let lists = tempfile::tempdir().unwrap();
        std::fs::copy(&list, lists.path().join("0a1b2c3d.r0")).unwrap();
        for with_list in [format!("sslcrl={}", list.display()), format!("sslcrldir={}", lists.path().display())] {
            let options = dsn(&server, &format!("{trust} {with_list}"));
            if revoked {
                let error = refused(&options).await;
                assert_eq!(error.code, code::CONNECT_CERTIFICATE);
                assert!(error.message.contains("revoked"), "{error}");
            } else {
                connect(&options).await.unwrap();
            }
        }
    }
}

/// What `psql` of the distribution, with libpq and OpenSSL, makes of the same connection string: is the session
/// encrypted, or none if there is no session.
fn by_libpq(psql: &Path, dsn: &str) -> Option<bool> {
    let mut command = Command::new(psql);
    command.env_clear().env("HOME", "/nonexistent").arg(format!("{dsn} connect_timeout=10"));
    command.args(["-AtXc", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]);
    let output = command.output().unwrap();
    output.status.success().then(|| output.stdout.starts_with(b"t"))
}

#[tokio::test]
async fn libpq_judges_alike() {
    let with_tls = Programs::find_all().into_iter().filter(|programs| programs.library_path().is_none());
    let Some(psql) = with_tls.filter_map(|programs| programs.bin("psql").ok()).next() else {
        eprintln!("skipped: libpq_judges_alike: no psql of the distribution is here");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    if !openssl(&directory, &[SELF_SIGNED]) || !openssl(&directory, &WITH_ROOT) {
        return;
    }
    let file = |name: &str| directory.path().join(name);
    let (good, expired, elsewhere) = (Certs::new(), Certs::expired(), Certs::for_name("db.elsewhere.example"));
    for (certs, name) in [(&good, "good"), (&expired, "expired"), (&elsewhere, "elsewhere")] {
        std::fs::write(file(&format!("{name}.crt")), certs.server_cert_pem()).unwrap();
        std::fs::write(file(&format!("{name}.key")), certs.server_key_pem()).unwrap();
        std::fs::copy(certs.root_cert(), file(&format!("{name}-root.crt"))).unwrap();
    }
    let mut server = server(&good, HBA);
    let mut compared = 0;
    for (name, own_root) in [
        ("good", "good-root.crt"),
        ("expired", "expired-root.crt"),
        ("elsewhere", "elsewhere-root.crt"),
        ("self", "self.crt"),
        ("server", "root.crt"),
    ] {
        wear(&mut server, &file(&format!("{name}.crt")), &file(&format!("{name}.key")));
        let roots = [own_root, "other.crt", "gone.crt", &format!("{name}.crt")].map(&file);
        for root in roots {
            // Only verify-full looks at the name.
            for (mode, hosts) in [
                ("prefer", &["localhost"][..]),
                ("require", &["localhost"]),
                ("verify-ca", &["localhost"]),
                ("verify-full", &["localhost", "127.0.0.1", "db.elsewhere.example"]),
            ] {
                for host in hosts {
                    let options = dsn(&server, &format!("sslmode={mode} sslrootcert={}", root.display()));
                    let options = options.replace("host=localhost", &format!("host={host}"));
                    let target = Target::parse_in(&options, &nobody()).unwrap();
                    let ours = target.connect(&Manners::looking()).await.map(|session| session.encrypted());
                    let what = format!("{name}, sslmode={mode}, root {}, host {host}: {ours:?}", root.display());
                    assert_eq!(ours.ok(), by_libpq(&psql, &options), "{what}");
                    compared += 1;
                }
            }
        }
    }
    assert_eq!(compared, 5 * 4 * 6);
}
