//! What there is one of per instance: version, start, transaction ids, position in the WAL.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    STATIC ["version", "short_version"] {
        VERSION = Unknown "pg_static" "" "Always 1; the labels hold the version as the server tells it and as a number";
    }
    PLAIN [] {
        START = Gauge "pg_postmaster_start_time_seconds" "started" "When the server was started, in seconds since 1970";
        NEXT_XID = Gauge "pg_txid_current" "next_xid"
            "The next transaction id, with its epoch; read without using one up, and on a standby as replayed";
        POSITION = Gauge "pg_xlog_location_bytes" "position"
            "Position in the WAL as a number, its low 52 bits: written on a primary, replayed on a standby";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "instance",
    reads: "version(), pg_postmaster_start_time(), pg_current_snapshot(), pg_current_wal_lsn()",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::all(
        "SELECT version() AS version, extract(epoch FROM pg_postmaster_start_time()) AS started, \
           pg_snapshot_xmax(pg_current_snapshot()) AS next_xid, \
           (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0') \
             % (2 ^ 52)::bigint AS position",
    )],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let row = rows.first()?;
    let num = scene.facts.version.num();
    // The exporter fills the version up to three numbers.
    let short = format!("{}.{}.0", num / 10_000, num % 10_000);
    page.tell(&VERSION, [("version", row.str("version")?), ("short_version", &short)], 1.0);
    page.table(rows, &[], PLAIN)
}
