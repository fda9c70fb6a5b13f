use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, protection::Protection, size::Bytes};

pub static CHECK: Check = Check {
    id: "bkp.size_anomaly",
    title: "the last backup is much smaller or larger than usual",
    inspects: "the backup repository: the size of each backup against the median of the earlier ones",
    why: "A backup that is suddenly small has often missed something: a tablespace, a database, half of the files.",
    remedy: "Compare the list of files of the last two backups, and restore the last one for a test.",
    source: "check_pgactivity; 30 % around the median is our own",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("deviation", "% from the median", 30.0)],
    look: Look::Repository(judge),
};

/// Fewer earlier ones have no usual size.
const EARLIER: usize = 3;

fn judge(scene: &Scene<'_>, protection: &Protection) -> Judged {
    let mut sizes: Vec<u64> = protection.restorable().map(|one| one.size).collect();
    let Some(last) = sizes.pop().filter(|_| sizes.len() >= EARLIER) else {
        return Ok(Verdict::not_applicable("there are not enough backups yet to compare with"));
    };
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    let deviation = 100.0 * (last as f64 - median as f64) / (median as f64).max(1.0);
    let Some(severity) = scene.grade("deviation", deviation.abs()) else { return Ok(Verdict::ok()) };
    let (last, median) = (Bytes(last), Bytes(median));
    let title = format!("the cluster was {last} in the last backup, and {median} is usual");
    let plan = Plan::advice("compare the last two backups: surus backup info --repo … BACKUP --format json");
    Ok(Verdict::one(Finding::new(severity, "", title).measured("deviation", deviation, "%").fix(plan)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn a_sudden_change_of_size_is_told() {
        with_repository(&CHECK, |look| {
            let mut protection = protection(&[(90, true), (60, true), (30, true), (1, true)]);
            assert_eq!(look(&protection), []);
            protection.backups[3].size /= 2;
            assert_eq!(look(&protection).len(), 1);
        });
    }
}
