//! Indexes: scans, rows, blocks read and hit, from the functions behind pg_stat_user_indexes and
//! pg_statio_user_indexes.

use crate::collector::{Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families, user_schema};
use surus_pg::{RowError, Rows, Sql};

families! {
    limited;
    INDEXES ["datname", "schemaname", "relname", "indexrelname"] {
        BLKS_READ = Counter "pg_statio_user_indexes_idx_blks_read_total" "blks_read"
            "Blocks of the index read that were not in shared buffers";
        BLKS_HIT = Counter "pg_statio_user_indexes_idx_blks_hit_total" "blks_hit"
            "Blocks of the index found in shared buffers";
        SCAN = Counter "pg_stat_user_indexes_idx_scan" "idx_scan" "Scans begun on the index";
        TUP_READ = Counter "pg_stat_user_indexes_idx_tup_read" "idx_tup_read" "Index entries that scans returned";
        TUP_FETCH = Counter "pg_stat_user_indexes_idx_tup_fetch" "idx_tup_fetch"
            "Live rows fetched by plain scans of the index";
    }
}

const MOST: usize = 5_000;

pub static COLLECTOR: Collector = Collector {
    name: "user_indexes",
    reads: "pg_index and the functions behind pg_stat_user_indexes and pg_statio_user_indexes",
    tier: Tier::Detail,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "SELECT current_database() AS datname, nspname AS schemaname, relname, indexrelname, \
           pg_stat_get_blocks_fetched(oid) - pg_stat_get_blocks_hit(oid) AS blks_read, \
           pg_stat_get_blocks_hit(oid) AS blks_hit, pg_stat_get_numscans(oid) AS idx_scan, \
           pg_stat_get_tuples_returned(oid) AS idx_tup_read, pg_stat_get_tuples_fetched(oid) AS idx_tup_fetch \
         FROM (SELECT c.oid, n.nspname, t.relname, c.relname AS indexrelname FROM pg_index i \
           JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
           JOIN pg_namespace n ON n.oid = t.relnamespace WHERE c.relkind = 'i' AND t.relkind IN ('r', 'm') AND ",
        user_schema!("n"),
        " ORDER BY c.relpages DESC, c.oid LIMIT 5001) x"
    ))],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: scene.database, rows: MOST };
    page.limited(rows, &limit, &["datname", "schemaname", "relname", "indexrelname"], INDEXES)
}
