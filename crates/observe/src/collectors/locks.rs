//! Locks held and awaited, by database and mode.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use std::collections::BTreeMap;
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql};

families! {
    BY_MODE ["datname", "mode"] {
        COUNT = Gauge "pg_locks_count" "" "Locks of the database in this mode, held or awaited";
    }
    BY_DATABASE ["datname"] {
        WAITING = Gauge "pg_locks_waiting" "" "Locks of the database that a session waits for";
    }
}

/// Every database has a series for each of these, so that a rule sees 0 and not nothing.
const MODES: &[&str] = &[
    "accesssharelock",
    "rowsharelock",
    "rowexclusivelock",
    "shareupdateexclusivelock",
    "sharelock",
    "sharerowexclusivelock",
    "exclusivelock",
    "accessexclusivelock",
    "sireadlock",
];

pub static COLLECTOR: Collector = Collector {
    name: "locks",
    reads: "pg_locks",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT d.datname, l.mode, l.locks, l.waiting FROM pg_database d LEFT JOIN (SELECT database, \
           lower(mode) AS mode, count(*) AS locks, count(*) FILTER (WHERE NOT granted) AS waiting \
         FROM pg_lock_status() WHERE database IS NOT NULL GROUP BY database, lower(mode)) l ON l.database = d.oid",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let mut databases: BTreeMap<&str, (f64, BTreeMap<&str, f64>)> = BTreeMap::new();
    for row in rows.iter() {
        let (waiting, modes) = databases.entry(row.str("datname")?).or_default();
        if let Some(mode) = row.opt_str("mode")? {
            modes.insert(mode, row.f64("locks")?);
            *waiting += row.f64("waiting")?;
        }
    }
    for (database, (waiting, mut modes)) in databases {
        for mode in MODES {
            modes.entry(mode).or_insert(0.0);
        }
        for (mode, locks) in modes {
            page.put(&COUNT, &Labels::merged([("datname", database), ("mode", mode)]), locks);
        }
        page.put(&WAITING, &Labels::merged([("datname", database)]), waiting);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::collectors::{table_size, user_tables};
    use surus_pg::Manners;
    use surus_testkit::Server;

    /// A lock is counted, whoever waits for it too, and nobody who reads sizes or counters waits.
    #[test]
    fn a_table_held_exclusively() {
        let server = Server::builder().start();
        server.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int); INSERT INTO u VALUES (1)");
        let runtime = runtime();
        let holder = runtime.block_on(server.session("postgres", &Manners::changing()));
        runtime.block_on(holder.run("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")).unwrap();
        let heard = heard(&server, "postgres", &[&COLLECTOR, &table_size::COLLECTOR, &user_tables::COLLECTOR]);
        let mode = [("datname", "postgres"), ("mode", "accessexclusivelock")];
        assert_eq!(heard.value("pg_locks_count", &mode), 1.0);
        assert_eq!(heard.value("pg_locks_waiting", &[("datname", "postgres")]), 0.0);
        assert_eq!(heard.value("pg_locks_count", &[("datname", "template1"), ("mode", "sharelock")]), 0.0);
        let skipped = [("collector", "table_size"), ("datname", "postgres")];
        assert_eq!(heard.value("surus_collector_skipped_relations", &skipped), 1.0);
        assert_eq!(heard.maybe("pg_stat_user_tables_table_size_bytes", &[("relname", "t")]), None);
        assert_eq!(heard.value("pg_stat_user_tables_table_size_bytes", &[("relname", "u")]), 8192.0);
        assert_eq!(heard.value("pg_stat_user_tables_n_tup_ins", &[("relname", "t")]), 0.0);
        runtime.block_on(holder.close());
    }
}
