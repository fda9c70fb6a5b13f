//! How far each table is from being frozen: the 50 tables of a database whose rows are oldest. The age of a database
//! is that of its worst table, so these are the ones to look at when it grows.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    AGES ["datname", "schemaname", "relname"] {
        XID = Gauge "pg_table_frozenxid_age" "xid_age"
            "Age of the table's oldest unfrozen transaction id, its TOAST table included; the 50 oldest of the database";
        MXID = Gauge "pg_table_minmxid_age" "mxid_age"
            "Age of the table's oldest multixact id, its TOAST table included; of the same 50 tables";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "table_freeze",
    reads: "pg_class",
    tier: Tier::Slow,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT current_database() AS datname, n.nspname AS schemaname, c.relname, \
           greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS xid_age, \
           greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid)) AS mxid_age \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
         WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' \
         ORDER BY greatest(age(c.relfrozenxid), age(t.relfrozenxid)) DESC, c.oid LIMIT 50",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname", "schemaname", "relname"], AGES)
}
