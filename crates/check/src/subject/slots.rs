//! Replication slots, read the same way by every check that is about them.

use crate::rule::Sql;
use surus_core::plan::Plan;
use surus_pg::{Row, RowError, Rows, quote};

/// One slot that outlives its session.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub name: String,
    /// `physical` or `logical`.
    pub kind: String,
    /// The database of a logical slot.
    pub database: String,
    /// Is its consumer connected?
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`; absent when it reserves nothing.
    pub wal_status: Option<String>,
    /// Bytes that may still be written before it is in danger; absent without a limit.
    pub safe_bytes: Option<f64>,
    /// WAL from its position to now.
    pub held_bytes: Option<f64>,
    /// Transactions since its xmin or catalog_xmin, whichever is older.
    pub xmin_age: Option<f64>,
    /// Why it cannot be used any more, where the major says so.
    pub invalid: Option<String>,
}

/// What all majors have.
macro_rules! slot_columns {
    () => {
        "slot_name AS name, slot_type AS kind, coalesce(database, '') AS database, active, wal_status, \
         safe_wal_size AS safe_bytes, \
         pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
           ELSE pg_current_wal_lsn() END, restart_lsn)::bigint AS held_bytes, \
         greatest(age(xmin), age(catalog_xmin)) AS xmin_age \
         FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name"
    };
}

/// Every slot of a major; what a major does not have is NULL.
pub(crate) const SQL: &[Sql] = &[
    Sql::since(17, concat!("SELECT invalidation_reason AS invalid, ", slot_columns!())),
    Sql {
        from: 16,
        to: 16,
        text: concat!("SELECT CASE WHEN conflicting THEN 'conflict with recovery' END AS invalid, ", slot_columns!()),
    },
    Sql::until(15, concat!("SELECT NULL AS invalid, ", slot_columns!())),
];

impl Slot {
    /// All rows of [`SQL`].
    pub fn all(rows: &Rows) -> Result<Vec<Self>, RowError> {
        rows.iter().map(|row| Self::read(&row)).collect()
    }

    fn read(row: &Row<'_>) -> Result<Self, RowError> {
        Ok(Self {
            name: row.text("name")?,
            kind: row.text("kind")?,
            database: row.text("database")?,
            active: row.bool("active")?,
            wal_status: row.opt_str("wal_status")?.map(str::to_owned),
            safe_bytes: row.opt_f64("safe_bytes")?,
            held_bytes: row.opt_f64("held_bytes")?.map(|bytes| bytes.max(0.0)),
            xmin_age: row.opt_f64("xmin_age")?,
            invalid: row.opt_str("invalid")?.map(str::to_owned),
        })
    }

    /// Can it not be used any more?
    pub fn is_dead(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalid.is_some()
    }

    /// Its consumer's state in words.
    pub fn state(&self) -> &'static str {
        if self.active { "its consumer is connected" } else { "nobody is connected to it" }
    }
}

/// Bring back the consumer, or drop the slot; only a person knows which.
pub(crate) fn revive_or_drop(name: &str) -> Plan {
    Plan::advice(format!("bring the consumer of slot {name} back; if it is gone for good: {}", drop_sql(name)))
}

/// The statement that drops a slot.
pub(crate) fn drop_sql(name: &str) -> String {
    format!("SELECT pg_drop_replication_slot({})", quote::literal(name))
}
