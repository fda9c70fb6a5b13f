use crate::rule::{Check, Look, RunsOn, Scope};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "bkp.repo_space",
    title: "the backup repository has no room for the next backup",
    inspects: "free space of the backup repository against the size of the next full backup and of the WAL until then",
    why: "A backup that fails for lack of room fails every night from then on, and WAL that cannot be archived \
          fills the server's own disk.",
    remedy: "Give the repository more room, or keep fewer backups.",
    source: "pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Later(|| {
        Reason::Repository("free space is a property of the backup repository, and surus knows of none".into())
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
