use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope},
    scene::Scene,
    verdict::Verdict,
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};
use surus_pg::quote;

pub static CHECK: Check = Check {
    id: "sec.md5",
    title: "passwords are stored as MD5 hashes",
    inspects: "pg_authid.rolpassword (its kind only), password_encryption",
    why: "Whoever sees an MD5 hash, in a backup for example, can log in with it without knowing the password, and billions of \
          guesses a second are cheap. PostgreSQL 18 calls it deprecated.",
    remedy: "Let password_encryption be scram-sha-256 and set each password again; the hash cannot be converted.",
    source: "CIS PostgreSQL Benchmark (pgdsat); PostgreSQL documentation, Password Authentication",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let mut findings = Vec::new();
        let setting = scene.setting("password_encryption")?;
        if matches!(setting.value.as_str(), "md5" | "on") {
            findings.push(
                Finding::warn("password_encryption", "new passwords are stored as MD5 hashes")
                    .detail("Each password that is set from now on adds another weak hash.")
                    .saw("setting password_encryption", setting.value.as_str())
                    .fix(Plan::one(
                        "store new passwords as SCRAM verifiers",
                        Step::setting(
                            "password_encryption",
                            "scram-sha-256",
                            "passwords set from now on are SCRAM; drivers older than 2018 or so may not speak it",
                        ),
                    )),
            );
        }
        if !scene.facts.role.superuser {
            return Ok(crate::access::with_hidden_verifiers(scene, Verdict::of(findings)));
        }
        let rows = access
            .session
            .ask("SELECT rolname AS name, rolcanlogin AS login FROM pg_authid WHERE rolpassword LIKE 'md5%' ORDER BY rolname")
            .await?;
        for row in rows.iter() {
            let name = quote::ident(row.str("name")?);
            findings.push(
                Finding::warn(name.as_str(), format!("the password of {name} is stored as an MD5 hash"))
                    .detail("The hash itself is enough to log in.")
                    .saw("may log in", row.bool("login")?)
                    .fix(Plan::advice(format!(
                        "\\password {name} in psql, with password_encryption = scram-sha-256; the old password may be kept"
                    ))),
            );
        }
        Ok(Verdict::of(findings))
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_md5_hashes_and_the_setting() {
        let scram = |builder: surus_testkit::Builder| builder.setting("password_encryption", "scram-sha-256");
        seeded_on(&CHECK, scram, |on| {
            on.sql(
                "SET password_encryption = 'scram-sha-256'; CREATE ROLE good LOGIN PASSWORD 'x1-long-enough'; \
                 SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD 'x1-long-enough'",
            );
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["sec.md5:old"]);
            on.configure(&[("password_encryption", "md5")]);
            let found = on.findings();
            assert_eq!(found.len(), 2);
            assert!(found.iter().any(|f| f.object == "password_encryption" && f.fix.as_ref().unwrap().is_applicable()));
        });
    }
}
