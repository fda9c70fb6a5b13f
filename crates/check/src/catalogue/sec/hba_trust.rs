use crate::{
    access::{self, Login, Verifier},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::hba::HbaRule;

pub static CHECK: Check = Check {
    id: "sec.hba_trust",
    title: "a rule of pg_hba.conf believes whoever connects, or uses a weak method",
    inspects: "pg_hba_file_rules: methods trust, password, ident and md5; unix_socket_permissions; pg_authid",
    why: "trust lets everybody in as any role they name, superusers included. password sends the password readable over the \
          network, ident believes the other machine, and md5 can be computed from a stolen hash.",
    remedy: "Ask for scram-sha-256, and for peer on Unix sockets. Give every role that comes by the rule a password first.",
    source: "CIS PostgreSQL Benchmark (pgdsat); pgEdge pg-healthcheck; thresholds: trust from other machines is critical",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Hba],
    thresholds: &[],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let logins = access::logins(scene, access).await?;
        judge(scene, &logins)
    })
}

fn judge(scene: &Scene<'_>, logins: &[Login]) -> Judged {
    let rules = access::rules(scene)?;
    Ok(Verdict::of(rules.into_iter().filter_map(|rule| weak(scene, rule, logins)).collect()))
}

fn weak(scene: &Scene<'_>, rule: &HbaRule, logins: &[Login]) -> Option<Finding> {
    let (line, text, local) = (rule.line, access::shown(rule), rule.is_local());
    let finding = match rule.method.as_str() {
        "trust" if !local => {
            Finding::crit(text.as_str(), format!("line {line} of pg_hba.conf lets other machines in without a password"))
                .detail(format!("Whoever reaches the server from {} may be any role that the rule names.", from(rule)))
                .fix(to_scram(scene, rule, logins))
        }
        "trust" if rule.kind == "local" && !access::sockets_open_to_all(scene.settings()) => return None,
        "trust" => {
            Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf lets every account of this machine in without a password"))
                .detail("Any program on the host, a broken web application for example, may become any role the rule names.")
                .fix(Plan::advice(format!(
                    "line {line}: peer on the Unix socket (map other account names in pg_ident.conf) or scram-sha-256, once every \
                     role that connects this way has a password"
                )))
        }
        "password" if !local => {
            Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf has clients send their password itself"))
                .detail("The server, and without TLS everybody on the way, reads the password in clear text.")
                .fix(to_scram(scene, rule, logins))
        }
        "ident" if !local => Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf believes the other machine's ident service"))
            .detail("Whoever controls the other machine, or its address, names the role that he likes.")
            .fix(to_scram(scene, rule, logins)),
        "md5" if !local => Finding::warn(text.as_str(), format!("line {line} of pg_hba.conf still accepts MD5 passwords from other machines"))
            .detail("An MD5 hash is as good as the password to whoever steals it, and is guessed quickly.")
            .fix(to_scram(scene, rule, logins)),
        _ => return None,
    };
    let listen = scene.settings().text("listen_addresses").unwrap_or_default().to_owned();
    Some(finding.saw("rule", text).saw("line", line).saw("setting listen_addresses", listen))
}

fn from(rule: &HbaRule) -> String {
    match (rule.address.as_deref(), rule.prefix_bits()) {
        (Some(address), Some(bits)) => format!("{address}/{bits}"),
        (Some("all"), _) | (None, _) => "anywhere".to_owned(),
        (Some(address), None) => address.to_owned(),
    }
}

/// Applicable only when nobody who comes by the rule today is shut out by it.
fn to_scram(scene: &Scene<'_>, rule: &HbaRule, logins: &[Login]) -> Plan {
    let shut_out = |login: &&Login| {
        login.meets(rule)
            && login.verifier != Verifier::Scram
            // The superuser of a fresh cluster has no password and needs none: he comes through the socket.
            && (!login.superuser || login.remote_sessions > 0)
    };
    let names: Vec<&str> = logins.iter().filter(shut_out).map(|login| login.name.as_str()).collect();
    if names.is_empty() {
        let effect =
            "clients that come by this line are asked for their password; superusers without one are refused there";
        return access::change_method(scene.settings(), rule, "scram-sha-256", effect);
    }
    let shown = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
    let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
    Plan::advice(format!(
        "give {shown}{more} a SCRAM password (\\password in psql with password_encryption = scram-sha-256), then let line {} of \
         pg_hba.conf say scram-sha-256 and SELECT pg_reload_conf()",
        rule.line
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_trust_near_and_far_and_weak_methods() {
        let hba = "local all all trust\nhost all app 10.0.0.0/8 trust\nhost all all 127.0.0.1/32 trust\n\
                   host all bare 192.0.2.0/24 md5\nhost all all 198.51.100.0/24 scram-sha-256\nhost all all all reject";
        seeded_on(
            &CHECK,
            |builder| builder.setting("unix_socket_permissions", "0700").hba(hba),
            |on| {
                on.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE app LOGIN PASSWORD 'x1-long-enough'; CREATE ROLE bare LOGIN");
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
                assert_eq!(
                    seen,
                    [
                        ("crit", "host all app 10.0.0.0/8 trust"),
                        ("warn", "host all all 127.0.0.1/32 trust"),
                        ("warn", "host all bare 192.0.2.0/24 md5"),
                    ]
                );
                let applicable: Vec<_> = found.iter().map(|f| f.fix.as_ref().unwrap().is_applicable()).collect();
                assert_eq!(applicable, [true, false, false], "bare has no password: nothing is done for it");
            },
        );
    }

    #[test]
    fn an_open_socket_with_trust_is_a_warning() {
        seeded(&CHECK, |on| {
            let found = on.findings();
            assert!(found.iter().all(|f| f.severity.word() == "warn" && f.object.starts_with("local")), "{found:?}");
            assert!(found.iter().any(|f| f.key == "sec.hba_trust:local all all trust"));
        });
    }
}
