//! How far ANALYZE is.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, labels, relation_name};
use surus_pg::{RowError, Rows, Sql};

families! {
    ANALYZE ["datname", "relname"] {
        BLOCKS = Gauge "pg_stat_progress_analyze_sample_blks" "sample_blks_total" "Blocks of the table in the sample";
        SCANNED = Gauge "pg_stat_progress_analyze_sample_blks_scanned" "sample_blks_scanned" "Blocks read so far";
        EXTENDED = Gauge "pg_stat_progress_analyze_ext_stats" "ext_stats_total" "Extended statistics to compute";
        COMPUTED = Gauge "pg_stat_progress_analyze_ext_stats_computed" "ext_stats_computed"
            "Extended statistics computed so far";
        CHILDREN = Gauge "pg_stat_progress_analyze_child_tables" "child_tables_total" "Child tables to read";
        DONE = Gauge "pg_stat_progress_analyze_child_tables_done" "child_tables_done" "Child tables read so far";
    }
    PHASE ["datname", "relname", "phase"] {
        IN_PHASE = Gauge "pg_stat_progress_analyze_phase" "one" "Always 1; phase is the one that it is in";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_analyze",
    reads: "pg_stat_progress_analyze",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "SELECT d.datname, ",
        relation_name!("s.relid"),
        " AS relname, s.phase, 1 AS one, sample_blks_total, sample_blks_scanned, ext_stats_total, ext_stats_computed, \
           child_tables_total, child_tables_done FROM pg_stat_progress_analyze s JOIN pg_database d ON d.oid = s.datid"
    ))],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname", "relname"], ANALYZE)?;
    for row in rows.iter() {
        page.columns(&labels(row, &["datname", "relname", "phase"])?, row, PHASE)?;
    }
    Ok(())
}
