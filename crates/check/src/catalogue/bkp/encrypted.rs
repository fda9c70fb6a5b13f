use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, protection::Protection};

pub static CHECK: Check = Check {
    id: "bkp.encrypted",
    title: "the backup repository is not encrypted or can be read by others",
    inspects: "the backup repository: encryption, permissions of files and directories",
    why: "A backup is the whole database in one place, without PostgreSQL's access rules around it. Who can read \
          it has everything.",
    remedy: "Encrypt the repository, and let only the backup's own account read it.",
    source: "CIS PostgreSQL benchmark; pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Repository(judge),
};

fn judge(_: &Scene<'_>, protection: &Protection) -> Judged {
    let mut findings = Vec::new();
    if protection.open_to_others == Some(true) {
        let title = format!("every account of the machine can read {}", protection.repository);
        let plan = Plan::advice(format!("chmod o= {}", protection.repository));
        findings.push(Finding::warn("permissions", title).fix(plan));
    }
    if !protection.encrypted {
        let title = format!("the backups in {} are not encrypted", protection.repository);
        let plan = Plan::advice("a repository is encrypted from its beginning: make a new one with --repo-key file:…");
        let finding =
            if protection.off_site { Finding::warn("encryption", title) } else { Finding::info("encryption", title) };
        findings.push(finding.fix(plan));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn what_others_can_read_is_told() {
        with_repository(&CHECK, |look| {
            let mut protection = protection(&[(1, true)]);
            protection.open_to_others = Some(true);
            let found = look(&protection);
            let seen: Vec<_> = found.iter().map(|one| (one.key.as_str(), one.severity.word())).collect();
            assert_eq!(seen, [("bkp.encrypted:permissions", "warn"), ("bkp.encrypted:encryption", "info")]);
            protection.encrypted = true;
            protection.open_to_others = Some(false);
            assert_eq!(look(&protection), []);
        });
    }
}
