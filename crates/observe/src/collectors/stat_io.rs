//! pg_stat_io: reads and writes by kind of process, object and context. Combinations that never did anything are left
//! out; there are about eighty, and most stay at zero for ever.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    IO ["backend_type", "object", "context"] {
        READS = Counter "pg_stat_io_reads_total" "reads" "Read operations";
        READ_BYTES = Counter "pg_stat_io_read_bytes_total" "read_bytes" "Bytes read";
        READ_SECONDS = Counter "pg_stat_io_read_seconds_total" "read_seconds" "Seconds spent reading, when track_io_timing is on";
        WRITES = Counter "pg_stat_io_writes_total" "writes" "Write operations";
        WRITE_BYTES = Counter "pg_stat_io_write_bytes_total" "write_bytes" "Bytes written";
        WRITE_SECONDS = Counter "pg_stat_io_write_seconds_total" "write_seconds"
            "Seconds spent writing, when track_io_timing is on";
        WRITEBACKS = Counter "pg_stat_io_writebacks_total" "writebacks" "Blocks that the kernel was asked to write out";
        WRITEBACK_SECONDS = Counter "pg_stat_io_writeback_seconds_total" "writeback_seconds"
            "Seconds spent asking the kernel to write out, when track_io_timing is on";
        EXTENDS = Counter "pg_stat_io_extends_total" "extends" "Operations that made a file longer";
        EXTEND_BYTES = Counter "pg_stat_io_extend_bytes_total" "extend_bytes" "Bytes by which files were made longer";
        EXTEND_SECONDS = Counter "pg_stat_io_extend_seconds_total" "extend_seconds"
            "Seconds spent making files longer, when track_io_timing is on";
        HITS = Counter "pg_stat_io_hits_total" "hits" "Blocks found in a buffer";
        EVICTIONS = Counter "pg_stat_io_evictions_total" "evictions" "Blocks put out of a buffer to make room for another";
        REUSES = Counter "pg_stat_io_reuses_total" "reuses" "Buffers of a ring that were used again";
        FSYNCS = Counter "pg_stat_io_fsyncs_total" "fsyncs" "Files made durable";
        FSYNC_SECONDS = Counter "pg_stat_io_fsync_seconds_total" "fsync_seconds"
            "Seconds spent making files durable, when track_io_timing is on";
    }
}

macro_rules! io {
    ($bytes:literal) => {
        concat!(
            "SELECT backend_type, object, context, reads, writes, writebacks, extends, hits, evictions, reuses, fsyncs, \
               read_time / 1000 AS read_seconds, write_time / 1000 AS write_seconds, \
               writeback_time / 1000 AS writeback_seconds, extend_time / 1000 AS extend_seconds, \
               fsync_time / 1000 AS fsync_seconds, ",
            $bytes,
            " FROM pg_stat_get_io() WHERE coalesce(reads, 0) + coalesce(writes, 0) + coalesce(writebacks, 0) \
               + coalesce(extends, 0) + coalesce(hits, 0) + coalesce(evictions, 0) + coalesce(reuses, 0) \
               + coalesce(fsyncs, 0) > 0"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_io",
    reads: "pg_stat_io",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(16)],
    families: FAMILIES,
    sql: &[
        Sql {
            from: 16,
            to: 17,
            text: io!(
                "reads * op_bytes AS read_bytes, writes * op_bytes AS write_bytes, extends * op_bytes AS extend_bytes"
            ),
        },
        Sql::since(18, io!("read_bytes, write_bytes, extend_bytes")),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["backend_type", "object", "context"], IO)
}
