//! Which names postgres_exporter has given its metrics over the years, and where surus deliberately differs.
//!
//! Facts, taken from the exporter's releases: Debian 12 ships 0.11.1; 0.20.1 is the newest that was looked at. Tests
//! hold surus to this table and to the exporter itself; [docs/metrics.md](../../../docs/metrics.md) is made from it.

use surus_core::series::MetricKind::{self, Counter, Gauge, Histogram, Unknown};

/// A release of the exporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// Before 0.11 gave counters of pg_stat_bgwriter their `_total`.
    Before11,
    /// 0.11.1, built in.
    Since11,
    /// The file of sample queries that came with 0.11.1 and that most of its users gave it.
    Sample11,
    /// 0.12 to 0.19.
    Between,
    /// 0.20.1, collectors that are off by default included.
    Since20,
}

impl Era {
    /// As the page of metrics writes it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Before11 => "before 0.11",
            Self::Since11 => "0.11",
            Self::Sample11 => "0.11 sample queries",
            Self::Between => "0.12–0.19",
            Self::Since20 => "0.20",
        }
    }
}

/// Families of the exporter that share a prefix, a kind and their labels.
#[derive(Debug)]
pub struct Names {
    pub eras: &'static [Era],
    pub prefix: &'static str,
    pub kind: MetricKind,
    /// Besides `server`, which 0.11 has on most families and 0.20 on none.
    pub labels: &'static [&'static str],
    pub names: &'static [&'static str],
}

impl Names {
    /// The whole names.
    pub fn whole(&self) -> impl Iterator<Item = String> {
        self.names.iter().map(|name| format!("{}{name}", self.prefix))
    }
}

const ALL: &[Era] = &[Era::Since11, Era::Since20];
const FIRST: &[Era] = &[Era::Since11];
const SAMPLE: &[Era] = &[Era::Sample11];
const SAMPLE_AND_20: &[Era] = &[Era::Sample11, Era::Since20];
const LAST: &[Era] = &[Era::Since20];
const BETWEEN: &[Era] = &[Era::Between];
const BGWRITER: &[&str] = &[
    "checkpoints_timed",
    "checkpoints_req",
    "checkpoint_write_time",
    "checkpoint_sync_time",
    "buffers_checkpoint",
    "buffers_clean",
    "maxwritten_clean",
    "buffers_backend",
    "buffers_backend_fsync",
    "buffers_alloc",
    "stats_reset",
];
const DATABASE: &[&str] = &["datid", "datname"];
const TABLE: &[&str] = &["datname", "schemaname", "relname"];
const SLOT: &[&str] = &["slot_name", "slot_type"];

/// Every family of the exporter but `pg_settings_*`, which there is one of per setting, and those of Go's own run time.
pub static NAMES: &[Names] = &[
    Names { eras: ALL, prefix: "pg_", kind: Gauge, labels: &[], names: &["up"] },
    Names {
        eras: ALL,
        prefix: "pg_exporter_",
        kind: Gauge,
        labels: &[],
        names: &["last_scrape_duration_seconds", "last_scrape_error"],
    },
    Names { eras: ALL, prefix: "pg_exporter_", kind: Counter, labels: &[], names: &["scrapes_total"] },
    Names {
        eras: ALL,
        prefix: "pg_exporter_",
        kind: Gauge,
        labels: &["filename", "hashsum"],
        names: &["user_queries_load_error"],
    },
    Names {
        eras: ALL,
        prefix: "pg_scrape_collector_",
        kind: Gauge,
        labels: &["collector"],
        names: &["duration_seconds", "success"],
    },
    Names { eras: ALL, prefix: "pg_", kind: Unknown, labels: &["version", "short_version"], names: &["static"] },
    Names { eras: ALL, prefix: "pg_stat_database_", kind: Gauge, labels: DATABASE, names: &["numbackends"] },
    Names {
        eras: ALL,
        prefix: "pg_stat_database_",
        kind: Counter,
        labels: DATABASE,
        names: &[
            "xact_commit",
            "xact_rollback",
            "blks_read",
            "blks_hit",
            "tup_returned",
            "tup_fetched",
            "tup_inserted",
            "tup_updated",
            "tup_deleted",
            "conflicts",
            "temp_files",
            "temp_bytes",
            "deadlocks",
            "blk_read_time",
            "blk_write_time",
            "stats_reset",
        ],
    },
    // Columns that 0.11 does not know and passes on as they are.
    Names {
        eras: FIRST,
        prefix: "pg_stat_database_",
        kind: Unknown,
        labels: DATABASE,
        names: &[
            "checksum_failures",
            "checksum_last_failure",
            "session_time",
            "active_time",
            "idle_in_transaction_time",
            "sessions",
            "sessions_abandoned",
            "sessions_fatal",
            "sessions_killed",
            "parallel_workers_to_launch",
            "parallel_workers_launched",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_database_",
        kind: Counter,
        labels: DATABASE,
        names: &["active_time_seconds_total"],
    },
    Names {
        eras: ALL,
        prefix: "pg_stat_database_conflicts_",
        kind: Counter,
        labels: DATABASE,
        names: &["confl_tablespace", "confl_lock", "confl_snapshot", "confl_bufferpin", "confl_deadlock"],
    },
    Names {
        eras: FIRST,
        prefix: "pg_stat_database_conflicts_",
        kind: Unknown,
        labels: DATABASE,
        names: &["confl_active_logicalslot"],
    },
    Names { eras: ALL, prefix: "pg_locks_", kind: Gauge, labels: &["datname", "mode"], names: &["count"] },
    Names {
        eras: FIRST,
        prefix: "pg_stat_activity_",
        kind: Gauge,
        labels: &["datname", "state"],
        names: &["count", "max_tx_duration"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_activity_",
        kind: Gauge,
        labels: &["datname", "state", "usename", "application_name", "backend_type", "wait_event_type", "wait_event"],
        names: &["count", "max_tx_duration"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_activity_autovacuum_",
        kind: Gauge,
        labels: &["relname"],
        names: &["timestamp_seconds"],
    },
    Names {
        eras: ALL,
        prefix: "pg_stat_replication_",
        kind: Gauge,
        labels: &["application_name", "client_addr", "state", "slot_name"],
        names: &["pg_current_wal_lsn_bytes", "pg_wal_lsn_diff"],
    },
    Names {
        eras: FIRST,
        prefix: "pg_stat_replication_",
        kind: Unknown,
        labels: &["application_name", "client_addr", "state", "slot_name"],
        names: &["reply_time"],
    },
    Names {
        eras: ALL,
        prefix: "pg_stat_replication_",
        kind: Gauge,
        labels: &["application_name", "client_addr", "state", "slot_name"],
        names: &["pg_xlog_location_diff"],
    },
    Names {
        eras: ALL,
        prefix: "pg_replication_slots_",
        kind: Gauge,
        labels: &["slot_name", "database"],
        names: &["active", "pg_wal_lsn_diff"],
    },
    Names {
        eras: LAST,
        prefix: "pg_replication_slots_",
        kind: Unknown,
        labels: &["slot_name", "database"],
        names: &["pg_xlog_location_diff"],
    },
    Names {
        eras: LAST,
        prefix: "pg_replication_slots_",
        kind: Gauge,
        labels: SLOT,
        names: &["slot_current_wal_lsn", "slot_confirmed_flush_lsn", "slot_is_active", "safe_wal_size_bytes"],
    },
    Names {
        eras: LAST,
        prefix: "pg_replication_slots_",
        kind: Gauge,
        labels: &["slot_name", "slot_type", "wal_status"],
        names: &["wal_status"],
    },
    Names {
        eras: BETWEEN,
        prefix: "pg_replication_slot_",
        kind: Gauge,
        labels: SLOT,
        names: &["slot_current_wal_lsn", "slot_confirmed_flush_lsn", "slot_is_active", "safe_wal_size_bytes"],
    },
    Names {
        eras: BETWEEN,
        prefix: "pg_replication_slot_",
        kind: Gauge,
        labels: &["slot_name", "slot_type", "wal_status"],
        names: &["wal_status"],
    },
    Names {
        eras: ALL,
        prefix: "pg_stat_archiver_",
        kind: Counter,
        labels: &[],
        names: &["archived_count", "failed_count"],
    },
    Names { eras: ALL, prefix: "pg_stat_archiver_", kind: Gauge, labels: &[], names: &["last_archive_age"] },
    Names { eras: &[Era::Before11], prefix: "pg_stat_bgwriter_", kind: Counter, labels: &[], names: BGWRITER },
    Names {
        eras: ALL,
        prefix: "pg_stat_bgwriter_",
        kind: Counter,
        labels: &[],
        names: &[
            "checkpoints_timed_total",
            "checkpoints_req_total",
            "checkpoint_write_time_total",
            "checkpoint_sync_time_total",
            "buffers_checkpoint_total",
            "buffers_clean_total",
            "maxwritten_clean_total",
            "buffers_backend_total",
            "buffers_backend_fsync_total",
            "buffers_alloc_total",
            "stats_reset_total",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_checkpointer_",
        kind: Counter,
        labels: &[],
        names: &[
            "num_timed_total",
            "num_requested_total",
            "restartpoints_timed_total",
            "restartpoints_req_total",
            "restartpoints_done_total",
            "write_time_total",
            "sync_time_total",
            "buffers_written_total",
            "stats_reset_total",
        ],
    },
    Names { eras: ALL, prefix: "pg_database_", kind: Gauge, labels: &["datname"], names: &["size_bytes"] },
    Names { eras: LAST, prefix: "pg_database_", kind: Gauge, labels: &["datname"], names: &["connection_limit"] },
    Names {
        eras: LAST,
        prefix: "pg_database_wraparound_",
        kind: Gauge,
        labels: &["datname"],
        names: &["age_datfrozenxid_seconds", "age_datminmxid_seconds"],
    },
    Names { eras: LAST, prefix: "pg_roles_", kind: Gauge, labels: &["rolname"], names: &["connection_limit"] },
    Names { eras: SAMPLE, prefix: "pg_replication_", kind: Gauge, labels: &[], names: &["lag"] },
    Names {
        eras: LAST,
        prefix: "pg_replication_",
        kind: Gauge,
        labels: &[],
        names: &["lag_seconds", "is_replica", "last_replay_seconds"],
    },
    Names { eras: SAMPLE_AND_20, prefix: "pg_postmaster_", kind: Gauge, labels: &[], names: &["start_time_seconds"] },
    Names {
        eras: LAST,
        prefix: "pg_",
        kind: Gauge,
        labels: &[],
        names: &["long_running_transactions", "long_running_transactions_oldest_timestamp_seconds"],
    },
    Names {
        eras: LAST,
        prefix: "pg_process_idle_",
        kind: Histogram,
        labels: &["state", "application_name"],
        names: &["seconds"],
    },
    Names {
        eras: SAMPLE_AND_20,
        prefix: "pg_stat_user_tables_",
        kind: Counter,
        labels: TABLE,
        names: &[
            "seq_scan",
            "seq_tup_read",
            "idx_scan",
            "idx_tup_fetch",
            "n_tup_ins",
            "n_tup_upd",
            "n_tup_del",
            "n_tup_hot_upd",
            "vacuum_count",
            "autovacuum_count",
            "analyze_count",
            "autoanalyze_count",
        ],
    },
    Names {
        eras: SAMPLE_AND_20,
        prefix: "pg_stat_user_tables_",
        kind: Gauge,
        labels: TABLE,
        names: &[
            "n_live_tup",
            "n_dead_tup",
            "n_mod_since_analyze",
            "last_vacuum",
            "last_autovacuum",
            "last_analyze",
            "last_autoanalyze",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_user_tables_",
        kind: Gauge,
        labels: TABLE,
        names: &["index_size_bytes", "table_size_bytes"],
    },
    Names {
        eras: SAMPLE,
        prefix: "pg_statio_user_tables_",
        kind: Counter,
        labels: TABLE,
        names: &[
            "heap_blks_read",
            "heap_blks_hit",
            "idx_blks_read",
            "idx_blks_hit",
            "toast_blks_read",
            "toast_blks_hit",
            "tidx_blks_read",
            "tidx_blks_hit",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_statio_user_tables_",
        kind: Counter,
        labels: TABLE,
        names: &[
            "heap_blocks_read",
            "heap_blocks_hit",
            "idx_blocks_read",
            "idx_blocks_hit",
            "toast_blocks_read",
            "toast_blocks_hit",
            "tidx_blocks_read",
            "tidx_blocks_hit",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_statio_user_indexes_",
        kind: Counter,
        labels: &["schemaname", "relname", "indexrelname"],
        names: &["idx_blks_read_total", "idx_blks_hit_total"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_statements_",
        kind: Counter,
        labels: &["user", "datname", "queryid"],
        names: &["calls_total", "seconds_total", "rows_total", "block_read_seconds_total", "block_write_seconds_total"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_statements_",
        kind: Counter,
        labels: &["queryid", "query"],
        names: &["query_id"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_wal_receiver_",
        kind: Counter,
        labels: &["upstream_host", "slot_name", "status"],
        names: &[
            "receive_start_lsn",
            "flushed_lsn",
            "last_msg_send_time",
            "last_msg_receipt_time",
            "latest_end_lsn",
            "latest_end_time",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_wal_receiver_",
        kind: Gauge,
        labels: &["upstream_host", "slot_name", "status"],
        names: &["receive_start_tli", "received_tli", "upstream_node"],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_progress_vacuum_",
        kind: Gauge,
        labels: &["datname", "relname"],
        names: &[
            "heap_blks",
            "heap_blks_scanned",
            "heap_blks_vacuumed",
            "index_vacuums",
            "max_dead_tuples",
            "num_dead_tuples",
        ],
    },
    Names {
        eras: LAST,
        prefix: "pg_stat_progress_vacuum_",
        kind: Gauge,
        labels: &["datname", "relname", "phase"],
        names: &["phase"],
    },
    Names { eras: LAST, prefix: "pg_wal_", kind: Gauge, labels: &[], names: &["segments", "size_bytes"] },
    Names { eras: LAST, prefix: "pg_xlog_location_", kind: Gauge, labels: &[], names: &["bytes"] },
    Names {
        eras: LAST,
        prefix: "pg_buffercache_summary_",
        kind: Gauge,
        labels: &[],
        names: &["buffers_used", "buffers_unused", "buffers_dirty", "buffers_pinned", "usagecount_avg"],
    },
];

/// In what a family differs from the exporter's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// surus does not have it.
    Missing,
    /// It runs only when it is wanted.
    Wanted,
    /// Another type.
    Kind,
    /// Other labels.
    Labels,
    /// It is there when the exporter has none, or the other way round; or the value is another.
    Value,
}

impl What {
    /// As the page of metrics writes it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Missing => "not there",
            Self::Wanted => "off by default",
            Self::Kind => "type",
            Self::Labels => "labels",
            Self::Value => "value",
        }
    }
}

/// A deliberate difference.
#[derive(Debug)]
pub struct Difference {
    /// A name, or the beginning of several with a `*`.
    pub name: &'static str,
    pub what: What,
    pub why: &'static str,
}

impl Difference {
    /// Is it about this metric?
    pub fn covers(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => self.name == name,
        }
    }
}

/// Does the table allow this difference?
pub fn allowed(name: &str, what: What) -> bool {
    DIFFERENCES.iter().any(|difference| difference.what == what && difference.covers(name))
}

const fn differs(name: &'static str, what: What, why: &'static str) -> Difference {
    Difference { name, what, why }
}

/// All of them; whatever else differs is a mistake.
pub static DIFFERENCES: &[Difference] = &[
    differs("go_*", What::Missing, "surus is not written in Go"),
    differs("promhttp_*", What::Missing, "surus does not use that library"),
    differs("postgres_exporter_build_info", What::Missing, "surus is not that program"),
    differs("process_*", What::Value, "they are about surus's own process"),
    differs("process_virtual_memory_max_bytes", What::Missing, "surus sets no such limit"),
    differs("process_network_*", What::Missing, "node_network_* tells the machine's traffic"),
    differs("pg_exporter_user_queries_load_error", What::Missing, "there is no file of custom queries"),
    differs("pg_exporter_*", What::Value, "they are about surus's own cycles instead of scrapes"),
    differs("pg_scrape_collector_*", What::Value, "the collectors are surus's own, with their names"),
    differs("pg_stat_database_*", What::Kind, "0.11 does not know the newer columns and calls them untyped"),
    differs("pg_stat_database_conflicts_*", What::Kind, "0.11 does not know the newer columns and calls them untyped"),
    differs("pg_stat_replication_reply_time", What::Kind, "0.11 does not know the column and calls it untyped"),
    differs("pg_stat_*", What::Value, "NULL is told as no series, where 0.11 tells NaN"),
    differs(
        "pg_stat_activity_*",
        What::Labels,
        "0.11's labels by default: 0.20's change what by() and on() give and make many short series; the collector \
         stat_activity_fine has them",
    ),
    differs("pg_stat_activity_*", What::Value, "surus's own session is not counted, as since 0.20"),
    differs(
        "pg_stat_activity_autovacuum_*",
        What::Labels,
        "datname is added: tables of two databases may be namesakes",
    ),
    differs("pg_statio_user_indexes_*", What::Labels, "datname is added: surus looks into every database"),
    differs(
        "pg_settings_*",
        What::Value,
        "the value for new sessions, where the exporter tells that of its own session",
    ),
    differs("pg_database_size_bytes", What::Value, "read every 10 minutes"),
    differs(
        "pg_replication_lag_seconds",
        What::Value,
        "not 0 while the link to the primary is dead, even when all that came through it is replayed",
    ),
    differs("pg_replication_slots_pg_wal_lsn_diff", What::Value, "on a standby too, where 0.11 fails as a whole"),
    differs("pg_stat_bgwriter_*", What::Value, "on 17 and newer too, from pg_stat_checkpointer and pg_stat_io"),
    differs("pg_stat_checkpointer_*", What::Value, "on 16 and older too, from pg_stat_bgwriter"),
    differs("pg_xlog_location_bytes", What::Value, "on 10 and newer too"),
    differs(
        "pg_stat_replication_*",
        What::Value,
        "of senders with the same labels the one that is farthest behind; they fail the exporter's scrape",
    ),
    differs("pg_stat_wal_receiver_*", What::Value, "without a slot too"),
    differs("pg_stat_wal_receiver_upstream_node", What::Value, "only with a slot of repmgr"),
    differs("pg_stat_replication_pg_xlog_location_diff", What::Missing, "PostgreSQL 9.6 and older"),
    differs("pg_replication_slots_pg_xlog_location_diff", What::Missing, "PostgreSQL 9.6 and older"),
    differs("pg_process_idle_seconds", What::Wanted, "off in the exporter too: a series for every application name"),
    differs("pg_stat_statements_*", What::Wanted, "off in the exporter too: a series for every query"),
    differs("pg_stat_statements_query_id", What::Missing, "surus keeps texts elsewhere, never as a label"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{collectors, own};
    use std::collections::BTreeMap;
    use surus_core::series::Family;

    /// Every family with its labels, by name; a histogram by its own name.
    fn ours(
        collectors: &[&'static crate::collector::Collector],
    ) -> BTreeMap<String, (&'static Family, Vec<&'static str>)> {
        let declared = collectors.iter().flat_map(|one| collectors::declared(one));
        let own = own::FAMILIES.iter().map(|family| (*family, own::labels(family).to_vec()));
        let all = declared.map(|one| (one.family, one.labels.to_vec())).chain(own);
        all.map(|(family, mut labels)| {
            let name = match family.kind {
                Histogram => {
                    family.name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count")
                }
                _ => family.name,
            };
            labels.retain(|label| *label != "le");
            (name.to_owned(), (family, labels))
        })
        .collect()
    }

    #[test]
    fn every_name_of_the_exporter_is_ours_but_for_what_the_table_says() {
        let (usual, wanted) = (ours(collectors::ALL), ours(collectors::OPT_IN));
        for names in NAMES {
            for name in names.whole() {
                let found = usual.get(&name).or_else(|| wanted.get(&name).filter(|_| allowed(&name, What::Wanted)));
                let Some((family, labels)) = found else {
                    assert!(allowed(&name, What::Missing), "{name} is nobody's");
                    continue;
                };
                assert!(family.kind == names.kind || allowed(&name, What::Kind), "{name} is a {:?}", family.kind);
                let (mut theirs, mut own) = (names.labels.to_vec(), labels.clone());
                theirs.sort_unstable();
                own.sort_unstable();
                assert!(theirs == own || allowed(&name, What::Labels), "{name} has the labels {labels:?}");
            }
        }
    }

    #[test]
    fn the_fine_collector_has_the_labels_of_0_20() {
        let fine = ours(collectors::OPT_IN);
        let of_20 = NAMES.iter().filter(|names| names.eras == LAST && names.prefix == "pg_stat_activity_");
        for names in of_20 {
            for name in names.whole() {
                assert_eq!(fine[&name].1, names.labels, "{name}");
            }
        }
    }
}
