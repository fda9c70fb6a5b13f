use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "bkp.age",
    title: "the last good backup is too old",
    inspects: "the backup repository: when the last full and the last incremental backup ended",
    why: "Everything that happened since the last backup can only come back from WAL, and only if every piece of \
          that is there. The older the backup, the longer the restore and the likelier a gap.",
    remedy: "Run a backup now, and schedule one a day.",
    source: "check_pgactivity backup_age; pgEdge pg-healthcheck; 26 h leaves a daily backup two hours of room",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("age", "h", 26.0, 50.0)],
    look: Look::Later(|| {
        Reason::Repository(
            "when the last backup ended is written in the backup repository, and surus knows of none".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
