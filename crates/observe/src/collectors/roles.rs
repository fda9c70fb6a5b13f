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

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_testkit::Server;

    /// What is left out because of a limit is said, and those with a limit of their own come first.
    #[test]
    fn more_roles_than_are_told() {
        let server = Server::builder().start();
        let truncated = |heard: &Heard| heard.value("surus_collector_truncated", &[("collector", "roles")]);
        assert_eq!(truncated(&heard(&server, "postgres", &[&COLLECTOR])), 0.0);
        server.sql(
            "DO 'BEGIN FOR n IN 1..1010 LOOP EXECUTE format($$CREATE ROLE r%s$$, n); END LOOP; END'; \
             ALTER ROLE r1010 CONNECTION LIMIT 3",
        );
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        assert_eq!((truncated(&heard), heard.points["pg_roles_connection_limit"].len()), (1.0, MOST));
        assert_eq!(heard.value("pg_roles_connection_limit", &[("rolname", "r1010")]), 3.0);
    }
}
