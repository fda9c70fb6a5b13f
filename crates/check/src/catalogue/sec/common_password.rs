use crate::{
    proving::passwords::{self, Account},
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::quote;

pub static CHECK: Check = Check {
    id: "sec.common_password",
    title: "a role's password is one that everybody tries first",
    inspects: "pg_authid: the stored verifiers of login roles, computed against about seventy common passwords and the role's name",
    why: "Such a password keeps nobody out: it is among the first guesses of every script that finds the port.",
    remedy: "Give the role a long random password and change it wherever it is used.",
    source: "the seeds' production checklist (strong passwords on all accounts); CIS PostgreSQL benchmark; RFC 5802 for the computation",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Superuser],
    thresholds: &[],
    look: Look::Custom(look),
};

const ACCOUNTS: &str = "SELECT rolname AS role, rolpassword AS stored, rolsuper AS super FROM pg_authid \
    WHERE rolcanlogin AND rolpassword IS NOT NULL AND (rolvaliduntil IS NULL OR rolvaliduntil > now()) ORDER BY 1";

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let rows = access.session.ask(ACCOUNTS).await?;
        let read = |row: surus_pg::Row<'_>| {
            Ok(Account { role: row.text("role")?, stored: row.text("stored")?, superuser: row.bool("super")? })
        };
        let accounts: Vec<Account> = rows.iter().map(read).collect::<Result<_, surus_pg::RowError>>()?;
        // Computing takes a core for a while; other looks must not wait for it.
        let (accounts, guessed) = match tokio::task::spawn_blocking(move || {
            let guessed = passwords::guess(&accounts);
            (accounts, guessed)
        })
        .await
        {
            Ok(done) => done,
            Err(error) => return Err(Reason::Unexpected(error.to_string()).into()),
        };
        judge(scene, &accounts, &guessed)
    })
}

fn judge(scene: &Scene<'_>, accounts: &[Account], guessed: &passwords::Guessed) -> Judged {
    let mut verdict = Verdict::ok();
    for account in accounts.iter().filter(|account| guessed.weak.contains(&account.role)) {
        let kind = if account.superuser { "superuser " } else { "role " };
        let role = quote::ident(&account.role);
        verdict.findings.push(
            Finding::crit(account.role.as_str(), format!("the password of {kind}{role} was guessed"))
                .detail("It is a common one or made of the role's own name; whoever reaches the port can log in.")
                .measured("passwords tried on all roles", guessed.tries, "tries")
                .fix(Plan::advice(format!(
                    "set a long random one with psql's \\password {role} (it is hashed before it is sent), then change it in the clients"
                ))),
        );
    }
    for role in &guessed.unreadable {
        verdict = verdict.but_unknown(role, Reason::Unexpected("its stored password has an unknown form".into()));
    }
    if !guessed.complete {
        verdict =
            verdict.but_unknown("", Reason::Timeout(format!("time for guessing was up after {} tries", guessed.tries)));
    }
    verdict.proof = passwords::proof(accounts, guessed, scene.cluster(), scene.target);
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_core::proof::Outcome;

    check_tests!(CHECK);

    #[test]
    fn guesses_a_common_password_and_no_other() {
        seeded(&CHECK, |on| {
            on.configure(&[("password_encryption", "scram-sha-256")]);
            on.sql("CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE shop LOGIN PASSWORD 'shop123'");
            on.sql("ALTER ROLE postgres PASSWORD 'Zn5-orchid-quartz-88'");
            on.options.only = ["sec.common_password", "sec.md5", "sec.no_password"].map(str::to_owned).to_vec();
            let report = on.report();
            let keys: Vec<_> = report.findings.iter().map(|finding| finding.key.as_str()).collect();
            assert_eq!(keys, ["sec.common_password:app", "sec.common_password:shop"]);
            assert_eq!(report.proofs.iter().map(|p| p.outcome).collect::<Vec<_>>(), [Outcome::Failed]);
            on.sql("DROP ROLE app; DROP ROLE shop");
            let report = on.report();
            assert!(report.findings.is_empty() && report.unknown.is_empty());
            assert_eq!(report.proofs.iter().map(|p| p.outcome).collect::<Vec<_>>(), [Outcome::Passed]);
        });
    }
}
