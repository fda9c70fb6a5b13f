use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, protection::Protection};

pub static CHECK: Check = Check {
    id: "bkp.retention",
    title: "fewer backups are kept than the policy asks for",
    inspects: "the backup repository: the number of full backups and the oldest point in time that can be restored",
    why: "With one backup only, a damage that is noticed late is in the backup too, and a failed backup leaves \
          nothing.",
    remedy: "Keep at least two full backups, and WAL since the older one.",
    source: "pgEdge pg-healthcheck; two full backups as the least is our own",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_below("full", "full backups", 1.0)],
    look: Look::Repository(judge),
};

fn judge(scene: &Scene<'_>, protection: &Protection) -> Judged {
    let full = protection.restorable().filter(|one| one.full).count();
    let Some(severity) = scene.grade("full", full as f64) else { return Ok(Verdict::ok()) };
    let title = match full {
        0 => "no full backup can be restored".to_owned(),
        1 => "there is one full backup only".to_owned(),
        more => format!("there are {more} full backups only"),
    };
    let plan =
        Plan::advice("take another: surus backup run --repo … --full; keep at least two: surus backup expire --full 2");
    Ok(Verdict::one(Finding::new(severity, "", title).measured("full backups", full as f64, "").fix(plan)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn one_full_backup_is_too_few() {
        with_repository(&CHECK, |look| {
            assert_eq!(look(&protection(&[(30, true), (1, false)])).len(), 1);
            assert_eq!(look(&protection(&[(30, true), (1, true)])), []);
        });
    }
}
