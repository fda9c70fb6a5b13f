use crate::{
    access::{self, Listens},
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::path::Path;
use surus_core::{
    finding::{Finding, Reason},
    plan::{Plan, Step},
};
use surus_pg::{RowError, Rows};

pub static CHECK: Check = Check {
    id: "sec.ssl",
    title: "connections from other machines are not, or badly, encrypted",
    inspects: "ssl, listen_addresses, ssl_min_protocol_version, pg_stat_ssl, pg_stat_gssapi",
    why: "Without TLS everybody on the way reads the data and may change it, and with weak methods the password too. TLS \
          before 1.2 is broken.",
    remedy: "Give the server a certificate, turn ssl on, let clients use sslmode=verify-full and let pg_hba.conf say hostssl.",
    source: "CIS PostgreSQL Benchmark (pgdsat); RFC 8996 deprecates TLS 1.0 and 1.1",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) AS sessions, array_agg(DISTINCT a.usename::text) AS roles, array_agg(DISTINCT host(a.client_addr)) AS hosts \
             FROM pg_stat_activity a JOIN pg_stat_ssl s ON s.pid = a.pid LEFT JOIN pg_stat_gssapi g ON g.pid = a.pid \
             WHERE NOT s.ssl AND g.encrypted IS NOT TRUE AND a.client_addr IS NOT NULL \
             AND NOT a.client_addr <<= '127.0.0.0/8' AND a.client_addr <> '::1'",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    if scene.on("ssl")? {
        findings.extend(old_protocol(&scene.setting("ssl_min_protocol_version")?.value));
    } else {
        findings.extend(off(access::listens(scene.settings()), has_certificate(scene)));
    }
    findings.extend(plaintext(rows)?);
    let role = &scene.facts.role;
    let verdict = Verdict::of(findings);
    if role.superuser || role.reads_stats {
        return Ok(verdict);
    }
    let why =
        format!("the role may not see other sessions: GRANT pg_monitor TO {}", surus_pg::quote::ident(&role.name));
    Ok(verdict.but_unknown("sessions that are not encrypted now", Reason::Privilege(why)))
}

/// Are certificate and key where the server would look for them? False when surus cannot see it.
fn has_certificate(scene: &Scene<'_>) -> bool {
    let Ok(data) = scene.data_directory() else { return false };
    let there = |name: &str| {
        let file = scene.settings().text(name).filter(|text| !text.is_empty());
        file.is_some_and(|file| data.join(Path::new(file)).is_file())
    };
    there("ssl_cert_file") && there("ssl_key_file")
}

fn off(listens: Listens, certificate: bool) -> Option<Finding> {
    if listens != Listens::Network {
        return None;
    }
    let plan = if certificate {
        let effect = "clients that ask for TLS get it; sessions that are open stay as they are";
        Plan::one("turn ssl on", Step::setting("ssl", "on", effect))
    } else {
        Plan::advice(
            "put a certificate and its key (ssl_cert_file, ssl_key_file, mode 0600) in place, then ALTER SYSTEM SET ssl = on and reload",
        )
    };
    Some(
        Finding::warn("ssl", "the server listens on the network without TLS")
            .detail("Passwords of weak methods, queries and rows cross the network readable.")
            .saw("setting ssl", "off")
            .saw("certificate in place", certificate)
            .fix(plan),
    )
}

fn old_protocol(least: &str) -> Option<Finding> {
    let old = matches!(least, "" | "TLSv1" | "TLSv1.1");
    old.then(|| {
        Finding::warn("ssl_min_protocol_version", "TLS versions before 1.2 are accepted")
            .detail("TLS 1.0 and 1.1 have known breaks; an attacker on the way can make both sides use them.")
            .saw("setting ssl_min_protocol_version", if least.is_empty() { "any" } else { least })
            .fix(Plan::one(
                "accept TLS 1.2 and newer only",
                Step::setting(
                    "ssl_min_protocol_version",
                    "TLSv1.2",
                    "clients that speak only TLS 1.0 or 1.1 are refused",
                ),
            ))
    })
}

fn plaintext(rows: &Rows) -> Result<Option<Finding>, RowError> {
    let row = rows.first()?;
    let sessions = row.i64("sessions")?;
    if sessions == 0 {
        return Ok(None);
    }
    let roles = row.list("roles")?.join(", ");
    Ok(Some(
        Finding::warn("sessions", format!("{sessions} sessions from other machines are not encrypted now"))
            .detail("What they send and receive can be read and changed on the way.")
            .measured("sessions", sessions, "sessions")
            .saw("roles", roles)
            .saw("from", row.list("hosts")?.join(", "))
            .fix(Plan::advice(
                "let these clients use sslmode=verify-full, then turn their host lines of pg_hba.conf into hostssl",
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::{CHECK, off, plaintext};
    use crate::{access::Listens, testing::*};
    use surus_pg::Rows;

    check_tests!(CHECK);

    #[test]
    fn sees_an_old_protocol() {
        let certs = surus_testkit::Certs::new();
        let build = |builder: surus_testkit::Builder| builder.tls(&certs).setting("ssl_min_protocol_version", "TLSv1");
        seeded_on(&CHECK, build, |on| {
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["sec.ssl:ssl_min_protocol_version"]);
            assert!(found[0].fix.as_ref().unwrap().is_applicable());
        });
    }

    /// A test server listens on loopback only, so that other machines are played by values.
    #[test]
    fn only_a_server_on_the_network_must_have_tls() {
        assert!(off(Listens::Sockets, false).is_none() && off(Listens::Loopback, true).is_none());
        assert!(off(Listens::Network, true).unwrap().fix.unwrap().is_applicable());
        assert!(!off(Listens::Network, false).unwrap().fix.unwrap().is_applicable());
    }

    #[test]
    fn names_who_is_not_encrypted() {
        let row = |n: &str| {
            let columns = ["sessions", "roles", "hosts"].map(str::to_owned).to_vec();
            Rows::new(columns, vec![vec![Some(n.into()), Some("{app}".into()), Some("{10.0.0.7}".into())]])
        };
        assert!(plaintext(&row("0")).unwrap().is_none());
        assert!(plaintext(&row("3")).unwrap().unwrap().title.starts_with("3 sessions"));
    }
}
