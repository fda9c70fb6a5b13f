//! Open transactions, and how old the oldest is.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        COUNT = Gauge "pg_long_running_transactions" "open_tx" "Open transactions, without autovacuum's";
        OLDEST = Gauge "pg_long_running_transactions_oldest_timestamp_seconds" "oldest_tx"
            "Age in seconds of the oldest open transaction, without autovacuum's; 0 when there is none";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "long_running_transactions",
    reads: "pg_stat_activity",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT count(*) AS open_tx, \
           coalesce(max(greatest(extract(epoch FROM clock_timestamp() - xact_start), 0)), 0) AS oldest_tx \
         FROM pg_stat_get_activity(NULL) WHERE xact_start IS NOT NULL AND state IS DISTINCT FROM 'idle' \
           AND backend_type IS DISTINCT FROM 'autovacuum worker' AND pid <> pg_backend_pid()",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_pg::Manners;
    use surus_testkit::Server;

    #[test]
    fn one_that_is_left_open() {
        let server = Server::builder().start();
        assert_eq!(heard(&server, "postgres", &[&COLLECTOR]).value("pg_long_running_transactions", &[]), 0.0);
        let runtime = runtime();
        let idle = runtime.block_on(server.session("postgres", &Manners::changing()));
        runtime.block_on(idle.run("BEGIN; SELECT 1")).unwrap();
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        assert_eq!(heard.value("pg_long_running_transactions", &[]), 1.0);
        assert!(heard.value("pg_long_running_transactions_oldest_timestamp_seconds", &[]) > 0.0);
        runtime.block_on(idle.close());
    }
}
