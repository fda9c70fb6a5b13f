//! What holds for every collector, on every major that is here.

use super::testing::{self, every, has_text, hear, heard_at, wait_for};
use super::{ALL, OPT_IN, declared, with};
use crate::collector::{Need, SKIPPED, TRUNCATED};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::{
    series::{METRIC_NAME, is_label_name, is_metric_name},
    version::{NEWEST_MAJOR, OLDEST_MAJOR},
};
use surus_pg::Manners;
use surus_testkit::{Server, each_major};

#[test]
fn names_are_unique_and_families_are_described() {
    let mut names = BTreeSet::new();
    let mut families = BTreeMap::new();
    for collector in every() {
        assert!(names.insert(collector.name), "{} is there twice", collector.name);
        assert!(!collector.reads.is_empty() && !declared(collector).is_empty(), "{}", collector.name);
        for family in collector.families {
            assert!(is_metric_name(family.name), "{}", family.name);
            assert!(!family.help.is_empty() && !family.help.contains('\n'), "{}", family.name);
            let other = families.insert(family.name, collector.name);
            let shared = [&TRUNCATED, &SKIPPED].iter().any(|one| std::ptr::eq(*family, *one))
                || collector.name.ends_with("_fine");
            assert!(other.is_none() || shared, "{} is of {other:?} and {}", family.name, collector.name);
        }
        for declared in declared(collector) {
            let fine = |label: &&str| is_label_name(label) && *label != METRIC_NAME && *label != "server";
            assert!(declared.labels.iter().all(fine), "{}", declared.family.name);
        }
    }
}

#[test]
fn every_major_that_is_needed_has_a_text() {
    for collector in every() {
        let needed =
            collector.needs.iter().filter_map(|need| if let Need::Major(major) = need { Some(*major) } else { None });
        for major in needed.max().unwrap_or(OLDEST_MAJOR)..=NEWEST_MAJOR {
            assert!(has_text(collector, major), "{} has no query for {major}", collector.name);
        }
    }
}

/// Something of all that collectors read.
const SCENE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, body text);
    INSERT INTO t SELECT g, repeat('x', g % 50) FROM generate_series(1, 60000) g;
    CREATE SCHEMA s; CREATE TABLE s.parted (id int PRIMARY KEY) PARTITION BY RANGE (id);
    CREATE TABLE s.part PARTITION OF s.parted FOR VALUES FROM (1) TO (100);
    CREATE SEQUENCE s.numbers MAXVALUE 100; CREATE SEQUENCE s.down INCREMENT -1 MINVALUE -10;
    CREATE MATERIALIZED VIEW s.seen AS SELECT count(*) FROM t;
    SELECT setval('s.numbers', 75);
    SELECT pg_create_physical_replication_slot('spare', true);
    CREATE SCHEMA \"Ext s\"; CREATE EXTENSION pg_stat_statements SCHEMA \"Ext s\"; CREATE EXTENSION pg_buffercache SCHEMA \"Ext s\"";

#[test]
fn every_collector_reads_every_major() {
    each_major(|major| {
        let server = Server::builder().major(major).setting("shared_preload_libraries", "pg_stat_statements").start();
        server.sql(SCENE);
        let known: BTreeMap<&str, &[&str]> =
            every().iter().flat_map(|one| declared(one)).map(|one| (one.family.name, one.labels)).collect();
        // By itself: inside the transaction that fills the table it would not count.
        server.sql("ANALYZE t");
        wait_for(&server, "SELECT count(last_analyze) AS v FROM pg_stat_user_tables WHERE relname = 't'", "1");
        let runtime = testing::runtime();
        let idle = runtime.block_on(server.session("postgres", &Manners::looking()));
        let dsns = [server.dsn("postgres")];
        let usual = runtime.block_on(hear(&dsns, ALL));
        let wanted = runtime.block_on(hear(&dsns, OPT_IN));
        runtime.block_on(idle.close());
        for (name, points) in usual.points.iter().chain(&wanted.points) {
            let labels = known.get(name).copied().unwrap_or_else(|| {
                assert!(name.starts_with("pg_settings_"), "{name} is not declared");
                &[]
            });
            for point in points.keys() {
                let stray = point.iter().find(|(label, _)| !labels.contains(label));
                assert!(stray.is_none(), "{name} has the label {stray:?}, which it does not declare");
            }
        }
        let silent: Vec<&str> = known
            .keys()
            .filter(|name| !usual.points.contains_key(*name) && !wanted.points.contains_key(*name))
            .copied()
            .collect();
        let silent: Vec<&str> = silent.into_iter().filter(|name| !may_be_silent(name, major)).collect();
        assert!(silent.is_empty(), "nobody said {silent:?}");
    });
}

/// Families without series on a quiet primary of this major.
fn may_be_silent(name: &str, major: u16) -> bool {
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    // Nothing of the kind is going on, or never happened, or it is of a standby.
    let quiet = [
        "pg_settings_<name>",
        "pg_stat_progress_",
        "pg_stat_replication_",
        "pg_stat_wal_receiver_",
        "pg_stat_activity_autovacuum_",
        "pg_stat_archiver_last_",
        "pg_index_invalid",
        "pg_stat_database_checksum_last_failure",
        "pg_replication_slots_xmin_age",
        "pg_replication_slots_catalog_xmin_age",
        "pg_replication_slots_safe_wal_size_bytes",
        "pg_replication_slot_safe_wal_size_bytes",
        "pg_replication_slots_slot_confirmed_flush_lsn",
        "pg_replication_slot_slot_confirmed_flush_lsn",
    ];
    let since: &[(u16, &[&str])] = &[
        (14, &["pg_stat_wal_", "pg_stat_database_session", "pg_stat_database_active_time", "pg_stat_database_idle_in"]),
        (16, &["pg_stat_io_", "pg_buffercache_summary_", "pg_stat_database_conflicts_confl_active_logicalslot"]),
        (17, &["pg_stat_checkpointer_restartpoints_", "pg_replication_slots_inactive_seconds"]),
        (
            18,
            &[
                "pg_stat_database_parallel_",
                "pg_stat_checkpointer_num_done_total",
                "pg_stat_checkpointer_slru_written_total",
            ],
        ),
    ];
    begins(&quiet) || since.iter().any(|(first, names)| major < *first && begins(names))
}

/// A role with pg_monitor and nothing else: all but what reads the tables' own statistics runs.
#[test]
fn pg_monitor_is_enough() {
    each_major(|major| {
        let server = Server::builder().major(major).hba("local all all trust").start();
        server.expect_log("permission denied for view pg_hba_file_rules");
        server.sql("CREATE TABLE t (id bigint PRIMARY KEY); CREATE ROLE watcher LOGIN IN ROLE pg_monitor");
        let dsns = [server.dsn_as("watcher", "", "postgres")];
        let heard = heard_at(&dsns, ALL);
        for name in
            ["pg_wal_size_bytes", "pg_database_size_bytes", "pg_settings_max_connections", "pg_stat_activity_count"]
        {
            assert!(heard.points.contains_key(name), "on PostgreSQL {major}: no {name}");
        }
        assert!(heard.maybe("pg_stat_user_tables_table_size_bytes", &[("relname", "t")]).is_some());
        assert!(!heard.points.contains_key("pg_bloat_table_bloat_ratio"));
    });
}

/// On a standby nothing fails that may run there, and what is read there is the same.
#[test]
fn every_collector_reads_a_standby() {
    let cluster = Server::builder().start_with_standbys(1);
    cluster.primary.sql(
        "CREATE TABLE t (id bigserial PRIMARY KEY, body text); CREATE UNLOGGED TABLE u (id serial); \
         INSERT INTO t (body) SELECT repeat('x', 90) FROM generate_series(1, 20000); SELECT setval('t_id_seq', 20000)",
    );
    cluster.primary.sql("ANALYZE t");
    cluster.wait_caught_up();
    let standby = heard_at(&[cluster.standbys[0].dsn("postgres")], ALL);
    for name in
        ["pg_wal_size_bytes", "pg_database_size_bytes", "pg_stat_io_hits_total", "pg_stat_wal_receiver_flushed_lsn"]
    {
        assert!(standby.points.contains_key(name), "no {name}");
    }
    let table = [("datname", "postgres"), ("relname", "t")];
    assert!(standby.value("pg_stat_user_tables_table_size_bytes", &table) > 1_000_000.0);
    assert!(standby.value("pg_sequence_used_ratio", &[("sequencename", "t_id_seq")]) > 0.0);
    assert!(standby.value("pg_xlog_location_bytes", &[]) > 0.0);
}

#[test]
fn what_is_wanted_comes_in_addition_and_fine_sessions_instead() {
    let names = |wanted: &[&str]| -> Vec<&'static str> {
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        with(&wanted).unwrap().iter().map(|collector| collector.name).collect()
    };
    assert_eq!(names(&[]).len(), ALL.len());
    assert_eq!(names(&["process_idle"]).len(), ALL.len() + 1);
    let fine = names(&["stat_activity_fine"]);
    assert!(fine.len() == ALL.len() && fine.contains(&"stat_activity_fine") && !fine.contains(&"stat_activity"));
    assert_eq!(with(&["nobody".to_owned()]).err().as_deref(), Some("nobody"));
}
