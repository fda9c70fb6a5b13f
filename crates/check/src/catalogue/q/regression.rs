use crate::rule::{Check, Look, Need, RunsOn, Scope, Threshold};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "q.regression",
    title: "a statement has become slower than it was",
    inspects: "pg_stat_statements over time: a statement's mean against its own earlier mean",
    why: "A new plan, a grown table or a changed release can make a statement many times slower from one day to the next. Its mean \
          since the last reset hides that for weeks.",
    remedy: "Compare the plans before and after; ANALYZE the tables; look at what was deployed when it changed.",
    source: "pganalyze; twice and five times its own baseline",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    thresholds: &[Threshold::above("growth", "times", 2.0, 5.0)],
    look: Look::Later(|| {
        Reason::History("a statement's earlier times have to be kept to compare with; nothing has kept them".into())
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
