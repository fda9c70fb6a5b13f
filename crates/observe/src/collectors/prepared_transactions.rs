//! Transactions prepared for two-phase commit: they hold locks and keep VACUUM back until somebody ends them.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PREPARED ["datname"] {
        COUNT = Gauge "pg_prepared_xacts_count" "prepared" "Prepared transactions";
        OLDEST = Gauge "pg_prepared_xacts_oldest_age_seconds" "oldest"
            "Seconds since the oldest prepared transaction was prepared; 0 when there is none";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "prepared_transactions",
    reads: "pg_prepared_xacts",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT d.datname, count(x.dbid) AS prepared, \
           coalesce(max(greatest(extract(epoch FROM now() - x.prepared), 0)), 0) AS oldest \
         FROM pg_database d LEFT JOIN pg_prepared_xact() x ON x.dbid = d.oid WHERE d.datallowconn GROUP BY d.datname",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["datname"], PREPARED)
}
