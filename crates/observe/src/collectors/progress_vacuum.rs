//! How far VACUUM is, by hand or by autovacuum.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, labels, relation_name};
use surus_pg::{RowError, Rows, Sql};

families! {
    VACUUM ["datname", "relname"] {
        TOTAL = Gauge "pg_stat_progress_vacuum_heap_blks" "heap_blks_total" "Blocks of the table";
        SCANNED = Gauge "pg_stat_progress_vacuum_heap_blks_scanned" "heap_blks_scanned" "Blocks scanned so far";
        VACUUMED = Gauge "pg_stat_progress_vacuum_heap_blks_vacuumed" "heap_blks_vacuumed" "Blocks vacuumed so far";
        ROUNDS = Gauge "pg_stat_progress_vacuum_index_vacuums" "index_vacuum_count"
            "How often all indexes were gone through so far; more than one means that maintenance_work_mem was too small";
        MAX_DEAD = Gauge "pg_stat_progress_vacuum_max_dead_tuples" "max_dead"
            "Dead rows that fit in memory before the indexes must be gone through; since 17 in bytes";
        DEAD = Gauge "pg_stat_progress_vacuum_num_dead_tuples" "dead"
            "Dead rows in memory since the indexes were gone through last; since 17 in bytes";
        DEAD_ITEMS = Gauge "pg_stat_progress_vacuum_num_dead_item_ids" "dead_items"
            "Dead rows in memory since the indexes were gone through last (17 and newer)";
        DELAY = Gauge "pg_stat_progress_vacuum_delay_seconds" "delay_seconds"
            "Seconds slept because of the cost limit, when track_cost_delay_timing is on (18 and newer)";
    }
    PHASE ["datname", "relname", "phase"] {
        IN_PHASE = Gauge "pg_stat_progress_vacuum_phase" "" "1 for the phase that the vacuum is in, 0 for the others";
    }
}

/// In the order of their numbers.
const PHASES: &[&str] = &[
    "initializing",
    "scanning heap",
    "vacuuming indexes",
    "vacuuming heap",
    "cleaning up indexes",
    "truncating heap",
    "performing final cleanup",
];

macro_rules! vacuums {
    ($more:literal) => {
        concat!(
            "SELECT d.datname, ",
            relation_name!("s.relid"),
            " AS relname, param1 AS phase, param2 AS heap_blks_total, param3 AS heap_blks_scanned, \
               param4 AS heap_blks_vacuumed, param5 AS index_vacuum_count, param6 AS max_dead, param7 AS dead, ",
            $more,
            " FROM pg_stat_get_progress_info('VACUUM') s JOIN pg_database d ON d.oid = s.datid"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_vacuum",
    reads: "pg_stat_progress_vacuum",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(16, vacuums!("NULL AS dead_items, NULL AS delay_seconds")),
        Sql::until(17, vacuums!("param8 AS dead_items, NULL AS delay_seconds")),
        Sql::since(18, vacuums!("param8 AS dead_items, param11 / 1000000000.0 AS delay_seconds")),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for row in rows.iter() {
        let labels = labels(row, &["datname", "relname"])?;
        page.columns(&labels, row, VACUUM)?;
        let now = row.opt_i64("phase")?;
        for (number, phase) in (0i64..).zip(PHASES) {
            page.put(&IN_PHASE, &labels.with("phase", phase), f64::from(u8::from(Some(number) == now)));
        }
    }
    Ok(())
}
