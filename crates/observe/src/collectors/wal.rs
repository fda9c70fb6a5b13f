//! pg_stat_wal: how much WAL is written, and why.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    PLAIN [] {
        RECORDS = Counter "pg_stat_wal_records_total" "wal_records" "WAL records written";
        FPI = Counter "pg_stat_wal_fpi_total" "wal_fpi" "Full page images written to the WAL";
        BYTES = Counter "pg_stat_wal_bytes_total" "wal_bytes" "Bytes of WAL written";
        BUFFERS_FULL = Counter "pg_stat_wal_buffers_full_total" "wal_buffers_full"
            "How often WAL had to be written out because its buffers were full";
        WRITES = Counter "pg_stat_wal_writes_total" "wal_write" "Writes of WAL buffers to disk; since 18 from pg_stat_io";
        SYNCS = Counter "pg_stat_wal_syncs_total" "wal_sync"
            "How often WAL files were made durable; since 18 from pg_stat_io";
        WRITE_SECONDS = Counter "pg_stat_wal_write_seconds_total" "write_seconds"
            "Seconds spent writing WAL buffers to disk, when track_wal_io_timing is on";
        SYNC_SECONDS = Counter "pg_stat_wal_sync_seconds_total" "sync_seconds"
            "Seconds spent making WAL files durable, when track_wal_io_timing is on";
    }
}

pub static COLLECTOR: Collector = Collector {
    name: "wal",
    reads: "pg_stat_wal; since 18 pg_stat_io too",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(14)],
    families: FAMILIES,
    sql: &[
        Sql {
            from: 14,
            to: 17,
            text: "SELECT wal_records, wal_fpi, wal_bytes, wal_buffers_full, wal_write, wal_sync, \
                     wal_write_time / 1000 AS write_seconds, wal_sync_time / 1000 AS sync_seconds FROM pg_stat_wal",
        },
        Sql::since(
            18,
            "SELECT wal_records, wal_fpi, wal_bytes, wal_buffers_full, io.* FROM pg_stat_wal, (SELECT \
               sum(writes) AS wal_write, sum(fsyncs) AS wal_sync, sum(write_time) / 1000 AS write_seconds, \
               sum(fsync_time) / 1000 AS sync_seconds FROM pg_stat_io WHERE object = 'wal') io",
        ),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], PLAIN)
}
