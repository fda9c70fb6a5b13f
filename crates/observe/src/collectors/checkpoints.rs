//! Checkpoints and the background writer, under the names of every era on every major.
//!
//! Until 16 all counters are in pg_stat_bgwriter; 17 moved those of checkpoints to pg_stat_checkpointer and dropped
//! what backends write themselves, which pg_stat_io still counts. The exporter called them by the columns' names at
//! first, since 0.11 with `_total`, and on 17 `pg_stat_checkpointer_*`. Rules know all three.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    BEFORE_0_11 [] {
        OLD_TIMED = Counter "pg_stat_bgwriter_checkpoints_timed" "timed" "Checkpoints begun because it was time";
        OLD_REQUESTED = Counter "pg_stat_bgwriter_checkpoints_req" "requested" "Checkpoints begun on request";
        OLD_WRITE = Counter "pg_stat_bgwriter_checkpoint_write_time" "write_time"
            "Milliseconds that checkpoints spent writing files";
        OLD_SYNC = Counter "pg_stat_bgwriter_checkpoint_sync_time" "sync_time"
            "Milliseconds that checkpoints spent making files durable";
        OLD_BUFFERS = Counter "pg_stat_bgwriter_buffers_checkpoint" "buffers_checkpoint" "Buffers written by checkpoints";
        OLD_CLEAN = Counter "pg_stat_bgwriter_buffers_clean" "buffers_clean"
            "Buffers written by the background writer";
        OLD_MAXWRITTEN = Counter "pg_stat_bgwriter_maxwritten_clean" "maxwritten_clean"
            "How often the background writer stopped because it had written enough for one round";
        OLD_BACKEND = Counter "pg_stat_bgwriter_buffers_backend" "buffers_backend"
            "Buffers that backends wrote or extended a file by themselves; since 17 from pg_stat_io";
        OLD_BACKEND_FSYNC = Counter "pg_stat_bgwriter_buffers_backend_fsync" "buffers_backend_fsync"
            "How often a backend had to make a file durable itself; since 17 from pg_stat_io";
        OLD_ALLOC = Counter "pg_stat_bgwriter_buffers_alloc" "buffers_alloc" "Buffers allocated";
        OLD_RESET = Counter "pg_stat_bgwriter_stats_reset" "bgwriter_reset"
            "When these counters began, in seconds since 1970";
    }
    SINCE_0_11 [] {
        TIMED = Counter "pg_stat_bgwriter_checkpoints_timed_total" "timed" "Checkpoints begun because it was time";
        REQUESTED = Counter "pg_stat_bgwriter_checkpoints_req_total" "requested" "Checkpoints begun on request";
        WRITE = Counter "pg_stat_bgwriter_checkpoint_write_time_total" "write_time"
            "Milliseconds that checkpoints spent writing files";
        SYNC = Counter "pg_stat_bgwriter_checkpoint_sync_time_total" "sync_time"
            "Milliseconds that checkpoints spent making files durable";
        BUFFERS = Counter "pg_stat_bgwriter_buffers_checkpoint_total" "buffers_checkpoint"
            "Buffers written by checkpoints";
        CLEAN = Counter "pg_stat_bgwriter_buffers_clean_total" "buffers_clean"
            "Buffers written by the background writer";
        MAXWRITTEN = Counter "pg_stat_bgwriter_maxwritten_clean_total" "maxwritten_clean"
            "How often the background writer stopped because it had written enough for one round";
        BACKEND = Counter "pg_stat_bgwriter_buffers_backend_total" "buffers_backend"
            "Buffers that backends wrote or extended a file by themselves; since 17 from pg_stat_io";
        BACKEND_FSYNC = Counter "pg_stat_bgwriter_buffers_backend_fsync_total" "buffers_backend_fsync"
            "How often a backend had to make a file durable itself; since 17 from pg_stat_io";
        ALLOC = Counter "pg_stat_bgwriter_buffers_alloc_total" "buffers_alloc" "Buffers allocated";
        RESET = Counter "pg_stat_bgwriter_stats_reset_total" "bgwriter_reset"
            "When these counters began, in seconds since 1970";
    }
    SINCE_17 [] {
        NEW_TIMED = Counter "pg_stat_checkpointer_num_timed_total" "timed" "Checkpoints begun because it was time";
        NEW_REQUESTED = Counter "pg_stat_checkpointer_num_requested_total" "requested" "Checkpoints begun on request";
        NEW_DONE = Counter "pg_stat_checkpointer_num_done_total" "num_done"
            "Checkpoints that were completed (18 and newer)";
        RESTARTPOINTS_TIMED = Counter "pg_stat_checkpointer_restartpoints_timed_total" "restartpoints_timed"
            "Restartpoints begun because it was time or after a failed attempt (17 and newer)";
        RESTARTPOINTS_REQUESTED = Counter "pg_stat_checkpointer_restartpoints_req_total" "restartpoints_req"
            "Restartpoints begun on request (17 and newer)";
        RESTARTPOINTS_DONE = Counter "pg_stat_checkpointer_restartpoints_done_total" "restartpoints_done"
            "Restartpoints that were completed (17 and newer)";
        NEW_WRITE = Counter "pg_stat_checkpointer_write_time_total" "write_time"
            "Milliseconds that checkpoints and restartpoints spent writing files";
        NEW_SYNC = Counter "pg_stat_checkpointer_sync_time_total" "sync_time"
            "Milliseconds that checkpoints and restartpoints spent making files durable";
        NEW_BUFFERS = Counter "pg_stat_checkpointer_buffers_written_total" "buffers_checkpoint"
            "Buffers written by checkpoints and restartpoints";
        NEW_SLRU = Counter "pg_stat_checkpointer_slru_written_total" "slru_written"
            "SLRU buffers written by checkpoints and restartpoints (18 and newer)";
        NEW_RESET = Counter "pg_stat_checkpointer_stats_reset_total" "checkpointer_reset"
            "When these counters began, in seconds since 1970";
    }
}

/// Since 17. `$written` counts blocks written and files extended by one process kind in pg_stat_io.
macro_rules! since_17 {
    ($more:literal, $written:literal) => {
        concat!(
            "SELECT c.num_timed AS timed, c.num_requested AS requested, c.restartpoints_timed, c.restartpoints_req, \
               c.restartpoints_done, c.write_time, c.sync_time, c.buffers_written AS buffers_checkpoint, \
               coalesce(extract(epoch FROM c.stats_reset), 0) AS checkpointer_reset, b.buffers_clean, \
               b.maxwritten_clean, b.buffers_alloc, \
               coalesce(extract(epoch FROM b.stats_reset), 0) AS bgwriter_reset, io.*, ",
            $more,
            " FROM pg_stat_checkpointer c, pg_stat_bgwriter b, (SELECT coalesce(sum(",
            $written,
            "), 0) AS buffers_backend, coalesce(sum(fsyncs), 0) AS buffers_backend_fsync FROM pg_stat_io \
              WHERE object = 'relation' AND backend_type NOT IN ('checkpointer', 'background writer')) io"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "checkpoints",
    reads: "pg_stat_bgwriter; since 17 pg_stat_checkpointer and pg_stat_io too",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(
            16,
            "SELECT checkpoints_timed AS timed, checkpoints_req AS requested, NULL AS restartpoints_timed, \
               NULL AS restartpoints_req, NULL AS restartpoints_done, checkpoint_write_time AS write_time, \
               checkpoint_sync_time AS sync_time, buffers_checkpoint, buffers_clean, maxwritten_clean, buffers_backend, \
               buffers_backend_fsync, buffers_alloc, NULL AS num_done, NULL AS slru_written, \
               coalesce(extract(epoch FROM stats_reset), 0) AS bgwriter_reset, \
               coalesce(extract(epoch FROM stats_reset), 0) AS checkpointer_reset FROM pg_stat_bgwriter",
        ),
        Sql::until(
            17,
            since_17!("NULL AS num_done, NULL AS slru_written", "coalesce(writes, 0) + coalesce(extends, 0)"),
        ),
        Sql::since(
            18,
            since_17!(
                "c.num_done, c.slru_written",
                "(coalesce(write_bytes, 0) + coalesce(extend_bytes, 0)) / current_setting('block_size')::numeric"
            ),
        ),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &[], BEFORE_0_11)?;
    page.table(rows, &[], SINCE_0_11)?;
    page.table(rows, &[], SINCE_17)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_testkit::{Server, each_major};

    #[test]
    fn every_era_says_the_same() {
        each_major(|major| {
            let server = Server::builder().major(major).start();
            server.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 50000) g");
            let requested = |heard: &Heard| heard.value("pg_stat_bgwriter_checkpoints_req_total", &[]);
            let before = heard(&server, "postgres", &[&COLLECTOR]);
            server.sql("CHECKPOINT");
            let sql = if major < 17 {
                "SELECT checkpoints_req::text AS v FROM pg_stat_bgwriter"
            } else {
                "SELECT num_requested::text AS v FROM pg_stat_checkpointer"
            };
            wait_for(&server, sql, &format!("{}", requested(&before) + 1.0));
            let after = heard(&server, "postgres", &[&COLLECTOR]);
            for name in ["pg_stat_bgwriter_checkpoints_req", "pg_stat_checkpointer_num_requested_total"] {
                assert_eq!(after.value(name, &[]), requested(&before) + 1.0, "{name} on PostgreSQL {major}");
            }
            for (old, _) in BEFORE_0_11 {
                let new = format!("{}_total", old.name);
                assert_eq!(after.value(old.name, &[]), after.value(&new, &[]), "{new} on PostgreSQL {major}");
            }
            assert!(after.value("pg_stat_bgwriter_buffers_checkpoint", &[]) > 0.0);
            assert!(after.value("pg_stat_bgwriter_checkpoint_write_time", &[]) >= 0.0);
        });
    }
}
