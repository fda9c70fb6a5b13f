//! pg_stat_replication: how far each standby is behind, as the primary sees it.
//!
//! Two senders can have the same labels (two base backups, two unnamed standbys behind one address). A series can
//! stand only for one of them: it is the one that is farther behind.

use crate::collector::{Collector, Columns, Need, Page, RunsOn, Scene, Scope, Tier, families, labels};
use std::collections::BTreeMap;
use surus_core::series::Labels;
use surus_pg::{RowError, Rows, Sql};

const LABELS: &[&str] = &["application_name", "client_addr", "state", "slot_name"];

families! {
    SENDERS ["application_name", "client_addr", "state", "slot_name"] {
        POSITION = Gauge "pg_stat_replication_pg_current_wal_lsn_bytes" "position"
            "Position in the WAL of the sending server as a number: written on a primary, received on a standby";
        BEHIND = Gauge "pg_stat_replication_pg_wal_lsn_diff" "replay_bytes"
            "Bytes of WAL that the receiver has not replayed yet";
        REPLY_TIME = Gauge "pg_stat_replication_reply_time" "reply_time"
            "When the receiver sent its last message by its own clock, in seconds since 1970";
        SENT_BYTES = Gauge "pg_stat_replication_sent_lag_bytes" "sent_bytes" "Bytes of WAL not sent to the receiver yet";
        WRITE_BYTES = Gauge "pg_stat_replication_write_lag_bytes" "write_bytes"
            "Bytes of WAL that the receiver has not written yet";
        FLUSH_BYTES = Gauge "pg_stat_replication_flush_lag_bytes" "flush_bytes"
            "Bytes of WAL that the receiver has not made durable yet";
        REPLAY_BYTES = Gauge "pg_stat_replication_replay_lag_bytes" "replay_bytes"
            "Bytes of WAL that the receiver has not replayed yet";
        WRITE_SECONDS = Gauge "pg_stat_replication_write_lag_seconds" "write_seconds"
            "Seconds from local flush of WAL to the news that the receiver has written it; 0 when it has all";
        FLUSH_SECONDS = Gauge "pg_stat_replication_flush_lag_seconds" "flush_seconds"
            "Seconds from local flush of WAL to the news that the receiver has made it durable; 0 when it has all";
        REPLAY_SECONDS = Gauge "pg_stat_replication_replay_lag_seconds" "replay_seconds"
            "Seconds from local flush of WAL to the news that the receiver has replayed it: the lag as the sender sees \
             it; 0 when it has all";
        SYNCHRONOUS = Gauge "pg_stat_replication_is_synchronous" "synchronous"
            "1 when commits may wait for this receiver (sync_state sync or quorum), else 0";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_replication",
    reads: "pg_stat_replication, pg_replication_slots",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    families: FAMILIES,
    // The times are NULL once a receiver has everything and for some seconds after it has nothing to tell.
    sql: &[Sql::all(
        "SELECT r.application_name, host(r.client_addr) AS client_addr, r.state, s.slot_name, here.lsn - '0/0' AS position, \
           here.lsn - r.sent_lsn AS sent_bytes, here.lsn - r.write_lsn AS write_bytes, here.lsn - r.flush_lsn AS flush_bytes, \
           here.lsn - r.replay_lsn AS replay_bytes, extract(epoch FROM r.reply_time) AS reply_time, \
           CASE WHEN r.write_lsn >= here.lsn THEN 0 ELSE extract(epoch FROM r.write_lag) END AS write_seconds, \
           CASE WHEN r.flush_lsn >= here.lsn THEN 0 ELSE extract(epoch FROM r.flush_lag) END AS flush_seconds, \
           CASE WHEN r.replay_lsn >= here.lsn THEN 0 ELSE extract(epoch FROM r.replay_lag) END AS replay_seconds, \
           (r.sync_state IN ('sync', 'quorum'))::int AS synchronous \
         FROM (SELECT w.*, a.application_name, a.client_addr FROM pg_stat_get_wal_senders() w \
             JOIN pg_stat_get_activity(NULL) a ON a.pid = w.pid) r \
           LEFT JOIN pg_get_replication_slots() s ON s.active_pid = r.pid, \
           (SELECT CASE WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
             ELSE pg_current_wal_lsn() END AS lsn) here",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let mut farthest: BTreeMap<Labels, (f64, usize)> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        let behind = row.opt_f64("replay_bytes")?.unwrap_or(0.0);
        let one = farthest.entry(labels(row, LABELS)?).or_insert((behind, at));
        if behind > one.0 {
            *one = (behind, at);
        }
    }
    let senders: &Columns = SENDERS;
    for (at, row) in rows.iter().enumerate() {
        let labels = labels(row, LABELS)?;
        if farthest.get(&labels).is_some_and(|(_, chosen)| *chosen == at) {
            page.columns(&labels, row, senders)?;
        }
    }
    Ok(())
}
