//! Sessions by database and state.
//!
//! The labels are the coarse ones of the exporter's 0.11: `datname` and `state`. Its later versions add the user, the
//! application and the wait event, which changes what `by()` and `on()` give and makes many short-lived series; the
//! collector `stat_activity_fine` has them for those who want them. surus's own session is not counted.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql};

families! {
    BY_STATE ["datname", "state"] {
        COUNT = Gauge "pg_stat_activity_count" "" "Sessions of the database in this state";
        MAX_TX = Gauge "pg_stat_activity_max_tx_duration" ""
            "Seconds since the oldest open transaction began among the sessions of the database in this state";
    }
}

/// Every database has a series for each of these, so that a rule sees 0 and not nothing.
const STATES: &[&str] =
    &["active", "idle", "idle in transaction", "idle in transaction (aborted)", "fastpath function call", "disabled"];

pub static COLLECTOR: Collector = Collector {
    name: "stat_activity",
    reads: "pg_stat_activity",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT d.datname, s.* FROM pg_database d LEFT JOIN (SELECT datid, state, count(*) AS sessions, \
           max(greatest(extract(epoch FROM now() - xact_start), 0)) AS max_tx \
         FROM pg_stat_get_activity(NULL) WHERE pid <> pg_backend_pid() GROUP BY datid, state) s ON s.datid = d.oid",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let (mut databases, mut seen) = (BTreeSet::new(), BTreeMap::new());
    for row in rows.iter() {
        let database = row.str("datname")?;
        databases.insert(database);
        if let Some(state) = row.opt_str("state")? {
            seen.insert((database, state), (row.f64("sessions")?, row.opt_f64("max_tx")?.unwrap_or(0.0)));
        }
    }
    for database in databases {
        for state in STATES {
            seen.entry((database, state)).or_insert((0.0, 0.0));
        }
    }
    for ((database, state), (sessions, max_tx)) in seen {
        let labels = Labels::merged([("datname", database), ("state", state)]);
        page.put(&COUNT, &labels, sessions);
        page.put(&MAX_TX, &labels, max_tx);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_pg::Manners;
    use surus_testkit::Server;

    #[test]
    fn a_session_is_counted_by_its_state_and_surus_is_not() {
        let server = Server::builder().start();
        server.create_database("other");
        let runtime = runtime();
        let idle = runtime.block_on(server.session("other", &Manners::changing()));
        runtime.block_on(idle.run("BEGIN; SELECT 1")).unwrap();
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        let state = |database: &'static str, state: &'static str| [("datname", database), ("state", state)];
        assert_eq!(heard.value("pg_stat_activity_count", &state("other", "idle in transaction")), 1.0);
        assert!(heard.value("pg_stat_activity_max_tx_duration", &state("other", "idle in transaction")) > 0.0);
        assert_eq!(heard.value("pg_stat_activity_count", &state("postgres", "active")), 0.0);
        assert_eq!(heard.value("pg_stat_activity_count", &state("template0", "idle")), 0.0);
        assert_eq!(heard.points["pg_stat_activity_count"].len(), 4 * STATES.len());
        runtime.block_on(idle.close());
    }
}
