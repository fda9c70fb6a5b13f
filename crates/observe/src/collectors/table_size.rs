//! How much disk space tables and all their indexes use. Asking for a size takes a lock and looks at every file, so it
//! is done seldom, and not for relations that somebody holds or awaits exclusively.

use crate::collector::{
    Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families, labels, locked_relations, user_schema,
};
use surus_pg::{RowError, Rows, Sql};

families! {
    locked;
    SIZES ["datname", "schemaname", "relname"] {
        TABLE = Gauge "pg_stat_user_tables_table_size_bytes" "table_size"
            "Disk space of the table with its TOAST table and maps, without indexes";
        INDEXES = Gauge "pg_stat_user_tables_index_size_bytes" "index_size" "Disk space of all indexes of the table";
    }
}

const MOST: usize = 5_000;

pub static COLLECTOR: Collector = Collector {
    name: "table_size",
    reads: "pg_table_size(), pg_indexes_size()",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "WITH ",
        locked_relations!(),
        ", t AS MATERIALIZED (SELECT c.oid, c.relname, n.nspname, EXISTS (SELECT FROM locked l WHERE l.relation = c.oid \
           OR l.relation = c.reltoastrelid OR l.relation IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid)) AS locked \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm', 'p') AND ",
        user_schema!("n"),
        " ORDER BY c.relpages DESC, c.oid LIMIT 5001) \
         SELECT current_database() AS datname, nspname AS schemaname, relname, locked, \
           CASE WHEN NOT locked THEN pg_table_size(oid) END AS table_size, \
           CASE WHEN NOT locked THEN pg_indexes_size(oid) END AS index_size FROM t"
    ))],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: scene.database, rows: MOST };
    let mut skipped = 0.0;
    for row in rows.iter().take(limit.rows) {
        page.columns(&labels(row, &["datname", "schemaname", "relname"])?, row, SIZES)?;
        skipped += f64::from(u8::from(row.bool("locked")?));
    }
    page.skipped(&limit, skipped);
    page.note(rows, &limit);
    Ok(())
}
