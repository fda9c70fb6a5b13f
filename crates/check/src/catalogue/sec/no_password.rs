use crate::{
    access::{self, Login, Verifier},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{hba::HbaRule, quote};

pub static CHECK: Check = Check {
    id: "sec.no_password",
    title: "a role that must give a password has none",
    inspects: "pg_authid against the rules of pg_hba.conf, in order",
    why: "Every rule that speaks of the role asks for a password, and there is none to compare with: it cannot log in. The usual \
          \"repair\" is a trust rule, which opens the door to everybody.",
    remedy: "Set a password with \\password in psql, or take LOGIN away from a role that is only a group.",
    source: "pgEdge pg-healthcheck; a warning and not critical, because PostgreSQL refuses such a role",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Hba, Need::Superuser],
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
    let mut findings = Vec::new();
    for login in logins.iter().filter(|login| login.verifier == Verifier::Nothing) {
        let mine: Vec<&HbaRule> =
            rules.iter().copied().filter(|rule| login.meets(rule) && access::admits(rule)).collect();
        let regex = rules.iter().any(|rule| rule.users.iter().any(|item| item.starts_with('/')));
        if mine.is_empty() || regex || !mine.iter().all(|rule| access::asks_password(rule)) {
            continue;
        }
        let name = quote::ident(&login.name);
        findings.push(
            Finding::warn(name.as_str(), format!("{name} may log in only with a password and has none"))
                .detail("It cannot log in at all now, and the next quick repair may be worse than a password.")
                .saw("first rule", access::shown(mine[0]))
                .fix(Plan::advice(format!(
                    "\\password {name} in psql, or ALTER ROLE {name} NOLOGIN if nobody logs in as it"
                ))),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_role_that_can_never_pass() {
        seeded_on(
            &CHECK,
            |builder| builder.hba("local all near peer\nhost all all 127.0.0.1/32 scram-sha-256"),
            |on| {
                on.sql("CREATE ROLE bare LOGIN; CREATE ROLE near LOGIN; CREATE ROLE team; CREATE ROLE good LOGIN PASSWORD 'x1-long-enough'");
                let found = on.findings();
                assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["sec.no_password:bare"]);
            },
        );
    }
}
