//! Who replicates from this server, from whom it replicates, and what slots hold back.

use serde::Serialize;
use surus_pg::{RowError, Rows, Sql};

/// The receivers of a primary or of a cascading standby, and a standby's own source.
pub fn nodes_sql(in_recovery: bool) -> String {
    let here = position(in_recovery);
    format!(
        "SELECT application_name AS name, coalesce(host(client_addr), 'local') AS address, state, sync_state, \
           pg_wal_lsn_diff({here}, sent_lsn) AS unsent, pg_wal_lsn_diff({here}, flush_lsn) AS unflushed, \
           pg_wal_lsn_diff({here}, replay_lsn) AS unreplayed, extract(epoch FROM replay_lag) AS lag_s \
         FROM pg_stat_replication \
         UNION ALL SELECT 'from ' || coalesce(sender_host, 'its source') || coalesce(':' || sender_port, ''), '', status, \
           'received', NULL, NULL, pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), \
           extract(epoch FROM clock_timestamp() - last_msg_receipt_time) FROM pg_stat_wal_receiver ORDER BY name LIMIT 200"
    )
}

const STATUS: [Sql; 2] = [Sql::since(13, "wal_status"), Sql::until(12, "NULL::text AS wal_status")];

/// The slots.
pub fn slots_sql(major: u16, in_recovery: bool) -> String {
    let here = position(in_recovery);
    format!(
        "SELECT slot_name AS name, slot_type AS kind, active, {status}, coalesce(database, '') AS database, \
           pg_wal_lsn_diff({here}, restart_lsn) AS retained, age(xmin) AS xmin_age, age(catalog_xmin) AS catalog_xmin_age \
         FROM pg_replication_slots ORDER BY retained DESC NULLS LAST LIMIT 200",
        status = Sql::of_major(&STATUS, major).unwrap_or("wal_status"),
    )
}

fn position(in_recovery: bool) -> &'static str {
    if in_recovery { "pg_last_wal_receive_lsn()" } else { "pg_current_wal_lsn()" }
}

/// A stream of WAL to or from another server.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Node {
    pub name: String,
    pub address: String,
    pub state: String,
    pub sync_state: String,
    pub unsent_bytes: Option<f64>,
    pub unflushed_bytes: Option<f64>,
    pub unreplayed_bytes: Option<f64>,
    /// Replay lag as the receiver reported it; for the own source, since when nothing was heard of it.
    pub lag_s: Option<f64>,
}

/// A replication slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Slot {
    pub name: String,
    pub kind: String,
    pub database: String,
    pub active: bool,
    pub wal_status: String,
    pub retained_bytes: Option<f64>,
    /// Transactions by which it holds the horizon back.
    pub xmin_age: Option<i64>,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Replication {
    pub nodes: Vec<Node>,
    pub slots: Vec<Slot>,
}

impl Replication {
    /// Reads both answers.
    ///
    /// # Errors
    /// When they have another shape.
    pub fn read(nodes: &Rows, slots: &Rows) -> Result<Self, RowError> {
        let mut replication = Self::default();
        for row in nodes.iter() {
            replication.nodes.push(Node {
                name: row.text("name")?,
                address: row.text("address")?,
                state: row.text("state")?,
                sync_state: row.text("sync_state")?,
                unsent_bytes: row.opt_f64("unsent")?,
                unflushed_bytes: row.opt_f64("unflushed")?,
                unreplayed_bytes: row.opt_f64("unreplayed")?,
                lag_s: row.opt_f64("lag_s")?,
            });
        }
        for row in slots.iter() {
            replication.slots.push(Slot {
                name: row.text("name")?,
                kind: row.text("kind")?,
                database: row.text("database")?,
                active: row.bool("active")?,
                wal_status: row.text("wal_status")?,
                retained_bytes: row.opt_f64("retained")?,
                xmin_age: row.opt_i64("xmin_age")?.max(row.opt_i64("catalog_xmin_age")?),
            });
        }
        Ok(replication)
    }
}
