//! What each database may have and how old its oldest unfrozen transaction is.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql};

families! {
    LIMIT ["datname"] {
        CONNECTION_LIMIT = Gauge "pg_database_connection_limit" "connection_limit"
            "How many sessions the database allows at once; -1 for no limit";
    }
    AGES ["datname"] {
        XID_AGE = Gauge "pg_database_wraparound_age_datfrozenxid_seconds" "xid_age"
            "Age of the database's oldest unfrozen transaction id, in transactions in spite of the name";
        MXID_AGE = Gauge "pg_database_wraparound_age_datminmxid_seconds" "mxid_age"
            "Age of the database's oldest multixact id, in multixacts in spite of the name";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "database",
    reads: "pg_database",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT datname, datconnlimit AS connection_limit, datallowconn AS open, age(datfrozenxid) AS xid_age, \
           mxid_age(datminmxid) AS mxid_age FROM pg_database",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for row in rows.iter() {
        let labels = Labels::merged([("datname", row.str("datname")?)]);
        page.columns(&labels, row, LIMIT)?;
        // template0 is frozen and nobody can open it; the exporter leaves it out too.
        if row.bool("open")? {
            page.columns(&labels, row, AGES)?;
        }
    }
    Ok(())
}
