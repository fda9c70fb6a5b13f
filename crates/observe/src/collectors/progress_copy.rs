//! How far COPY is. Several that run on one table at once are told as their sum; a query's COPY has no table.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families, relation_name};
use surus_pg::{RowError, Rows, Sql};

families! {
    COPIES ["datname", "relname", "command"] {
        RUNNING = Gauge "pg_stat_progress_copy_running" "running" "Copies under way";
        BYTES = Gauge "pg_stat_progress_copy_bytes_processed" "bytes_processed" "Bytes copied so far";
        TOTAL = Gauge "pg_stat_progress_copy_bytes" "bytes_total" "Size of the files that are read; 0 when not known";
        TUPLES = Gauge "pg_stat_progress_copy_tuples_processed" "tuples_processed" "Rows copied so far";
        EXCLUDED = Gauge "pg_stat_progress_copy_tuples_excluded" "tuples_excluded"
            "Rows left out so far because of a WHERE clause";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_copy",
    reads: "pg_stat_progress_copy",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(14)],
    families: FAMILIES,
    sql: &[Sql::since(
        14,
        concat!(
            "SELECT datname, relname, command, count(*) AS running, sum(bytes_processed) AS bytes_processed, \
               sum(bytes_total) AS bytes_total, sum(tuples_processed) AS tuples_processed, \
               sum(tuples_excluded) AS tuples_excluded FROM (SELECT s.*, CASE WHEN s.relid <> 0 THEN ",
            relation_name!("s.relid"),
            " END AS relname FROM pg_stat_progress_copy s JOIN pg_database d ON d.oid = s.datid) copies \
             GROUP BY datname, relname, command"
        ),
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname", "relname", "command"], COPIES)
}
