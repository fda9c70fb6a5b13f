//! Sessions with the labels of the exporter since 0.17: user, application, kind of backend, wait event. For those whose
//! rules need them; run it instead of `stat_activity`, whose series have the same names, or sums count twice.

use crate::collector::{Collector, Limit, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

const LABELS: &[&str] =
    &["datname", "state", "usename", "application_name", "backend_type", "wait_event_type", "wait_event"];

families! {
    limited;
    SESSIONS
        ["datname", "state", "usename", "application_name", "backend_type", "wait_event_type", "wait_event"] {
        COUNT = Gauge "pg_stat_activity_count" "sessions" "Sessions of the database in this state";
        MAX_TX = Gauge "pg_stat_activity_max_tx_duration" "max_tx"
            "Seconds since the oldest open transaction began among these sessions";
    }
}

const MOST: usize = 1_000;

pub static COLLECTOR: Collector = Collector {
    name: "stat_activity_fine",
    reads: "pg_stat_activity",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT d.datname, s.state, a.usename, a.application_name, a.backend_type, a.wait_event_type, a.wait_event, \
           count(a.pid) AS sessions, \
           coalesce(max(greatest(extract(epoch FROM now() - a.xact_start), 0)), 0) AS max_tx \
         FROM pg_database d CROSS JOIN (VALUES ('active'), ('idle'), ('idle in transaction'), \
           ('idle in transaction (aborted)'), ('fastpath function call'), ('disabled')) s (state) \
         LEFT JOIN pg_stat_activity a ON a.datid = d.oid AND a.state = s.state AND a.pid <> pg_backend_pid() \
         GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY sessions DESC, 1, 2, 3, 4, 5, 6, 7 LIMIT 1001",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.limited(rows, &Limit { collector: COLLECTOR.name, database: "", rows: MOST }, LABELS, SESSIONS)
}
