//! How far long commands are: the views pg_stat_progress_*, by one query over the function behind them. Planning six
//! views every 10 s would cost more than all other counters together, for rows that are rarely there.
//!
//! Where several commands of one kind run on the same table they are told as their sum.

mod phases;

use crate::collector::{Collector, Columns, Page, RunsOn, Scene, Scope, Tier, families, relation_name};
use phases::{command, phase};
use std::collections::BTreeMap;
use surus_core::series::{Family, Labels};
use surus_pg::{Row, RowError, Rows, Sql};

families! {
    VACUUM ["datname", "relname"] {
        TOTAL = Gauge "pg_stat_progress_vacuum_heap_blks" "param2" "Blocks of the table";
        SCANNED = Gauge "pg_stat_progress_vacuum_heap_blks_scanned" "param3" "Blocks scanned so far";
        VACUUMED = Gauge "pg_stat_progress_vacuum_heap_blks_vacuumed" "param4" "Blocks vacuumed so far";
        ROUNDS = Gauge "pg_stat_progress_vacuum_index_vacuums" "param5"
            "How often all indexes were gone through so far; more than one means that maintenance_work_mem was too small";
        MAX_DEAD = Gauge "pg_stat_progress_vacuum_max_dead_tuples" "param6"
            "Dead rows that fit in memory before the indexes must be gone through; since 17 in bytes";
        DEAD = Gauge "pg_stat_progress_vacuum_num_dead_tuples" "param7"
            "Dead rows in memory since the indexes were gone through last; since 17 in bytes";
        DEAD_ITEMS = Gauge "pg_stat_progress_vacuum_num_dead_item_ids" ""
            "Dead rows in memory since the indexes were gone through last (17 and newer)";
        DELAY = Gauge "pg_stat_progress_vacuum_delay_seconds" ""
            "Seconds slept because of the cost limit, when track_cost_delay_timing is on (18 and newer)";
    }
    VACUUM_PHASE ["datname", "relname", "phase"] {
        IN_VACUUM = Gauge "pg_stat_progress_vacuum_phase" "" "1 for the phase that the vacuum is in, 0 for the others";
    }
    ANALYZE ["datname", "relname"] {
        SAMPLE = Gauge "pg_stat_progress_analyze_sample_blks" "param2" "Blocks of the table in the sample";
        SAMPLED = Gauge "pg_stat_progress_analyze_sample_blks_scanned" "param3" "Blocks read so far";
        EXTENDED = Gauge "pg_stat_progress_analyze_ext_stats" "param4" "Extended statistics to compute";
        COMPUTED = Gauge "pg_stat_progress_analyze_ext_stats_computed" "param5" "Extended statistics computed so far";
        CHILDREN = Gauge "pg_stat_progress_analyze_child_tables" "param6" "Child tables to read";
        CHILDREN_DONE = Gauge "pg_stat_progress_analyze_child_tables_done" "param7" "Child tables read so far";
    }
    ANALYZE_PHASE ["datname", "relname", "phase"] {
        IN_ANALYZE = Gauge "pg_stat_progress_analyze_phase" "" "Commands that are in this phase";
    }
    CREATE_INDEX ["datname", "relname", "command"] {
        LOCKERS = Gauge "pg_stat_progress_create_index_lockers" "param4" "Transactions to wait for";
        LOCKERS_DONE = Gauge "pg_stat_progress_create_index_lockers_done" "param5"
            "Transactions that were waited for so far";
        BLOCKS = Gauge "pg_stat_progress_create_index_blocks" "param16" "Blocks to go through in this phase";
        BLOCKS_DONE = Gauge "pg_stat_progress_create_index_blocks_done" "param17" "Blocks gone through in this phase";
        TUPLES = Gauge "pg_stat_progress_create_index_tuples" "param12" "Rows to go through in this phase";
        TUPLES_DONE = Gauge "pg_stat_progress_create_index_tuples_done" "param13" "Rows gone through in this phase";
        PARTITIONS = Gauge "pg_stat_progress_create_index_partitions" "param14" "Partitions to index";
        PARTITIONS_DONE = Gauge "pg_stat_progress_create_index_partitions_done" "param15" "Partitions indexed so far";
    }
    CREATE_INDEX_PHASE ["datname", "relname", "command", "phase"] {
        IN_CREATE_INDEX = Gauge "pg_stat_progress_create_index_phase" "" "Commands that are in this phase";
    }
    CLUSTER ["datname", "relname", "command"] {
        TUPLES_SCANNED = Gauge "pg_stat_progress_cluster_heap_tuples_scanned" "param4" "Rows read so far";
        TUPLES_WRITTEN = Gauge "pg_stat_progress_cluster_heap_tuples_written" "param5" "Rows written so far";
        HEAP = Gauge "pg_stat_progress_cluster_heap_blks" "param6" "Blocks of the table";
        HEAP_SCANNED = Gauge "pg_stat_progress_cluster_heap_blks_scanned" "param7" "Blocks read so far";
        REBUILT = Gauge "pg_stat_progress_cluster_indexes_rebuilt" "param8" "Indexes built anew so far";
    }
    CLUSTER_PHASE ["datname", "relname", "command", "phase"] {
        IN_CLUSTER = Gauge "pg_stat_progress_cluster_phase" "" "Commands that are in this phase";
    }
    COPY ["datname", "relname", "command"] {
        BYTES = Gauge "pg_stat_progress_copy_bytes_processed" "param1" "Bytes copied so far (14 and newer)";
        BYTES_TOTAL = Gauge "pg_stat_progress_copy_bytes" "param2"
            "Size of the files that are read; 0 when not known (14 and newer)";
        COPIED = Gauge "pg_stat_progress_copy_tuples_processed" "param3" "Rows copied so far (14 and newer)";
        EXCLUDED = Gauge "pg_stat_progress_copy_tuples_excluded" "param4"
            "Rows left out so far because of a WHERE clause (14 and newer)";
    }
    BASEBACKUP ["phase"] {
        BACKUP = Gauge "pg_stat_progress_basebackup_backup_bytes" ""
            "Bytes that the base backups in this phase will stream, as estimated; absent when not estimated";
        STREAMED = Gauge "pg_stat_progress_basebackup_backup_streamed_bytes" "param3"
            "Bytes that the base backups in this phase have streamed";
        SPACES = Gauge "pg_stat_progress_basebackup_tablespaces" "param4" "Tablespaces to stream";
        SPACES_DONE = Gauge "pg_stat_progress_basebackup_tablespaces_streamed" "param5" "Tablespaces streamed so far";
    }
    BACKUPS ["phase"] {
        IN_BACKUP = Gauge "pg_stat_progress_basebackup_phase" "" "Base backups that are in this phase";
    }
}

/// `$copy` is the branch for COPY, which 13 does not know.
macro_rules! commands {
    ($copy:literal) => {
        concat!(
            "SELECT s.*, d.datname, ",
            relation_name!("s.relid"),
            " AS relname FROM (SELECT 'VACUUM' AS kind, * FROM pg_stat_get_progress_info('VACUUM') \
               UNION ALL SELECT 'ANALYZE', * FROM pg_stat_get_progress_info('ANALYZE') \
               UNION ALL SELECT 'CREATE INDEX', * FROM pg_stat_get_progress_info('CREATE INDEX') \
               UNION ALL SELECT 'CLUSTER', * FROM pg_stat_get_progress_info('CLUSTER') \
               UNION ALL SELECT 'BASEBACKUP', * FROM pg_stat_get_progress_info('BASEBACKUP')",
            $copy,
            ") s LEFT JOIN pg_database d ON d.oid = s.datid"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "progress",
    reads: "pg_stat_progress_vacuum, _analyze, _create_index, _cluster, _copy and _basebackup",
    tier: Tier::Counters,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[
        Sql::until(13, commands!("")),
        Sql::since(14, commands!(" UNION ALL SELECT 'COPY', * FROM pg_stat_get_progress_info('COPY')")),
    ],
    read,
};

/// Families and labels with the sum so far.
type Summed = BTreeMap<(&'static str, Labels), (&'static Family, f64)>;

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let mut summed = Summed::new();
    for row in rows.iter() {
        one(row, scene.facts.version.major(), &mut summed)?;
    }
    for ((_, labels), (family, value)) in summed {
        page.put(family, &labels, value);
    }
    Ok(())
}

fn add(summed: &mut Summed, family: &'static Family, labels: &Labels, value: f64) {
    summed.entry((family.name, labels.clone())).or_insert((family, 0.0)).1 += value;
}

fn one(row: Row<'_>, major: u16, summed: &mut Summed) -> Result<(), RowError> {
    // Parameters are NULL for those whose sessions the role may not look into.
    let Some(first) = row.opt_i64("param1")? else { return Ok(()) };
    let kind = row.str("kind")?;
    let number = match kind {
        "CREATE INDEX" => row.i64("param10")?,
        "CLUSTER" => row.i64("param2")?,
        _ => first,
    };
    let now = phase(kind, number);
    let relation = Labels::merged([
        ("datname", row.opt_str("datname")?.unwrap_or_default()),
        ("relname", if row.str("relid")? == "0" { "" } else { row.str("relname")? }),
    ]);
    let commanded = || -> Result<Labels, RowError> {
        let number = if kind == "COPY" { row.i64("param5")? } else { first };
        Ok(relation.with("command", command(kind, number)))
    };
    let (labels, columns, in_phase): (Labels, &Columns, Option<&'static Family>) = match kind {
        "VACUUM" => (relation.clone(), VACUUM, None),
        "ANALYZE" => (relation.clone(), ANALYZE, Some(&IN_ANALYZE)),
        "CREATE INDEX" => (commanded()?, CREATE_INDEX, Some(&IN_CREATE_INDEX)),
        "CLUSTER" => (commanded()?, CLUSTER, Some(&IN_CLUSTER)),
        "COPY" => (commanded()?, COPY, None),
        _ => (Labels::merged([("phase", now)]), BASEBACKUP, Some(&IN_BACKUP)),
    };
    for (family, column) in columns.iter().filter(|(_, column)| !column.is_empty()) {
        add(summed, family, &labels, row.f64(column)?);
    }
    if let Some(family) = in_phase {
        add(summed, family, &labels.with("phase", now), 1.0);
    }
    match kind {
        "VACUUM" => vacuum(row, major, &labels, now, summed)?,
        "BASEBACKUP" if row.f64("param2")? >= 0.0 => add(summed, &BACKUP, &labels, row.f64("param2")?),
        _ => {}
    }
    Ok(())
}

/// What only a vacuum has: all of its phases, and the parameters of newer majors.
fn vacuum(row: Row<'_>, major: u16, labels: &Labels, now: &str, summed: &mut Summed) -> Result<(), RowError> {
    for phase in phases::VACUUM {
        add(summed, &IN_VACUUM, &labels.with("phase", phase), f64::from(u8::from(*phase == now)));
    }
    if major >= 17 {
        add(summed, &DEAD_ITEMS, labels, row.f64("param8")?);
    }
    if major >= 18 {
        // The parameter is in nanoseconds.
        add(summed, &DELAY, labels, row.f64("param11")? / 1e9);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use std::{thread, time::Duration};
    use surus_core::clock::Deadline;
    use surus_testkit::Server;

    #[test]
    fn a_vacuum_is_seen_in_its_phase() {
        let server = Server::builder().autovacuum(false).start();
        server
            .sql("CREATE TABLE public.t AS SELECT g AS id, repeat('x', 200) AS body FROM generate_series(1, 20000) g");
        server.expect_log("canceling statement due to user request");
        let session = server.dsn("postgres");
        let vacuum = thread::spawn(move || {
            let runtime = runtime();
            runtime.block_on(async {
                let session =
                    surus_pg::Target::parse(&session).unwrap().connect(&surus_pg::Manners::changing()).await.unwrap();
                session.run("SET vacuum_cost_delay = 100; SET vacuum_cost_limit = 10").await.unwrap();
                let _cancelled = session.run("VACUUM public.t").await;
                session.close().await;
            });
        });
        let limit = Deadline::after(Duration::from_secs(30));
        let heard = loop {
            let heard = heard(&server, "postgres", &[&COLLECTOR]);
            if heard.maybe("pg_stat_progress_vacuum_heap_blks_scanned", &[]).is_some_and(|blocks| blocks > 0.0) {
                break heard;
            }
            assert!(!limit.passed(), "no vacuum is seen");
            thread::sleep(Duration::from_millis(20));
        };
        server.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum");
        vacuum.join().unwrap();
        let labels = [("datname", "postgres"), ("relname", "t")];
        let pages: f64 = server.value("SELECT pg_relation_size('t') / 8192 AS v").parse().unwrap();
        assert_eq!(heard.value("pg_stat_progress_vacuum_heap_blks", &labels), pages);
        let phases = &heard.points["pg_stat_progress_vacuum_phase"];
        assert_eq!((phases.len(), phases.values().sum::<f64>()), (7, 1.0));
        let now = heard.value("pg_stat_progress_vacuum_phase", &[("relname", "t"), ("phase", "scanning heap")]);
        assert_eq!(now, 1.0);
    }

    #[test]
    fn several_on_one_table_are_a_sum() {
        let mut columns: Vec<String> = ["kind", "datname", "relname", "relid"].map(String::from).to_vec();
        columns.extend((1..=20).map(|number| format!("param{number}")));
        let copy = |bytes: i64, relid: &str| {
            let mut row: Vec<Option<String>> = ["COPY", "a", relid, relid].map(|text| Some(text.to_owned())).to_vec();
            row.extend([bytes, 0, 1, 0, 1].map(|value| Some(value.to_string())));
            row.extend(std::iter::repeat_n(Some("0".to_owned()), 15));
            row
        };
        let rows = Rows::new(columns, vec![copy(5, "7"), copy(6, "7"), copy(1, "0")]);
        let mut summed = Summed::new();
        for row in rows.iter() {
            one(row, 18, &mut summed).unwrap();
        }
        let bytes = |labels: &[(&'static str, &'static str)]| {
            summed[&("pg_stat_progress_copy_bytes_processed", Labels::merged(labels.iter().copied()))].1
        };
        assert_eq!(bytes(&[("datname", "a"), ("relname", "7"), ("command", "COPY FROM")]), 11.0);
        assert_eq!(bytes(&[("datname", "a"), ("command", "COPY FROM")]), 1.0);
    }
}
