//! How large pg_wal is, and how many segments wait to be archived.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        SEGMENTS = Gauge "pg_wal_segments" "segments" "WAL segment files in pg_wal";
        SIZE = Gauge "pg_wal_size_bytes" "size" "Size of the WAL segment files in pg_wal";
        READY = Gauge "pg_wal_archive_ready_segments" "ready" "WAL segments that wait to be archived";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "wal_directory",
    reads: "pg_ls_waldir(), pg_ls_archive_statusdir()",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Monitor],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT count(*) AS segments, coalesce(sum(size), 0) AS size, \
           (SELECT count(*) FROM pg_ls_archive_statusdir() WHERE right(name, 6) = '.ready') AS ready \
         FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}
