use crate::{
    rule::{Access, Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use jiff::Timestamp;
use surus_core::{
    clock,
    finding::{Finding, Reason},
    plan::{Interruption, Lock, Plan, Step},
};
use surus_pg::{Certificate, Verification};

pub static CHECK: Check = Check {
    id: "conn.tls_expiry",
    title: "the server's TLS certificate runs out, or is for another name",
    inspects: "the certificate that the server shows on our TLS connection, else the file of ssl_cert_file on its host",
    why: "From the day a certificate runs out, every client that verifies it is refused, all at the same moment. One for \
          another name makes people turn verification off, and then anybody can pose as the server.",
    remedy: "Renew the certificate, put it in place of the old one and reload; let the renewal run by itself (ACME, or the \
             organisation's own authority).",
    source: "pgEdge pg-healthcheck ssl certificate expiry; 30 and 7 days",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::below("left", "days", 30.0, 7.0)],
    look: Look::Custom(|scene, access| Box::pin(look(scene, access))),
};

/// A certificate and how it came to us.
struct Seen {
    certificate: Certificate,
    /// The host that we connected to by TLS; none when a file was read.
    host: Option<String>,
    verification: Verification,
}

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    let session = access.session;
    let of_file = || -> Result<Certificate, Reason> {
        let path = scene.data_directory()?.join(&scene.setting("ssl_cert_file")?.value);
        let text = std::fs::read(&path).map_err(|error| Reason::Host(format!("{}: {error}", path.display())))?;
        Certificate::from_pem(&text).map_err(|error| Reason::Host(format!("{}: {error}", path.display())))
    };
    let seen = match session.tls() {
        Some(tls) => Seen {
            certificate: tls.certificate.clone(),
            host: session.endpoint().name(),
            verification: tls.verification,
        },
        None if !scene.on("ssl")? => return Ok(Verdict::not_applicable("the server has no TLS (ssl is off)")),
        None => Seen { certificate: of_file()?, host: None, verification: Verification::None },
    };
    let now = clock::now();
    let mut findings: Vec<Finding> = dates(&scene.threshold("left"), &seen.certificate, now).into_iter().collect();
    if session.tls().is_some()
        && !session.pooled()
        && let Ok(on_disk) = of_file()
        && on_disk.not_after > seen.certificate.not_after
    {
        findings = vec![not_loaded(&seen.certificate, &on_disk)];
    }
    findings.extend(name(&seen));
    Ok(Verdict::of(findings))
}

/// What is wrong with the time in which it is valid.
fn dates(left: &Threshold, certificate: &Certificate, now: Timestamp) -> Option<Finding> {
    let days = |time: Timestamp| (time.as_second() - now.as_second()) as f64 / 86400.0;
    let (from, until) = (days(certificate.not_before), days(certificate.not_after));
    let (severity, title) = if from > 0.0 {
        (
            surus_core::finding::Severity::Crit,
            format!("the TLS certificate is not valid before {}", certificate.not_before),
        )
    } else {
        let title = match until {
            ..0.0 => format!("the TLS certificate ran out on {}", certificate.not_after),
            _ => format!("the TLS certificate runs out in {until:.0} days"),
        };
        (left.grade(until)?, title)
    };
    Some(
        Finding::new(severity, "dates", title)
            .detail("Clients that verify it (sslmode=verify-ca or verify-full) cannot connect outside of its dates.")
            .saw("valid until", certificate.not_after.to_string())
            .measured("left", until, "days")
            .saw("subject", certificate.subject.as_str())
            .saw("issuer", certificate.issuer.as_str())
            .fix(Plan::advice(
                "renew it, replace the files of ssl_cert_file and ssl_key_file, then SELECT pg_reload_conf(); sessions stay",
            )),
    )
}

/// The file was renewed, but the server still shows the old one.
fn not_loaded(shown: &Certificate, on_disk: &Certificate) -> Finding {
    let step = Step::sql("SELECT pg_reload_conf()", Lock::None, "new connections get the new certificate")
        .interrupts(Interruption::Reload)
        .no_undo("the old certificate is no longer there; nothing is lost")
        .takes(0.1);
    Finding::warn("dates", "the TLS certificate was renewed, but the server still shows the old one")
        .detail("Replacing the file is not enough; the server reads it when it is told to reload.")
        .saw("shown until", shown.not_after.to_string())
        .saw("file valid until", on_disk.not_after.to_string())
        .fix(Plan::one("let the server read its new certificate", step))
}

/// Is it for the host that we connected to? With verify-full it would have been refused.
fn name(seen: &Seen) -> Option<Finding> {
    let host = seen.host.as_deref()?;
    let certificate = &seen.certificate;
    if seen.verification == Verification::ChainAndName || certificate.names_host(host) {
        return None;
    }
    let names = match (&certificate.names[..], &certificate.common_name) {
        ([], Some(name)) => name.clone(),
        ([], None) => "no name".to_owned(),
        (names, _) => names.join(", "),
    };
    Some(
        Finding::info("name", format!("the TLS certificate is for {names}, not for {host}"))
            .detail("Clients that connect by this name cannot use sslmode=verify-full, the only mode that keeps impostors out.")
            .saw("connected to", host)
            .saw("names", names)
            .saw("issued by itself", certificate.self_signed)
            .fix(Plan::advice(format!(
                "have the certificate issued with {host} among its alternative names, or let clients connect by one of its names"
            ))),
    )
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_testkit::Certs;

    check_tests!(CHECK);

    fn by_tls(on: &Stage) -> String {
        on.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'a long one'");
        format!("{} sslmode=require", on.server.dsn_as("boss", "a long one", "postgres"))
    }

    #[test]
    fn sees_a_certificate_that_ran_out() {
        let certs = Certs::expired();
        seeded_on(
            &CHECK,
            |builder| builder.tls(&certs),
            |on| {
                for found in [on.findings(), on.report_of(&by_tls(on)).findings] {
                    assert_eq!(found.len(), 1, "{found:?}");
                    assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.tls_expiry:dates", "crit"));
                }
            },
        );
    }

    #[test]
    fn sees_one_that_soon_runs_out_and_one_for_another_name() {
        let (good, other) = (Certs::new(), Certs::for_name("db.example"));
        seeded_on(
            &CHECK,
            |builder| builder.tls(&good),
            |on| {
                let dsn = by_tls(on);
                assert_eq!(on.report_of(&dsn).ok, [CHECK.id]);
                on.limit("left", 1e9);
                let found = on.report_of(&dsn).findings;
                assert_eq!(
                    found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                    [("conn.tls_expiry:dates", "warn")]
                );
            },
        );
        seeded_on(
            &CHECK,
            |builder| builder.tls(&other),
            |on| {
                let found = on.report_of(&by_tls(on)).findings;
                assert_eq!(
                    found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                    [("conn.tls_expiry:name", "info")]
                );
            },
        );
    }

    #[test]
    fn sees_a_new_certificate_that_was_not_loaded() {
        let (old, new) = (Certs::expired(), Certs::new());
        seeded_on(
            &CHECK,
            |builder| builder.tls(&old),
            |on| {
                let dsn = by_tls(on);
                std::fs::write(on.server.data_dir().join("server.crt"), new.server_cert_pem()).unwrap();
                std::fs::write(on.server.data_dir().join("server.key"), new.server_key_pem()).unwrap();
                let found = on.report_of(&dsn).findings;
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.tls_expiry:dates", "warn"));
                assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
                on.reload(&[("work_mem", "5MB")]);
                assert_eq!(on.report_of(&dsn).findings, []);
            },
        );
    }
}
