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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_testkit::Server;

    #[test]
    fn one_that_somebody_forgot() {
        let server = Server::builder().setting("max_prepared_transactions", "2").start();
        server.sql("CREATE TABLE t (id int)");
        server.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'forgotten'");
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        assert_eq!(heard.value("pg_prepared_xacts_count", &[("datname", "postgres")]), 1.0);
        assert!(heard.value("pg_prepared_xacts_oldest_age_seconds", &[("datname", "postgres")]) > 0.0);
        assert_eq!(heard.value("pg_prepared_xacts_count", &[("datname", "template1")]), 0.0);
        server.sql("ROLLBACK PREPARED 'forgotten'");
    }
}
