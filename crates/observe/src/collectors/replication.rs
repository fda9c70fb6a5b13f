//! How far a standby is behind, as it sees it itself.
//!
//! Two names are in use. `pg_replication_lag` is the age of the last transaction that was replayed, which grows while
//! the primary is idle. `pg_replication_lag_seconds` is 0 when all that was received is replayed; the exporter says so
//! also when nothing is received any more because the link is dead. Here it is 0 only while a WAL receiver streams, and
//! the age of the last replayed transaction otherwise. What the primary measures is in `pg_stat_replication_*`.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        LAG = Gauge "pg_replication_lag" "age"
            "Seconds since the last replayed transaction was committed on the primary; 0 on a primary";
        LAG_SECONDS = Gauge "pg_replication_lag_seconds" "lag"
            "Seconds behind the primary: 0 on a primary and while all that streams in is replayed, else the age of the \
             last replayed transaction";
        IS_REPLICA = Gauge "pg_replication_is_replica" "is_replica" "1 on a standby, 0 on a primary";
        LAST_REPLAY = Gauge "pg_replication_last_replay_seconds" "last_replay"
            "Seconds since the last replayed transaction was committed on the primary; on a primary that was a standby \
             before, the last one before its promotion; 0 when there never was one";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "replication",
    reads: "pg_is_in_recovery(), pg_last_xact_replay_timestamp(), pg_last_wal_receive_lsn(), pg_stat_wal_receiver",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT CASE WHEN standby THEN age ELSE 0 END AS age, standby::int AS is_replica, age AS last_replay, \
           CASE WHEN standby AND NOT caught_up THEN age ELSE 0 END AS lag \
         FROM (SELECT pg_is_in_recovery() AS standby, \
             coalesce(greatest(extract(epoch FROM now() - pg_last_xact_replay_timestamp()), 0), 0) AS age, \
             coalesce(pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn() \
               AND (SELECT pid IS NOT NULL AND coalesce(status, 'streaming') = 'streaming' \
                 FROM pg_stat_get_wal_receiver()), false) AS caught_up) seen",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}
