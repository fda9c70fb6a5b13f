use crate::rule::{Check, Look, Need, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "wait.profile",
    title: "sessions wait for something they did not wait for before",
    inspects: "sampled wait events of active sessions against the same hour of earlier days",
    why: "A wait event says what a session stands still for. A change of the mix (locks of the lock table, SLRU buffers, I/O) is \
          often the first sign of a new bottleneck, long before it is an outage.",
    remedy: "Look at the event that grew: each names one resource, and the statements that wait for it name the cause.",
    source: "pganalyze wait event profile; threefold is surus' own limit",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::warn_above("growth", "times", 3.0)],
    look: Look::Later(|| {
        Reason::History(
            "wait events have to be sampled over days to know what is usual; nothing has sampled them".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
