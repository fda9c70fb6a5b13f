use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "bkp.restore_test",
    title: "no restore was tested lately",
    inspects: "the record of restores that were carried out and verified",
    why: "A backup that was never restored is a hope. Missing files, wrong passwords and forgotten settings show \
          up at the first restore, which had better not be the one in an emergency.",
    remedy: "surus prove restore restores the newest backup to a place of its own, starts it, and looks at all of it.",
    source: "pgEdge pg-healthcheck; 30 and 90 days are our own",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("age", "days", 30.0, 90.0)],
    look: Look::Later(|| {
        Reason::Repository(
            "restores that were drilled are in the ledger, which the checks do not read: readiness item 5 has them"
                .into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
