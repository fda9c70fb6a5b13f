//! pg_stat_database: what each database did. Shared objects have their own row, with `datid="0"` and no name.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

const LABELS: &[&str] = &["datid", "datname"];

families! {
    DATABASE ["datid", "datname"] {
        NUMBACKENDS = Gauge "pg_stat_database_numbackends" "numbackends" "Sessions connected to the database now";
        XACT_COMMIT = Counter "pg_stat_database_xact_commit" "xact_commit" "Transactions committed";
        XACT_ROLLBACK = Counter "pg_stat_database_xact_rollback" "xact_rollback" "Transactions rolled back";
        BLKS_READ = Counter "pg_stat_database_blks_read" "blks_read" "Blocks read that were not in shared buffers";
        BLKS_HIT = Counter "pg_stat_database_blks_hit" "blks_hit" "Blocks found in shared buffers";
        TUP_RETURNED = Counter "pg_stat_database_tup_returned" "tup_returned"
            "Live rows fetched by sequential scans and index entries returned by index scans";
        TUP_FETCHED = Counter "pg_stat_database_tup_fetched" "tup_fetched" "Live rows fetched by index scans";
        TUP_INSERTED = Counter "pg_stat_database_tup_inserted" "tup_inserted" "Rows inserted";
        TUP_UPDATED = Counter "pg_stat_database_tup_updated" "tup_updated" "Rows updated";
        TUP_DELETED = Counter "pg_stat_database_tup_deleted" "tup_deleted" "Rows deleted";
        CONFLICTS = Counter "pg_stat_database_conflicts" "conflicts"
            "Queries cancelled on a standby because they were in the way of recovery";
        TEMP_FILES = Counter "pg_stat_database_temp_files" "temp_files" "Temporary files created by queries";
        TEMP_BYTES = Counter "pg_stat_database_temp_bytes" "temp_bytes" "Bytes written to temporary files by queries";
        DEADLOCKS = Counter "pg_stat_database_deadlocks" "deadlocks" "Deadlocks detected";
        CHECKSUM_FAILURES = Counter "pg_stat_database_checksum_failures" "checksum_failures"
            "Pages whose checksum was wrong; absent without data checksums";
        CHECKSUM_LAST_FAILURE = Gauge "pg_stat_database_checksum_last_failure" "checksum_last_failure"
            "When the last wrong checksum was found, in seconds since 1970; absent when none was";
        BLK_READ_TIME = Counter "pg_stat_database_blk_read_time" "blk_read_time"
            "Milliseconds spent reading blocks, when track_io_timing is on";
        BLK_WRITE_TIME = Counter "pg_stat_database_blk_write_time" "blk_write_time"
            "Milliseconds spent writing blocks, when track_io_timing is on";
        SESSION_TIME = Counter "pg_stat_database_session_time" "session_time" "Milliseconds that sessions lasted";
        ACTIVE_TIME = Counter "pg_stat_database_active_time" "active_time" "Milliseconds spent executing statements";
        ACTIVE_SECONDS = Counter "pg_stat_database_active_time_seconds_total" "active_seconds"
            "Seconds spent executing statements";
        IDLE_TIME = Counter "pg_stat_database_idle_in_transaction_time" "idle_in_transaction_time"
            "Milliseconds spent idle inside a transaction";
        SESSIONS = Counter "pg_stat_database_sessions" "sessions" "Sessions begun";
        ABANDONED = Counter "pg_stat_database_sessions_abandoned" "sessions_abandoned"
            "Sessions that ended because the client was gone";
        FATAL = Counter "pg_stat_database_sessions_fatal" "sessions_fatal" "Sessions ended by a fatal error";
        KILLED = Counter "pg_stat_database_sessions_killed" "sessions_killed" "Sessions ended by an operator";
        PARALLEL_PLANNED = Counter "pg_stat_database_parallel_workers_to_launch" "parallel_workers_to_launch"
            "Parallel workers that plans asked for (18 and newer)";
        PARALLEL_LAUNCHED = Counter "pg_stat_database_parallel_workers_launched" "parallel_workers_launched"
            "Parallel workers that were started (18 and newer)";
        STATS_RESET = Counter "pg_stat_database_stats_reset" "stats_reset"
            "When these counters began, in seconds since 1970; 0 when they never were reset";
    }
}

/// What every major has.
macro_rules! columns {
    ($more:literal) => {
        concat!(
            "SELECT datid, datname, numbackends, xact_commit, xact_rollback, blks_read, blks_hit, tup_returned, \
               tup_fetched, tup_inserted, tup_updated, tup_deleted, conflicts, temp_files, temp_bytes, deadlocks, \
               checksum_failures, extract(epoch FROM checksum_last_failure) AS checksum_last_failure, blk_read_time, \
               blk_write_time, coalesce(extract(epoch FROM stats_reset), 0) AS stats_reset, ",
            $more,
            " FROM pg_stat_database"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_database",
    reads: "pg_stat_database",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(
            13,
            columns!(
                "NULL AS session_time, NULL AS active_time, NULL AS active_seconds, NULL AS idle_in_transaction_time, \
                 NULL AS sessions, NULL AS sessions_abandoned, NULL AS sessions_fatal, NULL AS sessions_killed, \
                 NULL AS parallel_workers_to_launch, NULL AS parallel_workers_launched"
            ),
        ),
        Sql::until(
            17,
            columns!(
                "session_time, active_time, active_time / 1000 AS active_seconds, idle_in_transaction_time, sessions, \
                 sessions_abandoned, sessions_fatal, sessions_killed, NULL AS parallel_workers_to_launch, \
                 NULL AS parallel_workers_launched"
            ),
        ),
        Sql::since(
            18,
            columns!(
                "session_time, active_time, active_time / 1000 AS active_seconds, idle_in_transaction_time, sessions, \
                 sessions_abandoned, sessions_fatal, sessions_killed, parallel_workers_to_launch, \
                 parallel_workers_launched"
            ),
        ),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, LABELS, DATABASE)
}
