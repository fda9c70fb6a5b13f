//! Side by side with Debian's exporter 0.11.1 on one server: every family, type and label key that it speaks, and the
//! values that stand still, but for what `lineage::DIFFERENCES` says.

use crate::{
    exporter,
    spoken::{self, Spoken},
};
use std::collections::BTreeSet;
use surus_core::series::MetricKind;
use surus_observe::lineage::{What, allowed};
use surus_testkit::{Server, require_major};

/// Families whose values do not move while nobody does anything.
const STILL: &[&str] = &[
    "pg_settings_",
    "pg_static",
    "pg_postmaster_start_time_seconds",
    "pg_replication_",
    "pg_stat_archiver_",
    "pg_stat_bgwriter_checkpoints_",
    "pg_stat_bgwriter_checkpoint_",
    "pg_stat_bgwriter_stats_reset",
    "pg_stat_database_conflicts",
    "pg_stat_database_deadlocks",
    "pg_stat_database_temp_",
    "pg_stat_database_tup_inserted",
    "pg_stat_database_tup_updated",
    "pg_stat_database_tup_deleted",
    "pg_stat_database_checksum_",
    "pg_stat_database_stats_reset",
    "pg_stat_user_tables_n_",
    "pg_stat_user_tables_seq_",
    "pg_stat_user_tables_idx_",
    "pg_stat_user_tables_last_",
    "pg_stat_user_tables_vacuum_",
    "pg_stat_user_tables_analyze_",
    "pg_statio_user_tables_",
];

/// Of those, the ones whose value is another by nature.
const OTHERWISE: &[&str] = &[
    // Seconds, and they pass.
    "pg_replication_last_replay_seconds",
    "pg_stat_archiver_last_archive_age",
    // The server writes WAL on its own account.
    "pg_replication_slots_pg_wal_lsn_diff",
    // The exporter's session says what surus's must not.
    "pg_settings_transaction_",
    "pg_settings_extra_float_digits",
];

const SCENE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, body text);
    INSERT INTO t SELECT g, repeat('x', g % 50) FROM generate_series(1, 5000) g;
    UPDATE t SET body = 'y' WHERE id < 100; DELETE FROM t WHERE id > 4900; SELECT count(*) FROM t;
    CREATE DATABASE other; SELECT pg_create_physical_replication_slot('spare', true)";

/// A server where something has happened. 17 took columns away that the exporter reads; its complaints are expected.
fn scene(major: u16) -> Option<Server> {
    let major = require_major(major)?;
    let server = Server::builder().major(major).autovacuum(false).setting("track_io_timing", "on").start();
    for statement in SCENE.split(';') {
        server.sql(statement);
    }
    server.expect_log("column \"checkpoints_timed\" does not exist");
    server.expect_log("relation \"pg_stat_statements\" does not exist");
    Some(server)
}

/// What differs though no table says so.
fn unexplained(server: &Server) -> Option<BTreeSet<String>> {
    let theirs = exporter::of(server)?;
    let ours = tokio::runtime::Runtime::new().unwrap().block_on(spoken::of(server));
    let families = theirs.0.len();
    assert!(families > 300, "the exporter said only {families} families");

    let mut wrong = BTreeSet::new();
    for (name, block) in &theirs.0 {
        let Some(kind) = ours.kind(name) else {
            // NaN is how 0.11 says NULL.
            let nothing = block.samples.iter().all(|sample| sample.value.is_nan());
            let fine = allowed(name, What::Missing) || allowed(name, What::Wanted);
            if !(fine || nothing && allowed(name, What::Value)) {
                wrong.insert(format!("{name} is missing"));
            }
            continue;
        };
        if kind != block.kind && !(block.kind == MetricKind::Unknown && allowed(name, What::Kind)) {
            wrong.insert(format!("{name} is a {kind:?}, theirs a {:?}", block.kind));
        }
        let (our_keys, their_keys) = (ours.keys(name), theirs.keys(name));
        let filled = our_keys.is_superset(&their_keys) && name.starts_with("pg_stat_replication_");
        if our_keys != their_keys && !(filled && allowed(name, What::Labels)) {
            wrong.insert(format!("{name} has the labels {our_keys:?}, theirs {their_keys:?}"));
        }
        wrong.extend(moved(name, &ours, &theirs));
    }
    Some(wrong)
}

/// Values that should stand still and differ.
fn moved(name: &str, ours: &Spoken, theirs: &Spoken) -> Vec<String> {
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if !begins(STILL) || begins(OTHERWISE) {
        return Vec::new();
    }
    let own = ours.values(name);
    let same =
        |own: Option<&f64>, value: f64| own.is_some_and(|own| (own - value).abs() <= 1e-9 * value.abs().max(1e-3));
    let theirs = theirs.values(name).into_iter().filter(|(_, value)| !value.is_nan());
    let differing = theirs.filter(|(labels, value)| !same(own.get(labels), *value));
    differing.map(|(labels, value)| format!("{labels} is {:?}, theirs {value}", own.get(&labels))).collect()
}

fn beside(major: u16) {
    let Some(wrong) = scene(major).and_then(|server| unexplained(&server)) else { return };
    assert!(wrong.is_empty(), "on PostgreSQL {major}: {wrong:#?}");
}

#[test]
fn beside_the_exporter_on_15() {
    beside(15);
}

#[test]
fn beside_the_exporter_on_18() {
    beside(18);
}

#[test]
fn beside_the_exporter_with_a_standby() {
    let Some(server) = scene(15) else { return };
    let standby = server.standby();
    standby.wait_caught_up(&server);
    let Some(wrong) = unexplained(&server) else { return };
    assert!(wrong.is_empty(), "{wrong:#?}");
}
