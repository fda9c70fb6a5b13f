use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

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
    look: Look::Later(|| {
        Reason::Repository("sizes of backups are written in the backup repository, and surus knows of none".into())
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
