//! How far CLUSTER and VACUUM FULL are.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, labels, relation_name};
use surus_pg::{RowError, Rows, Sql};

families! {
    REWRITES ["datname", "relname", "command"] {
        SCANNED = Gauge "pg_stat_progress_cluster_heap_tuples_scanned" "heap_tuples_scanned" "Rows read so far";
        WRITTEN = Gauge "pg_stat_progress_cluster_heap_tuples_written" "heap_tuples_written" "Rows written so far";
        BLOCKS = Gauge "pg_stat_progress_cluster_heap_blks" "heap_blks_total" "Blocks of the table";
        BLOCKS_SCANNED = Gauge "pg_stat_progress_cluster_heap_blks_scanned" "heap_blks_scanned" "Blocks read so far";
        REBUILT = Gauge "pg_stat_progress_cluster_indexes_rebuilt" "index_rebuild_count" "Indexes built anew so far";
    }
    PHASE ["datname", "relname", "command", "phase"] {
        IN_PHASE = Gauge "pg_stat_progress_cluster_phase" "one" "Always 1; phase is the one that it is in";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_cluster",
    reads: "pg_stat_progress_cluster",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "SELECT d.datname, ",
        relation_name!("s.relid"),
        " AS relname, s.command, s.phase, 1 AS one, heap_tuples_scanned, heap_tuples_written, heap_blks_total, \
           heap_blks_scanned, index_rebuild_count FROM pg_stat_progress_cluster s JOIN pg_database d ON d.oid = s.datid"
    ))],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname", "relname", "command"], REWRITES)?;
    for row in rows.iter() {
        page.columns(&labels(row, &["datname", "relname", "command", "phase"])?, row, PHASE)?;
    }
    Ok(())
}
