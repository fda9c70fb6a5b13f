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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::collectors::table_freeze;
    use surus_testkit::Server;

    #[test]
    fn ages_grow_with_every_transaction() {
        let server = Server::builder().autovacuum(false).start();
        server.sql("CREATE TABLE t (id int); ALTER DATABASE template1 CONNECTION LIMIT 5");
        let both = [&COLLECTOR, &table_freeze::COLLECTOR];
        let before = heard(&server, "postgres", &both);
        for _ in 0..5 {
            server.sql("INSERT INTO t VALUES (1)");
        }
        let after = heard(&server, "postgres", &both);
        let grown = |name: &str, labels: &[(&str, &str)]| after.value(name, labels) - before.value(name, labels);
        assert_eq!(grown("pg_database_wraparound_age_datfrozenxid_seconds", &[("datname", "postgres")]), 5.0);
        assert_eq!(grown("pg_table_frozenxid_age", &[("schemaname", "pg_catalog"), ("relname", "pg_class")]), 5.0);
        assert_eq!(after.points["pg_table_frozenxid_age"].len(), 50);
        assert_eq!(after.value("pg_database_connection_limit", &[("datname", "template1")]), 5.0);
        assert_eq!(after.value("pg_database_connection_limit", &[("datname", "template0")]), -1.0);
        assert_eq!(after.maybe("pg_database_wraparound_age_datminmxid_seconds", &[("datname", "template0")]), None);
    }
}
