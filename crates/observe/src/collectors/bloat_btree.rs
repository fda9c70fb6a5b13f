//! How much of each large B-tree its entries do not need, estimated as `bloat_table` does.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql, bloat};

families! {
    INDEXES ["datname", "schemaname", "tblname", "idxname"] {
        RATIO = Gauge "pg_bloat_btree_bloat_ratio" ""
            "Share of the B-tree's pages that its entries would not need if it were built anew, from 0 to 1, estimated; \
             of the 1,000 largest above 1 MB with complete and fresh statistics";
        PERCENT = Gauge "pg_bloat_btree_bloat_pct" "" "The same in percent";
        SIZE = Gauge "pg_bloat_btree_real_size" "" "Size of the B-tree that the share is of, in bytes";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "bloat_btree",
    reads: "pg_index, pg_class, pg_attribute, pg_statistic",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[Need::Data],
    families: FAMILIES,
    sql: &[Sql::all(bloat::LARGEST_BTREES)],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for index in bloat::read(rows)?.iter().filter(|measured| measured.doubt().is_none()) {
        let labels = Labels::merged([
            ("datname", scene.database),
            ("schemaname", &index.schema),
            ("tblname", &index.table),
            ("idxname", &index.name),
        ]);
        let percent = index.btree_bloat();
        page.put(&RATIO, &labels, percent / 100.0);
        page.put(&PERCENT, &labels, percent);
        page.put(&SIZE, &labels, index.bytes());
    }
    Ok(())
}
