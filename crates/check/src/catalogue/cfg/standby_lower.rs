use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Interruption, Plan, Step},
};

pub static CHECK: Check = Check {
    id: "cfg.standby_lower",
    title: "a standby has a lower limit than its primary",
    inspects: "max_connections, max_worker_processes, max_wal_senders, max_prepared_transactions and \
               max_locks_per_transaction of the standby and of its primary, when both are targets of the run",
    why: "A standby must be able to track everything that its primary may do at once. With a lower limit it stops to replay \
          (14 and newer) or shuts down (13), and it does not start again, so there is nothing to fail over to.",
    remedy: "Raise the setting on the standby first and restart it, only then on the primary. To lower it, begin with the \
             primary.",
    source: "PostgreSQL documentation, chapter Hot Standby, section Administrator's Overview",
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

/// The settings that a standby compares with those in the primary's WAL.
pub(super) const BOUND: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

fn judge(scene: &Scene<'_>) -> Judged {
    let Some((primary, facts)) = scene.primary() else {
        let text = "the primary's settings are not known: give the primary as a target too".to_owned();
        return Ok(Verdict::unknown(Reason::Undeclared(text)));
    };
    let mut findings = Vec::new();
    for name in BOUND {
        let here = scene.number(name)?;
        let Some(there) = facts.settings.number(name) else {
            return Ok(Verdict::unknown(Reason::Privilege(format!("{name} is hidden on {primary}"))));
        };
        if here >= there {
            continue;
        }
        findings.push(
            Finding::crit(name, format!("{name} is {here:.0} here, but {there:.0} on the primary"))
                .detail("The standby pauses its replay or shuts down as soon as it meets the primary's value.")
                .saw("here", here)
                .saw(format!("on the primary {primary}"), there)
                .fix(Plan::one(
                    format!("raise {name} to the primary's value"),
                    Step::setting(
                        name,
                        format!("{there:.0}"),
                        "after a restart the standby can follow its primary again",
                    )
                    .interrupts(Interruption::Restart),
                )),
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
    fn sees_a_standby_with_less_than_its_primary() {
        seeded(&CHECK, |on| {
            // 13 shuts the standby down the moment it meets the primary's value.
            if on.major() < 14 {
                return;
            }
            let standby = on.server.standby();
            let (one, two) = (on.server.dsn("postgres"), standby.dsn("postgres"));
            let look = |on: &Stage| on.report_of_all(&[("primary", &one), ("standby", &two)]).remove(1);
            let same = look(on);
            assert_eq!((same.findings.len(), &same.ok[..]), (0, &["cfg.standby_lower"][..]));
            assert_eq!(on.report_of(&two).unknown[0].reason.kind(), "undeclared");
            on.configure(&[("max_connections", "40")]);
            let found = look(on).findings;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (found[0].key.as_str(), found[0].severity.word()),
                ("cfg.standby_lower:max_connections", "crit")
            );
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
        });
    }
}
