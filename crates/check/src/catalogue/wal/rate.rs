use crate::rule::{Check, Look, RunsOn, Scope};
use surus_core::finding::Reason;

pub static CHECK: Check = Check {
    id: "wal.rate",
    title: "the server writes far more WAL than it usually does at this hour",
    inspects: "the WAL position over time, against the same hour of earlier days",
    why: "A sudden flood of WAL fills the disk, slows down standbys and makes backups and restores longer. It is mostly one \
          job or one changed query.",
    remedy: "Look which statements write most WAL (wal_bytes in pg_stat_statements) and what was deployed before it began.",
    source: "pgEdge pg-healthcheck; a rolling same-hour baseline, because nights and days differ",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Later(|| {
        Reason::History(
            "what is usual at this hour takes samples of earlier days, and nothing has collected them".into(),
        )
    }),
};

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);
}
