use crate::rule::{Check, Look, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "pool.waiting",
    title: "clients wait for a connection of the pooler",
    inspects: "SHOW POOLS of PgBouncer: cl_waiting and maxwait",
    why: "A client that waits in the pooler is slow for its users although the database is idle; no view of the server shows it.",
    remedy: "Enlarge the pool if the server has room, else shorten the transactions.",
    source: "check_postgres pgb_pool; waits of one and five seconds",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("longest", "s", 1.0, 5.0)],
    look: Look::Later(|| {
        Reason::Statistics(
            "it takes the pooler's own statistics (SHOW POOLS), and this version does not read them".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
