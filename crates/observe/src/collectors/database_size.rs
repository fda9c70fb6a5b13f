//! How much disk space each database uses.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    SIZES ["datname"] {
        SIZE = Gauge "pg_database_size_bytes" "size" "Disk space that the database uses";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "database_size",
    reads: "pg_database_size()",
    tier: Tier::Slow,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    // By number: a database that is dropped meanwhile has no size instead of failing the query.
    sql: &[Sql::all("SELECT datname, pg_database_size(oid) AS size FROM pg_database")],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname"], SIZES)
}
