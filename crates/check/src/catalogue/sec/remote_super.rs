use crate::{
    access::{self, Listens, Login},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
};
use surus_pg::{hba::HbaRule, quote};

pub static CHECK: Check = Check {
    id: "sec.remote_super",
    title: "a superuser may log in from another machine",
    inspects: "pg_hba_file_rules in order, superusers of pg_authid and whether they have a password, listen_addresses",
    why: "A superuser reads and writes every file of the server's account and runs programs as it. One leaked password is then \
          the whole machine, from anywhere that the rule admits.",
    remedy: "Reject superusers in the first host line of pg_hba.conf and administer through the Unix socket (peer) over SSH.",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
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
    let severity = match access::listens(scene.settings()) {
        Listens::Network => Severity::Crit,
        // Nobody can use it as long as the server does not listen; the next edit of one setting changes that.
        Listens::Sockets | Listens::Loopback => Severity::Warn,
    };
    let mut findings = Vec::new();
    for login in logins.iter().filter(|login| login.superuser) {
        let Some(rule) = open_door(&rules, login) else { continue };
        let (name, line) = (quote::ident(&login.name), rule.line);
        let detail = match severity {
            Severity::Crit => "Whoever gets hold of its credentials owns the server's account on the host.",
            _ => "The server listens only locally now (listen_addresses); when that changes, the door is open.",
        };
        let advice = format!(
            "put \"host all {name} all reject\" above line {line} of pg_hba.conf, then SELECT pg_reload_conf(); applications need a \
             role of their own without SUPERUSER"
        );
        findings.push(
            Finding::new(
                severity,
                name.as_str(),
                format!("the superuser {name} may log in from other machines (line {line} of pg_hba.conf)"),
            )
            .detail(detail)
            .saw("rule", access::shown(rule))
            .saw("sessions from other machines now", login.remote_sessions)
            .saw("setting listen_addresses", scene.settings().text("listen_addresses").unwrap_or_default())
            .fix(Plan::advice(advice)),
        );
    }
    let verdict = Verdict::of(findings);
    match rules.iter().find(|rule| !rule.is_local() && rule.users.iter().any(|item| item.starts_with('/'))) {
        None => Ok(verdict),
        Some(rule) => {
            let why = format!(
                "line {} of pg_hba.conf names users by a regular expression, which surus does not evaluate",
                rule.line
            );
            Ok(verdict.but_unknown("rules with regular expressions", Reason::Unexpected(why)))
        }
    }
}

/// The first rule by which the role gets in from elsewhere: not one that an earlier rule for it takes over entirely.
fn open_door<'a>(rules: &[&'a HbaRule], login: &Login) -> Option<&'a HbaRule> {
    let only_for_it = |rule: &HbaRule| HbaRule { users: vec![login.name.clone()], ..rule.clone() };
    let mine: Vec<&HbaRule> = rules.iter().copied().filter(|rule| login.meets(rule)).collect();
    mine.iter().enumerate().find_map(|(at, rule)| {
        let narrow = only_for_it(rule);
        let taken = mine[..at].iter().any(|earlier| access::covers(&only_for_it(earlier), &narrow));
        (!rule.is_local() && !taken && login.could_pass(rule)).then_some(*rule)
    })
}

#[cfg(test)]
mod tests {
    use super::{CHECK, open_door};
    use crate::{
        access::{Login, Verifier, rule},
        testing::*,
    };

    check_tests!(CHECK);

    fn superuser(verifier: Verifier) -> Login {
        let groups = vec!["dba".to_owned()];
        Login { name: "root".into(), superuser: true, verifier, expired: false, groups, remote_sessions: 0 }
    }

    #[test]
    fn rules_are_taken_in_order() {
        let door = |lines: &[&str], verifier| {
            let rules: Vec<_> = lines.iter().map(|line| rule(line)).collect();
            open_door(&rules.iter().collect::<Vec<_>>(), &superuser(verifier)).is_some()
        };
        let scram = "host all all 10.0.0.0/8 scram-sha-256";
        assert!(door(&[scram], Verifier::Scram));
        assert!(!door(&[scram], Verifier::Nothing), "without a password nobody passes");
        assert!(!door(&["host all root all reject", scram], Verifier::Scram));
        assert!(!door(&["host all +dba all reject", scram], Verifier::Scram));
        assert!(door(&["host all +staff all reject", scram], Verifier::Scram));
        assert!(door(&["host all root 10.1.0.0/16 reject", scram], Verifier::Scram), "the rest of 10.0.0.0/8 is open");
        assert!(door(&["host all all all trust"], Verifier::Nothing));
        assert!(!door(&["local all all trust", "host all all 127.0.0.1/32 trust"], Verifier::Scram));
    }

    #[test]
    fn sees_a_superuser_with_a_password() {
        seeded_on(
            &CHECK,
            |builder| builder.hba("local all all trust\nhost all all 10.0.0.0/8 scram-sha-256"),
            |on| {
                assert_eq!(on.findings(), [], "postgres has no password");
                on.sql("SET password_encryption = 'scram-sha-256'; CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'x1-long-enough'; CREATE ROLE app LOGIN PASSWORD 'x2-long-enough'");
                let found = on.findings();
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("sec.remote_super:boss", "warn"));
            },
        );
    }
}
