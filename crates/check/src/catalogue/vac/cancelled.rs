use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "vac.cancelled",
    title: "autovacuum of a table is cancelled again and again",
    inspects: "the server's log: canceling autovacuum task",
    why: "Autovacuum gives way when a session wants a lock that conflicts with it. A job that takes such locks every few minutes \
          keeps a table from ever being vacuumed.",
    remedy: "Take such locks less often, or vacuum the table by hand at a quiet hour: a manual VACUUM does not give way.",
    source: "pganalyze log insights: autovacuum cancel",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("cancelled", "per day", 3.0)],
    look: Look::Later(|| Reason::Log("only the server's log tells of it, and surus does not read logs yet".into())),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
