//! How far CREATE INDEX and REINDEX are. Several that run on one table at once are told as their sum.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, relation_name};
use surus_pg::{RowError, Rows, Sql};

families! {
    BUILDS ["datname", "relname", "command"] {
        RUNNING = Gauge "pg_stat_progress_create_index_running" "running" "Builds under way";
        LOCKERS = Gauge "pg_stat_progress_create_index_lockers" "lockers_total" "Transactions to wait for";
        LOCKERS_DONE = Gauge "pg_stat_progress_create_index_lockers_done" "lockers_done"
            "Transactions that were waited for so far";
        BLOCKS = Gauge "pg_stat_progress_create_index_blocks" "blocks_total" "Blocks to go through in this phase";
        BLOCKS_DONE = Gauge "pg_stat_progress_create_index_blocks_done" "blocks_done" "Blocks gone through in this phase";
        TUPLES = Gauge "pg_stat_progress_create_index_tuples" "tuples_total" "Rows to go through in this phase";
        TUPLES_DONE = Gauge "pg_stat_progress_create_index_tuples_done" "tuples_done" "Rows gone through in this phase";
        PARTITIONS = Gauge "pg_stat_progress_create_index_partitions" "partitions_total" "Partitions to index";
        PARTITIONS_DONE = Gauge "pg_stat_progress_create_index_partitions_done" "partitions_done"
            "Partitions indexed so far";
    }
    PHASES ["datname", "relname", "command", "phase"] {
        IN_PHASE = Gauge "pg_stat_progress_create_index_phase" "running" "Builds that are in this phase";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_create_index",
    reads: "pg_stat_progress_create_index",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "SELECT datname, relname, command, phase, count(*) AS running, sum(lockers_total) AS lockers_total, \
           sum(lockers_done) AS lockers_done, sum(blocks_total) AS blocks_total, sum(blocks_done) AS blocks_done, \
           sum(tuples_total) AS tuples_total, sum(tuples_done) AS tuples_done, sum(partitions_total) AS partitions_total, \
           sum(partitions_done) AS partitions_done FROM (SELECT s.*, ",
        relation_name!("s.relid"),
        " AS relname FROM pg_stat_progress_create_index s JOIN pg_database d ON d.oid = s.datid) builds \
         GROUP BY GROUPING SETS ((datname, relname, command), (datname, relname, command, phase))"
    ))],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for row in rows.iter() {
        let names: &[&str] = &["datname", "relname", "command", "phase"];
        let of_phase = row.opt_str("phase")?.is_some();
        let (names, columns) = if of_phase { (names, PHASES) } else { (&names[..3], BUILDS) };
        page.columns(&crate::collector::labels(row, names)?, row, columns)?;
    }
    Ok(())
}
