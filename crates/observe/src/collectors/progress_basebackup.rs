//! How far base backups are. Several at once are told as their sum.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    BACKUPS ["phase"] {
        RUNNING = Gauge "pg_stat_progress_basebackup_running" "running" "Base backups that are in this phase";
        TOTAL = Gauge "pg_stat_progress_basebackup_backup_bytes" "backup_total"
            "Bytes that the base backups in this phase will stream, as estimated; absent when not estimated";
        STREAMED = Gauge "pg_stat_progress_basebackup_backup_streamed_bytes" "backup_streamed"
            "Bytes that the base backups in this phase have streamed";
        SPACES = Gauge "pg_stat_progress_basebackup_tablespaces" "tablespaces_total" "Tablespaces to stream";
        SPACES_DONE = Gauge "pg_stat_progress_basebackup_tablespaces_streamed" "tablespaces_streamed"
            "Tablespaces streamed so far";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "progress_basebackup",
    reads: "pg_stat_progress_basebackup",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT phase, count(*) AS running, sum(backup_total) AS backup_total, sum(backup_streamed) AS backup_streamed, \
           sum(tablespaces_total) AS tablespaces_total, sum(tablespaces_streamed) AS tablespaces_streamed \
         FROM pg_stat_progress_basebackup GROUP BY phase",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["phase"], BACKUPS)
}
