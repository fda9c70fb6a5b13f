use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.valid_until",
    title: "a password has expired, expires soon, or never does although others do",
    inspects: "pg_roles.rolvaliduntil of roles that may log in",
    why: "On the day a password expires, its application is refused; and an expired role that nobody removed still gets in where \
          no password is asked. Where some passwords expire, those that do not were usually forgotten.",
    remedy: "Rotate the password and set VALID UNTIL anew; drop or NOLOGIN roles that nobody uses.",
    source: "pgEdge pg-healthcheck; a week is time enough to rotate a password",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_below("left", "d", 7.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT rolname AS name, rolsuper AS superuser, isfinite(rolvaliduntil) AS finite, \
               CASE WHEN isfinite(rolvaliduntil) THEN extract(epoch FROM rolvaliduntil - now()) END AS left_s, \
               rolvaliduntil::text AS until FROM pg_roles WHERE rolcanlogin ORDER BY rolname",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    let mut endless = Vec::new();
    let mut any = false;
    for row in rows.iter() {
        let name = quote::ident(row.str("name")?);
        let Some(left) = row.opt_f64("left_s")? else {
            endless.push((name, row.bool("superuser")?));
            continue;
        };
        any = true;
        let until = row.text("until")?;
        let rotate = Plan::advice(format!("\\password {name}, then ALTER ROLE {name} VALID UNTIL '<a later day>'"));
        if left <= 0.0 {
            findings.push(
                Finding::info(name.as_str(), format!("the password of {name} expired {} ago", human_seconds(-left)))
                    .detail("Password methods refuse the role; peer, cert and trust still let it in.")
                    .saw("valid until", until)
                    .fix(Plan::advice(format!(
                        "ALTER ROLE {name} NOLOGIN if nobody uses it, else set a new password and VALID UNTIL"
                    ))),
            );
        } else if let Some(severity) = scene.grade("left", left / 86_400.0) {
            findings.push(
                Finding::new(
                    severity,
                    name.as_str(),
                    format!("the password of {name} expires in {}", human_seconds(left)),
                )
                .detail("From then on password methods refuse the role.")
                .saw("valid until", until)
                .measured("left", left / 86_400.0, "d")
                .fix(rotate),
            );
        }
    }
    // No rule about ageing is known where nobody has one; and the superuser is often exempt on purpose.
    for (name, _) in endless.iter().filter(|(_, superuser)| any && !superuser) {
        findings.push(
            Finding::info(name.as_str(), format!("the password of {name} never expires, while others do"))
                .detail("It was probably forgotten when expiry was introduced.")
                .saw("valid until", "not set")
                .fix(Plan::advice(format!(
                    "ALTER ROLE {name} VALID UNTIL '<a day>', or suppress this finding with the reason"
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
    fn sees_expired_expiring_and_forgotten() {
        seeded(&CHECK, |on| {
            on.sql("CREATE ROLE endless LOGIN; CREATE ROLE infinite LOGIN VALID UNTIL 'infinity'");
            assert_eq!(on.findings(), [], "no password expires here, so nobody was forgotten");
            on.sql(
                "DO $$ BEGIN EXECUTE format('CREATE ROLE soon LOGIN VALID UNTIL %L', now() + interval '3 days'); \
                 EXECUTE format('CREATE ROLE later LOGIN VALID UNTIL %L', now() + interval '90 days'); END $$; \
                 CREATE ROLE gone LOGIN VALID UNTIL '2020-01-01'",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
            assert_eq!(seen, [("warn", "soon"), ("info", "endless"), ("info", "gone"), ("info", "infinite")]);
        });
    }
}
