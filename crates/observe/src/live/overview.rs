//! The server in a few numbers, and how fast they grow.

use serde::Serialize;
use surus_pg::{RowError, Rows};

/// The query; every role may run it.
pub const SQL: &str = "SELECT extract(epoch FROM clock_timestamp()) AS at_s, pg_is_in_recovery() AS in_recovery, \
    extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) AS uptime_s, \
    current_setting('max_connections')::int AS max_connections, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections, \
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type IS NULL) AS hidden, \
    d.commits, d.rollbacks, d.hit, d.read, d.temp_bytes, d.deadlocks, d.changed, \
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn AS wal, \
    CASE WHEN NOT pg_is_in_recovery() THEN NULL WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
      ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END AS behind_s \
    FROM (SELECT sum(xact_commit) AS commits, sum(xact_rollback) AS rollbacks, sum(blks_hit) AS hit, sum(blks_read) AS read, \
      sum(temp_bytes) AS temp_bytes, sum(deadlocks) AS deadlocks, sum(tup_inserted + tup_updated + tup_deleted) AS changed \
      FROM pg_stat_database) d";

/// Counters and states at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Overview {
    /// Seconds since 1970, by the server's clock.
    pub at_s: f64,
    pub in_recovery: bool,
    pub uptime_s: f64,
    pub connections: i64,
    pub max_connections: i64,
    /// Sessions of which the role sees nothing.
    pub hidden: i64,
    pub commits: f64,
    pub rollbacks: f64,
    pub hit: f64,
    pub read: f64,
    pub temp_bytes: f64,
    pub deadlocks: f64,
    /// Rows that were inserted, updated and deleted.
    pub changed: f64,
    /// Position in the WAL, in bytes: written by a primary, replayed by a standby.
    pub wal: f64,
    /// How far a standby is behind, in seconds; 0 when all that arrived is replayed.
    pub behind_s: Option<f64>,
}

impl Overview {
    /// Reads the answer.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read(rows: &Rows) -> Result<Self, RowError> {
        let row = rows.first()?;
        Ok(Self {
            at_s: row.f64("at_s")?,
            in_recovery: row.bool("in_recovery")?,
            uptime_s: row.f64("uptime_s")?,
            connections: row.i64("connections")?,
            max_connections: row.i64("max_connections")?,
            hidden: row.i64("hidden")?,
            commits: row.f64("commits")?,
            rollbacks: row.f64("rollbacks")?,
            hit: row.f64("hit")?,
            read: row.f64("read")?,
            temp_bytes: row.f64("temp_bytes")?,
            deadlocks: row.f64("deadlocks")?,
            changed: row.f64("changed")?,
            wal: row.opt_f64("wal")?.unwrap_or_default(),
            behind_s: row.opt_f64("behind_s")?,
        })
    }
}

/// What happened between two looks, by the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pace {
    pub transactions: f64,
    pub rollbacks: f64,
    pub changed_rows: f64,
    pub wal_bytes: f64,
    pub temp_bytes: f64,
    /// Blocks that were found in shared buffers, in percent; none when none was wanted.
    pub hit_percent: Option<f64>,
    /// Deadlocks in between, not by the second.
    pub deadlocks: f64,
}

impl Pace {
    /// None when no time has passed or the statistics were reset in between.
    pub fn between(before: &Overview, now: &Overview) -> Option<Self> {
        let seconds = now.at_s - before.at_s;
        if seconds <= 0.0 || now.commits < before.commits || now.in_recovery != before.in_recovery {
            return None;
        }
        let rate = |now: f64, before: f64| ((now - before) / seconds).max(0.0);
        let (hit, read) = (now.hit - before.hit, now.read - before.read);
        Some(Self {
            transactions: rate(now.commits + now.rollbacks, before.commits + before.rollbacks),
            rollbacks: rate(now.rollbacks, before.rollbacks),
            changed_rows: rate(now.changed, before.changed),
            wal_bytes: rate(now.wal, before.wal),
            temp_bytes: rate(now.temp_bytes, before.temp_bytes),
            hit_percent: (hit + read > 0.0).then(|| 100.0 * hit / (hit + read)),
            deadlocks: (now.deadlocks - before.deadlocks).max(0.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_by_the_second_and_absent_after_a_reset() {
        let before = Overview { at_s: 100.0, commits: 10.0, hit: 90.0, read: 10.0, wal: 1000.0, ..Overview::default() };
        let now = Overview { at_s: 102.0, commits: 30.0, hit: 99.0, read: 11.0, wal: 3000.0, ..Overview::default() };
        let pace = Pace::between(&before, &now).unwrap();
        assert_eq!((pace.transactions, pace.wal_bytes, pace.hit_percent), (10.0, 1000.0, Some(90.0)));
        assert_eq!(Pace::between(&now, &before), None);
        assert_eq!(Pace::between(&now, &now), None);
        let reset = Overview { at_s: 103.0, commits: 1.0, ..Overview::default() };
        assert_eq!(Pace::between(&now, &reset), None);
    }
}
