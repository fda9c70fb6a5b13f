//! How many sessions each role may have.

use crate::collector::{Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    limited;
    ROLES ["rolname"] {
        LIMIT = Gauge "pg_roles_connection_limit" "connection_limit"
            "How many sessions the role may have at once; -1 for no limit";
    }
}

const MOST: usize = 1_000;

pub static COLLECTOR: Collector = Collector {
    name: "roles",
    reads: "pg_roles",
    tier: Tier::Slow,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    // Those with a limit first: they are what somebody wants to see.
    sql: &[Sql::all(
        "SELECT rolname, rolconnlimit AS connection_limit FROM pg_roles ORDER BY rolconnlimit < 0, oid LIMIT 1001",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.limited(rows, &Limit { collector: COLLECTOR.name, database: "", rows: MOST }, &["rolname"], ROLES)
}
