use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

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
    look: Look::Later(|| {
        Reason::Repository("which backups are kept is written in the backup repository, and surus knows of none".into())
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
