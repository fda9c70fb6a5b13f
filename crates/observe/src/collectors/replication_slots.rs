//! pg_replication_slots: who keeps WAL and old rows from going away.
//!
//! The exporter had `pg_replication_slots_active` and `_pg_wal_lsn_diff` at first, `pg_replication_slot_*` from 0.12
//! and `pg_replication_slots_*` since 0.20; all are spoken.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, labels};
use surus_pg::{RowError, Rows, Sql};

families! {
    FIRST ["slot_name", "database"] {
        ACTIVE = Gauge "pg_replication_slots_active" "active" "1 while somebody uses the slot, else 0";
        DIFF = Gauge "pg_replication_slots_pg_wal_lsn_diff" "retained"
            "Bytes of WAL from the oldest that the slot may still need up to now";
    }
    NOW ["slot_name", "slot_type"] {
        CURRENT = Gauge "pg_replication_slots_slot_current_wal_lsn" "position"
            "Position in the WAL as a number: written on a primary, received on a standby";
        FLUSHED = Gauge "pg_replication_slots_slot_confirmed_flush_lsn" "flushed"
            "Position up to which the consumer of an active logical slot has confirmed, as a number; 0 for physical slots";
        IS_ACTIVE = Gauge "pg_replication_slots_slot_is_active" "active" "1 while somebody uses the slot, else 0";
        SAFE = Gauge "pg_replication_slots_safe_wal_size_bytes" "safe"
            "Bytes of WAL that can still be written before the slot may be lost; absent without max_slot_wal_keep_size";
        RETAINED = Gauge "pg_replication_slots_retained_bytes" "retained"
            "Bytes of WAL from the oldest that the slot may still need up to now";
        XMIN_AGE = Gauge "pg_replication_slots_xmin_age" "xmin_age"
            "Age of the oldest transaction whose rows the slot keeps VACUUM from removing; absent when it keeps none";
        CATALOG_XMIN_AGE = Gauge "pg_replication_slots_catalog_xmin_age" "catalog_xmin_age"
            "As xmin_age, for rows of the system catalogs";
        INACTIVE = Gauge "pg_replication_slots_inactive_seconds" "inactive"
            "Seconds since the slot was last used (17 and newer); absent while it is";
    }
    BETWEEN ["slot_name", "slot_type"] {
        OLD_CURRENT = Gauge "pg_replication_slot_slot_current_wal_lsn" "position"
            "Position in the WAL as a number: written on a primary, received on a standby";
        OLD_FLUSHED = Gauge "pg_replication_slot_slot_confirmed_flush_lsn" "flushed"
            "Position up to which the consumer of an active logical slot has confirmed, as a number; 0 for physical slots";
        OLD_IS_ACTIVE = Gauge "pg_replication_slot_slot_is_active" "active" "1 while somebody uses the slot, else 0";
        OLD_SAFE = Gauge "pg_replication_slot_safe_wal_size_bytes" "safe"
            "Bytes of WAL that can still be written before the slot may be lost; absent without max_slot_wal_keep_size";
    }
    STATUS ["slot_name", "slot_type", "wal_status"] {
        WAL_STATUS = Gauge "pg_replication_slots_wal_status" "one"
            "Always 1; wal_status says whether the WAL that the slot needs is still there";
        OLD_WAL_STATUS = Gauge "pg_replication_slot_wal_status" "one"
            "Always 1; wal_status says whether the WAL that the slot needs is still there";
    }
}

macro_rules! slots {
    ($inactive:literal) => {
        concat!(
            "SELECT slot_name, database, slot_type, active::int AS active, wal_status, 1 AS one, \
               here.lsn - restart_lsn AS retained, here.lsn - '0/0' AS position, \
               CASE WHEN active THEN coalesce(confirmed_flush_lsn, '0/0') - '0/0' END AS flushed, safe_wal_size AS safe, \
               age(xmin) AS xmin_age, age(catalog_xmin) AS catalog_xmin_age, ",
            $inactive,
            " AS inactive FROM pg_replication_slots, (SELECT CASE WHEN pg_is_in_recovery() \
               THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS lsn) here"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "replication_slots",
    reads: "pg_replication_slots",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(16, slots!("NULL")),
        Sql::since(17, slots!("CASE WHEN NOT active THEN extract(epoch FROM now() - inactive_since) END")),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["slot_name", "database"], FIRST)?;
    page.table(rows, &["slot_name", "slot_type"], NOW)?;
    page.table(rows, &["slot_name", "slot_type"], BETWEEN)?;
    for row in rows.iter().filter(|row| row.opt_str("wal_status").is_ok_and(|status| status.is_some())) {
        page.columns(&labels(row, &["slot_name", "slot_type", "wal_status"])?, row, STATUS)?;
    }
    Ok(())
}
