//! Every metric and label that known rules and dashboards ask for has a series.

use crate::spoken::{self, Spoken};
use std::{collections::BTreeMap, env, fs, path::PathBuf};
use surus_core::clock::Deadline;
use surus_testkit::{Server, require_major};

/// What rules and dashboards that are in wide use ask for, by where: the metric, and labels that a series must have.
/// The rules of the exporter's own mixin, awesome-prometheus-alerts' section on PostgreSQL, and the dashboards 9628 and
/// 455 of grafana.com. Not here: `postgresql_errors_total`, which tools make that read logs.
const ASKED: &[(&str, &[&str])] = &[
    ("pg_up", &[]),
    ("pg_exporter_last_scrape_error", &[]),
    ("pg_static", &["version", "short_version"]),
    ("pg_postmaster_start_time_seconds", &[]),
    ("pg_stat_user_tables_n_tup_del", &["relname"]),
    ("pg_stat_user_tables_n_tup_upd", &["relname"]),
    ("pg_stat_user_tables_n_tup_hot_upd", &["relname"]),
    ("pg_stat_user_tables_last_autovacuum", &["relname"]),
    ("pg_stat_user_tables_last_autoanalyze", &["relname"]),
    ("pg_stat_user_tables_n_dead_tup", &["relname"]),
    ("pg_stat_user_tables_n_live_tup", &["relname"]),
    ("pg_stat_activity_count", &["datname", "state"]),
    ("pg_stat_activity_max_tx_duration", &["datname", "state"]),
    ("pg_stat_database_deadlocks", &["datname"]),
    ("pg_stat_database_xact_commit", &["datname", "datid"]),
    ("pg_stat_database_xact_rollback", &["datname", "datid"]),
    ("pg_stat_database_numbackends", &["datname"]),
    ("pg_stat_database_tup_fetched", &["datname"]),
    ("pg_stat_database_tup_returned", &["datname"]),
    ("pg_stat_database_tup_inserted", &["datname"]),
    ("pg_stat_database_tup_updated", &["datname"]),
    ("pg_stat_database_tup_deleted", &["datname"]),
    ("pg_stat_database_blks_hit", &["datname"]),
    ("pg_stat_database_blks_read", &["datname"]),
    ("pg_stat_database_temp_bytes", &["datname"]),
    ("pg_stat_database_conflicts", &["datname"]),
    ("pg_txid_current", &[]),
    ("pg_replication_slots_active", &["slot_name"]),
    ("pg_replication_lag", &[]),
    ("pg_replication_lag_seconds", &[]),
    ("pg_replication_is_replica", &[]),
    ("pg_stat_ssl_compression", &[]),
    ("pg_locks_count", &["datname", "mode"]),
    ("pg_bloat_btree_bloat_pct", &["idxname"]),
    ("pg_bloat_btree_real_size", &["idxname"]),
    ("pg_bloat_table_bloat_pct", &["relname"]),
    ("pg_bloat_table_real_size", &["relname"]),
    ("pg_general_index_info_pg_relation_size", &["relname", "indexrelname"]),
    ("pg_stat_bgwriter_checkpoints_req_total", &[]),
    ("pg_stat_bgwriter_checkpoints_timed_total", &[]),
    ("pg_stat_bgwriter_buffers_alloc", &[]),
    ("pg_stat_bgwriter_buffers_alloc_total", &[]),
    ("pg_stat_bgwriter_buffers_backend", &[]),
    ("pg_stat_bgwriter_buffers_backend_total", &[]),
    ("pg_stat_bgwriter_buffers_backend_fsync", &[]),
    ("pg_stat_bgwriter_buffers_backend_fsync_total", &[]),
    ("pg_stat_bgwriter_buffers_checkpoint", &[]),
    ("pg_stat_bgwriter_buffers_checkpoint_total", &[]),
    ("pg_stat_bgwriter_buffers_clean", &[]),
    ("pg_stat_bgwriter_buffers_clean_total", &[]),
    ("pg_stat_bgwriter_checkpoint_write_time", &[]),
    ("pg_stat_bgwriter_checkpoint_write_time_total", &[]),
    ("pg_stat_bgwriter_checkpoint_sync_time", &[]),
    ("pg_stat_bgwriter_checkpoint_sync_time_total", &[]),
    ("pg_database_size_bytes", &["datname"]),
    ("pg_settings_max_connections", &[]),
    ("pg_settings_superuser_reserved_connections", &[]),
    ("pg_settings_max_locks_per_transaction", &[]),
    ("pg_settings_autovacuum_vacuum_threshold", &[]),
    ("pg_settings_autovacuum_vacuum_scale_factor", &[]),
    ("pg_settings_autovacuum_analyze_threshold", &[]),
    ("pg_settings_shared_buffers_bytes", &[]),
    ("pg_settings_effective_cache_size_bytes", &[]),
    ("pg_settings_maintenance_work_mem_bytes", &[]),
    ("pg_settings_work_mem_bytes", &[]),
    ("pg_settings_max_wal_size_bytes", &[]),
    ("pg_settings_random_page_cost", &[]),
    ("pg_settings_seq_page_cost", &[]),
    ("pg_settings_max_worker_processes", &[]),
    ("pg_settings_max_parallel_workers", &[]),
    ("process_cpu_seconds_total", &[]),
    ("process_resident_memory_bytes", &[]),
    ("process_virtual_memory_bytes", &[]),
    ("process_open_fds", &[]),
];

/// A table large enough for an estimate of its bloat, half of it gone.
fn scene(major: u16) -> Server {
    let server = Server::builder().major(major).autovacuum(false).start();
    server.sql("CREATE TABLE t (id bigint PRIMARY KEY, body text)");
    server.sql("INSERT INTO t SELECT g, repeat('x', 90) FROM generate_series(1, 60000) g");
    server.sql("DELETE FROM t WHERE id % 4 <> 0");
    server.sql("VACUUM ANALYZE t");
    server.sql("SELECT pg_create_physical_replication_slot('spare')");
    let limit = Deadline::after(std::time::Duration::from_secs(20));
    while server.value("SELECT count(*) AS v FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL") == "0" {
        assert!(!limit.passed(), "ANALYZE is not on record");
    }
    server
}

fn on_majors(test: impl Fn(u16, &Spoken)) {
    for major in [15, 18].into_iter().filter_map(require_major) {
        let server = scene(major);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        test(major, &runtime.block_on(spoken::of(&server)));
    }
}

#[test]
fn what_known_rules_ask_for_is_there() {
    on_majors(|major, spoken| {
        for (name, labels) in ASKED {
            let keys = spoken.keys(name);
            assert!(spoken.series(name, &[]) > 0, "on PostgreSQL {major} there is no {name}");
            for label in *labels {
                assert!(keys.contains(*label), "on PostgreSQL {major} {name} has no {label}, but {keys:?}");
            }
        }
        let bloat = spoken.values("pg_bloat_table_bloat_ratio");
        assert!(bloat.values().all(|ratio| (0.6..0.9).contains(ratio)), "{bloat:?}");
    });
}

/// The expressions of the alert rules in the seed documents, from `shared` beside the repository.
fn seeds() -> Option<Vec<String>> {
    let shared = env::var_os("SURUS_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let folder = fs::read_dir(shared.join("seeds")).ok()?;
    let mut found = Vec::new();
    for file in folder {
        let text = fs::read_to_string(file.ok()?.path()).ok()?;
        let lines = text.lines().map(|line| line.trim_start_matches(['>', ' ']));
        found
            .extend(lines.filter_map(|line| line.strip_prefix("expr:")).map(|expression| expression.trim().to_owned()));
    }
    Some(found)
}

/// The metrics of an expression that belong to PostgreSQL, each with the labels that its matchers name.
fn metrics(expression: &str) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut rest = expression;
    while let Some(at) = rest.find("pg_") {
        let name: String = rest[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        rest = &rest[at + name.len()..];
        let matchers = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(inner, _)| inner);
        let labels = matchers.split(',').filter_map(|one| one.split(['=', '!']).next());
        let labels = labels.map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()).collect();
        found.insert(name, labels);
    }
    found
}

#[test]
fn what_the_seeds_rules_ask_for_is_there() {
    let Some(expressions) = seeds() else {
        eprintln!("skipped: what_the_seeds_rules_ask_for_is_there: there is no shared directory beside the repository");
        return;
    };
    let asked: BTreeMap<String, Vec<String>> = expressions.iter().flat_map(|one| metrics(one)).collect();
    assert!(asked.len() >= 6, "the seeds ask only for {asked:?}");
    on_majors(|major, spoken| {
        for (name, labels) in &asked {
            let keys = spoken.keys(name);
            assert!(spoken.series(name, &[]) > 0, "on PostgreSQL {major} there is no {name}");
            for label in labels {
                assert!(keys.contains(label), "on PostgreSQL {major} {name} has no {label}, but {keys:?}");
            }
        }
    });
}

#[test]
fn metrics_are_found_in_an_expression() {
    let found = metrics("rate(pg_a_total{state!=\"idle\",datname=~\"x\"}[5m]) / pg_b > 0.8");
    assert_eq!(found["pg_a_total"], ["state", "datname"]);
    assert!(found["pg_b"].is_empty() && found.len() == 2);
}
