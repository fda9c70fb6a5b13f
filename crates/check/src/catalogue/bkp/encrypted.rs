use crate::rule::{Check, Look, RunsOn, Scope};
use surus_core::finding::Reason;

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
    look: Look::Later(|| {
        Reason::Repository(
            "encryption and permissions are properties of the backup repository, and surus knows of none".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
