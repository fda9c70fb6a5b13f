//! The server's checkpoint counters, and how much WAL it should be allowed to collect between two checkpoints.

use crate::{rule::Sql, scene::Scene, wal_room};
use surus_core::{
    finding::Reason,
    plan::{Plan, Step},
};
use surus_pg::{RowError, Rows, settings::byte_text};

/// Fewer checkpoints than this say nothing about a habit.
const ENOUGH: f64 = 10.0;

/// Checkpoints since the statistics were reset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Checkpoints {
    /// Begun because checkpoint_timeout was over.
    pub timed: f64,
    /// Begun because max_wal_size was reached or somebody asked.
    pub requested: f64,
    /// Time in the sync phase of all of them, in seconds.
    pub sync_s: f64,
    /// Seconds since the reset.
    pub age_s: f64,
}

/// One row with the counters; `pg_stat_checkpointer` has them from 17 on.
pub(crate) const SQL: &[Sql] = &[
    Sql::since(
        17,
        "SELECT num_timed AS timed, num_requested AS requested, sync_time / 1000 AS sync_s, \
         extract(epoch FROM clock_timestamp() - stats_reset) AS age_s FROM pg_stat_checkpointer",
    ),
    Sql::until(
        16,
        "SELECT checkpoints_timed AS timed, checkpoints_req AS requested, checkpoint_sync_time / 1000 AS sync_s, \
         extract(epoch FROM clock_timestamp() - stats_reset) AS age_s FROM pg_stat_bgwriter",
    ),
];

impl Checkpoints {
    /// From the row of [`SQL`].
    pub fn read(rows: &Rows) -> Result<Self, RowError> {
        let row = rows.first()?;
        Ok(Self {
            timed: row.f64("timed")?,
            requested: row.f64("requested")?,
            sync_s: row.f64("sync_s")?,
            age_s: row.opt_f64("age_s")?.unwrap_or(0.0).max(1.0),
        })
    }

    /// All of them.
    pub fn total(&self) -> f64 {
        self.timed + self.requested
    }

    /// The share that was requested, in percent.
    pub fn requested_percent(&self) -> f64 {
        100.0 * self.requested / self.total().max(1.0)
    }

    /// The mean time from one to the next, in seconds.
    pub fn mean_gap_s(&self) -> f64 {
        self.age_s / self.total().max(1.0)
    }

    /// Are there enough to judge by?
    ///
    /// # Errors
    /// Unknown: too few since the reset.
    pub fn enough(&self) -> Result<(), Reason> {
        if self.total() >= ENOUGH {
            return Ok(());
        }
        Err(Reason::Statistics(format!(
            "only {} checkpoints since the statistics were reset; {ENOUGH} are needed to judge",
            self.total()
        )))
    }
}

/// Raises max_wal_size so far that time, not volume, starts checkpoints: by the ratio of checkpoint_timeout to the gap
/// there is now, at least twofold and at most eightfold, and never beyond half of what is free where pg_wal lies.
pub(crate) fn fewer(scene: &Scene<'_>, counted: &Checkpoints) -> Plan {
    const MIB: f64 = 1024.0 * 1024.0;
    let current = scene.settings().bytes("max_wal_size").unwrap_or(1 << 30) as f64;
    let timeout_s = scene.settings().milliseconds("checkpoint_timeout").unwrap_or(300_000.0) / 1000.0;
    let factor = (timeout_s / counted.mean_gap_s()).clamp(2.0, 8.0).ceil();
    let room = wal_room::of(scene).map_or(f64::INFINITY, |room| room.free_bytes as f64 / 2.0);
    let wanted = ((current * factor).min(room) / MIB).floor() * MIB;
    if wanted < current * 1.2 {
        return Plan::advice(
            "max_wal_size should be larger, but the filesystem that holds pg_wal has no room for it: give it more room \
             first",
        );
    }
    let value = byte_text(wanted);
    Plan::one(
        format!("let {value} of WAL collect between checkpoints"),
        Step::setting(
            "max_wal_size",
            value,
            "checkpoints come further apart; pg_wal grows to that size and a recovery after a crash reads more WAL",
        ),
    )
}

/// Makes checkpoints on a test's server and waits until they are counted.
#[cfg(test)]
pub(crate) fn make(on: &crate::testing::Stage, count: u32) {
    let (view, requested) = match on.major() {
        17.. => ("checkpointer", "num_requested"),
        _ => ("bgwriter", "checkpoints_req"),
    };
    on.sql(&format!("SELECT pg_stat_reset_shared('{view}')"));
    for _ in 0..count {
        on.sql("CHECKPOINT");
    }
    on.until(&format!("SELECT {requested} >= 10 AS v FROM pg_stat_{view}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gap_and_share_come_from_the_counters() {
        let counted = Checkpoints { timed: 6.0, requested: 18.0, sync_s: 1.0, age_s: 2400.0 };
        assert_eq!((counted.mean_gap_s(), counted.requested_percent()), (100.0, 75.0));
        assert!(counted.enough().is_ok());
        assert!(Checkpoints { timed: 0.0, requested: 9.0, ..counted }.enough().is_err());
    }
}
