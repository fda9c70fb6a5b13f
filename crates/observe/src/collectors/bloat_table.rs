//! How much of each large table its live rows do not need, estimated from the planner's statistics
//! (`surus_pg::bloat`). A table whose statistics are missing, old or not visible has no number: a wrong one would be
//! worse. The exporter never had these; rules for them come from custom queries that are widely copied.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql, bloat};

families! {
    TABLES ["datname", "schemaname", "relname", "table"] {
        RATIO = Gauge "pg_bloat_table_bloat_ratio" ""
            "Share of the table's pages that its live rows do not need, from 0 to 1, estimated; of the 1,000 largest \
             tables above 1 MB with complete and fresh statistics";
        PERCENT = Gauge "pg_bloat_table_bloat_pct" "" "The same in percent";
        SIZE = Gauge "pg_bloat_table_real_size" "" "Size of the table that the share is of, in bytes";
    }
    DOUBT ["datname"] {
        UNKNOWN = Gauge "pg_bloat_tables_without_estimate" ""
            "Tables above 1 MB for which the statistics allow no estimate: ANALYZE them";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "bloat_table",
    reads: "pg_class, pg_attribute, pg_statistic",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Data],
    families: FAMILIES,
    sql: &[Sql::all(bloat::LARGEST_TABLES)],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let (known, unknown): (Vec<_>, Vec<_>) =
        bloat::read(rows)?.into_iter().partition(|measured| measured.doubt().is_none());
    for table in known {
        let labels = Labels::merged([
            ("datname", scene.database),
            ("schemaname", &table.schema),
            ("relname", &table.name),
            ("table", &table.qualified()),
        ]);
        let percent = table.table_bloat();
        page.put(&RATIO, &labels, percent / 100.0);
        page.put(&PERCENT, &labels, percent);
        page.put(&SIZE, &labels, table.bytes());
    }
    page.tell(&UNKNOWN, [("datname", scene.database)], unknown.len() as f64);
    Ok(())
}
