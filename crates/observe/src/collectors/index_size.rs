//! How much disk space each index uses, under the name that awesome-prometheus-alerts has for it.

use crate::collector::{
    Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families, labels, locked_relations, user_schema,
};
use surus_pg::{RowError, Rows, Sql};

families! {
    locked;
    SIZES ["datname", "schemaname", "relname", "indexrelname"] {
        SIZE = Gauge "pg_general_index_info_pg_relation_size" "size" "Disk space of the index";
    }
    VALID ["datname", "schemaname", "relname", "indexrelname"] {
        INVALID = Gauge "pg_index_invalid" ""
            "Always 1, for indexes that are not valid: a CREATE INDEX CONCURRENTLY that is under way or failed";
    }
}

const MOST: usize = 5_000;
const LABELS: &[&str] = &["datname", "schemaname", "relname", "indexrelname"];

pub static COLLECTOR: Collector = Collector {
    name: "index_size",
    reads: "pg_index, pg_relation_size()",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(concat!(
        "WITH ",
        locked_relations!(),
        ", x AS MATERIALIZED (SELECT c.oid, c.relname AS indexrelname, t.relname, n.nspname, i.indisvalid, \
           EXISTS (SELECT FROM locked l WHERE l.relation = c.oid) AS locked \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'i' AND ",
        user_schema!("n"),
        " ORDER BY i.indisvalid, c.relpages DESC, c.oid LIMIT 5001) \
         SELECT current_database() AS datname, nspname AS schemaname, relname, indexrelname, locked, indisvalid, \
           CASE WHEN NOT locked THEN pg_relation_size(oid) END AS size FROM x"
    ))],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: scene.database, rows: MOST };
    let mut skipped = 0.0;
    for row in rows.iter().take(limit.rows) {
        let labels = labels(row, LABELS)?;
        page.columns(&labels, row, SIZES)?;
        skipped += f64::from(u8::from(row.bool("locked")?));
        if !row.bool("indisvalid")? {
            page.put(&INVALID, &labels, 1.0);
        }
    }
    page.skipped(&limit, skipped);
    page.note(rows, &limit);
    Ok(())
}
