//! pg_stat_archiver: WAL segments archived and failed.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        ARCHIVED = Counter "pg_stat_archiver_archived_count" "archived_count" "WAL files archived";
        FAILED = Counter "pg_stat_archiver_failed_count" "failed_count" "Failed attempts to archive a WAL file";
        AGE = Gauge "pg_stat_archiver_last_archive_age" "last_archive_age"
            "Seconds since the last WAL file was archived; absent when none was";
        LAST_ARCHIVED = Gauge "pg_stat_archiver_last_archived_time_seconds" "last_archived"
            "When the last WAL file was archived, in seconds since 1970; absent when none was";
        LAST_FAILED = Gauge "pg_stat_archiver_last_failed_time_seconds" "last_failed"
            "When archiving a WAL file failed last, in seconds since 1970; absent when it never did";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_archiver",
    reads: "pg_stat_archiver",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT archived_count, failed_count, extract(epoch FROM now() - last_archived_time) AS last_archive_age, \
           extract(epoch FROM last_archived_time) AS last_archived, extract(epoch FROM last_failed_time) AS last_failed \
         FROM pg_stat_archiver",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}
