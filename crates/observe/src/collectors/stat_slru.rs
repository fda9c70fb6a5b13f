//! pg_stat_slru: the small caches for transaction states, subtransactions, multixacts and notifications.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    SLRU ["name"] {
        ZEROED = Counter "pg_stat_slru_blks_zeroed_total" "blks_zeroed" "Blocks filled with zeros when they were begun";
        HIT = Counter "pg_stat_slru_blks_hit_total" "blks_hit" "Blocks found in the cache";
        READ = Counter "pg_stat_slru_blks_read_total" "blks_read" "Blocks read from disk";
        WRITTEN = Counter "pg_stat_slru_blks_written_total" "blks_written" "Blocks written to disk";
        EXISTS = Counter "pg_stat_slru_blks_exists_total" "blks_exists" "Blocks whose existence was looked up";
        FLUSHES = Counter "pg_stat_slru_flushes_total" "flushes" "Flushes of dirty data";
        TRUNCATES = Counter "pg_stat_slru_truncates_total" "truncates" "Truncations";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_slru",
    reads: "pg_stat_slru",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT name, blks_zeroed, blks_hit, blks_read, blks_written, blks_exists, flushes, truncates FROM pg_stat_slru",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["name"], SLRU)
}
