//! pg_stat_database_conflicts: why queries were cancelled on a standby.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    CONFLICTS ["datid", "datname"] {
        TABLESPACE = Counter "pg_stat_database_conflicts_confl_tablespace" "confl_tablespace"
            "Queries cancelled because a tablespace was dropped";
        LOCK = Counter "pg_stat_database_conflicts_confl_lock" "confl_lock"
            "Queries cancelled because recovery waited for a lock";
        SNAPSHOT = Counter "pg_stat_database_conflicts_confl_snapshot" "confl_snapshot"
            "Queries cancelled because their snapshot was too old";
        BUFFERPIN = Counter "pg_stat_database_conflicts_confl_bufferpin" "confl_bufferpin"
            "Queries cancelled because they held a buffer that recovery needed";
        DEADLOCK = Counter "pg_stat_database_conflicts_confl_deadlock" "confl_deadlock"
            "Queries cancelled because of a deadlock with recovery";
        LOGICAL_SLOT = Counter "pg_stat_database_conflicts_confl_active_logicalslot" "confl_active_logicalslot"
            "Uses of logical slots cancelled because of old snapshots or a too low wal_level (16 and newer)";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_database_conflicts",
    reads: "pg_stat_database_conflicts",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(
            15,
            "SELECT datid, datname, confl_tablespace, confl_lock, confl_snapshot, confl_bufferpin, confl_deadlock, \
               NULL AS confl_active_logicalslot FROM pg_stat_database_conflicts",
        ),
        Sql::since(
            16,
            "SELECT datid, datname, confl_tablespace, confl_lock, confl_snapshot, confl_bufferpin, confl_deadlock, \
               confl_active_logicalslot FROM pg_stat_database_conflicts",
        ),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datid", "datname"], CONFLICTS)
}
