//! Which tables autovacuum works on, and since when.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    WORKERS ["datname", "relname"] {
        STARTED = Gauge "pg_stat_activity_autovacuum_timestamp_seconds" "started"
            "When autovacuum began with the table, in seconds since 1970";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_activity_autovacuum",
    reads: "pg_stat_activity",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    families: FAMILIES,
    // The worker's query is "autovacuum: VACUUM schema.table (to prevent wraparound)", with names as they are. Like the
    // exporter this takes what stands behind the first dot; tables of the same name in two schemas count as one.
    sql: &[Sql::all(
        "SELECT d.datname, split_part(split_part(a.query, '.', 2), ' (to prevent wraparound)', 1) AS relname, \
           min(extract(epoch FROM a.xact_start)) AS started FROM pg_stat_get_activity(NULL) a \
         LEFT JOIN pg_database d ON d.oid = a.datid \
         WHERE a.backend_type = 'autovacuum worker' AND a.query LIKE 'autovacuum:%' AND a.xact_start IS NOT NULL \
         GROUP BY 1, 2",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname", "relname"], WORKERS)
}
