//! How full shared buffers are, where the extension pg_buffercache is installed. Its summary takes no locks.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        USED = Gauge "pg_buffercache_summary_buffers_used" "buffers_used" "Shared buffers in use";
        UNUSED = Gauge "pg_buffercache_summary_buffers_unused" "buffers_unused" "Shared buffers not in use";
        DIRTY = Gauge "pg_buffercache_summary_buffers_dirty" "buffers_dirty" "Shared buffers that must be written";
        PINNED = Gauge "pg_buffercache_summary_buffers_pinned" "buffers_pinned" "Shared buffers that a session holds now";
        USAGE = Gauge "pg_buffercache_summary_usagecount_avg" "usagecount_avg"
            "Average usage count of the shared buffers in use";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "buffercache_summary",
    reads: "pg_buffercache_summary()",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(16), Need::Extension("pg_buffercache"), Need::Monitor],
    families: FAMILIES,
    sql: &[Sql::since(
        16,
        "SELECT buffers_used, buffers_unused, buffers_dirty, buffers_pinned, coalesce(usagecount_avg, 0) AS usagecount_avg \
             FROM @schema@.pg_buffercache_summary()",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}
