//! pg_stat_wal_receiver: what a standby receives. The exporter says nothing without a slot; here it is just no label.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    RECEIVER ["upstream_host", "slot_name", "status"] {
        START_LSN = Counter "pg_stat_wal_receiver_receive_start_lsn" "start_lsn"
            "Position where the WAL receiver began, as a number";
        START_TLI = Gauge "pg_stat_wal_receiver_receive_start_tli" "start_tli" "Timeline where the WAL receiver began";
        FLUSHED = Counter "pg_stat_wal_receiver_flushed_lsn" "flushed" "Position received and durable, as a number";
        RECEIVED_TLI = Gauge "pg_stat_wal_receiver_received_tli" "received_tli" "Timeline of what was received last";
        SEND_TIME = Counter "pg_stat_wal_receiver_last_msg_send_time" "send_time"
            "When the last message was sent by the upstream's clock, in seconds since 1970";
        RECEIPT_TIME = Counter "pg_stat_wal_receiver_last_msg_receipt_time" "receipt_time"
            "When the last message arrived, in seconds since 1970";
        END_LSN = Counter "pg_stat_wal_receiver_latest_end_lsn" "end_lsn"
            "Last position reported to the upstream, as a number";
        END_TIME = Counter "pg_stat_wal_receiver_latest_end_time" "end_time"
            "When a position was last reported to the upstream, in seconds since 1970";
        UPSTREAM_NODE = Gauge "pg_stat_wal_receiver_upstream_node" "upstream_node"
            "The node's number in a slot name of repmgr";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_wal_receiver",
    reads: "pg_stat_wal_receiver",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[Need::Stats],
    families: FAMILIES,
    // sender_host is the host in use, also where the connection string names several.
    sql: &[Sql::all(
        "SELECT sender_host AS upstream_host, slot_name, status, (receive_start_lsn - '0/0') % (2 ^ 52)::bigint AS start_lsn, \
           receive_start_tli AS start_tli, (flushed_lsn - '0/0') % (2 ^ 52)::bigint AS flushed, received_tli, \
           extract(epoch FROM last_msg_send_time) AS send_time, extract(epoch FROM last_msg_receipt_time) AS receipt_time, \
           (latest_end_lsn - '0/0') % (2 ^ 52)::bigint AS end_lsn, extract(epoch FROM latest_end_time) AS end_time, \
           nullif(substring(slot_name FROM 'repmgr_slot_([0-9]*)'), '') AS upstream_node FROM pg_stat_wal_receiver",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["upstream_host", "slot_name", "status"], RECEIVER)
}
