//! Tables and their indexes: rows read, changed, dead; vacuum and analyze; blocks read and hit.
//!
//! All that pg_stat_user_tables, pg_statio_user_tables and the same views of indexes tell comes from one query over the
//! functions behind them: the views join and group again and again, and each asks for the same counters anew. Sums over
//! a table's indexes are made here.
//!
//! 0.20 of the exporter renamed the `_blks_` of its sample queries to `_blocks_`; both are told, from one read.
//!
//! Sizes are elsewhere (`table_size`): reading them takes locks and touches the disk.

use crate::collector::{Collector, Page, RunsOn, Scene, Scope, Tier, families, user_schema};
use std::collections::HashMap;
use surus_core::series::Labels;
use surus_pg::{Row, RowError, Rows, Sql};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

families! {
    limited;
    TABLES ["datname", "schemaname", "relname"] {
        SEQ_SCAN = Counter "pg_stat_user_tables_seq_scan" "scans" "Sequential scans begun on the table";
        SEQ_TUP_READ = Counter "pg_stat_user_tables_seq_tup_read" "returned" "Live rows read by sequential scans";
        IDX_SCAN = Counter "pg_stat_user_tables_idx_scan" "" "Scans begun on the table's indexes";
        IDX_TUP_FETCH = Counter "pg_stat_user_tables_idx_tup_fetch" "" "Live rows fetched by index scans";
        N_TUP_INS = Counter "pg_stat_user_tables_n_tup_ins" "n_tup_ins" "Rows inserted";
        N_TUP_UPD = Counter "pg_stat_user_tables_n_tup_upd" "n_tup_upd" "Rows updated";
        N_TUP_DEL = Counter "pg_stat_user_tables_n_tup_del" "n_tup_del" "Rows deleted";
        N_TUP_HOT_UPD = Counter "pg_stat_user_tables_n_tup_hot_upd" "n_tup_hot_upd"
            "Rows updated without a new index entry";
        N_LIVE_TUP = Gauge "pg_stat_user_tables_n_live_tup" "n_live_tup" "Estimated number of live rows";
        N_DEAD_TUP = Gauge "pg_stat_user_tables_n_dead_tup" "n_dead_tup" "Estimated number of dead rows";
        N_MOD = Gauge "pg_stat_user_tables_n_mod_since_analyze" "n_mod_since_analyze"
            "Estimated number of rows changed since the table was analyzed";
        LAST_VACUUM = Gauge "pg_stat_user_tables_last_vacuum" "last_vacuum"
            "When the table was last vacuumed by hand, in seconds since 1970; 0 when it never was";
        LAST_AUTOVACUUM = Gauge "pg_stat_user_tables_last_autovacuum" "last_autovacuum"
            "When autovacuum last vacuumed the table, in seconds since 1970; 0 when it never did";
        LAST_ANALYZE = Gauge "pg_stat_user_tables_last_analyze" "last_analyze"
            "When the table was last analyzed by hand, in seconds since 1970; 0 when it never was";
        LAST_AUTOANALYZE = Gauge "pg_stat_user_tables_last_autoanalyze" "last_autoanalyze"
            "When autovacuum last analyzed the table, in seconds since 1970; 0 when it never did";
        VACUUM_COUNT = Counter "pg_stat_user_tables_vacuum_count" "vacuum_count" "How often it was vacuumed by hand";
        AUTOVACUUM_COUNT = Counter "pg_stat_user_tables_autovacuum_count" "autovacuum_count"
            "How often autovacuum vacuumed it";
        ANALYZE_COUNT = Counter "pg_stat_user_tables_analyze_count" "analyze_count" "How often it was analyzed by hand";
        AUTOANALYZE_COUNT = Counter "pg_stat_user_tables_autoanalyze_count" "autoanalyze_count"
            "How often autovacuum analyzed it";
        HEAP_READ = Counter "pg_statio_user_tables_heap_blocks_read" ""
            "Blocks of the table read that were not in shared buffers";
        HEAP_HIT = Counter "pg_statio_user_tables_heap_blocks_hit" ""
            "Blocks of the table found in shared buffers";
        IDX_READ = Counter "pg_statio_user_tables_idx_blocks_read" ""
            "Blocks of the table's indexes read that were not in shared buffers";
        IDX_HIT = Counter "pg_statio_user_tables_idx_blocks_hit" ""
            "Blocks of the table's indexes found in shared buffers";
        TOAST_READ = Counter "pg_statio_user_tables_toast_blocks_read" ""
            "Blocks of the table's TOAST table read that were not in shared buffers";
        TOAST_HIT = Counter "pg_statio_user_tables_toast_blocks_hit" ""
            "Blocks of the table's TOAST table found in shared buffers";
        TIDX_READ = Counter "pg_statio_user_tables_tidx_blocks_read" ""
            "Blocks of the TOAST table's index read that were not in shared buffers";
        TIDX_HIT = Counter "pg_statio_user_tables_tidx_blocks_hit" ""
            "Blocks of the TOAST table's index found in shared buffers";
        OLD_HEAP_READ = Counter "pg_statio_user_tables_heap_blks_read" ""
            "Blocks of the table read that were not in shared buffers";
        OLD_HEAP_HIT = Counter "pg_statio_user_tables_heap_blks_hit" ""
            "Blocks of the table found in shared buffers";
        OLD_IDX_READ = Counter "pg_statio_user_tables_idx_blks_read" ""
            "Blocks of the table's indexes read that were not in shared buffers";
        OLD_IDX_HIT = Counter "pg_statio_user_tables_idx_blks_hit" ""
            "Blocks of the table's indexes found in shared buffers";
        OLD_TOAST_READ = Counter "pg_statio_user_tables_toast_blks_read" ""
            "Blocks of the table's TOAST table read that were not in shared buffers";
        OLD_TOAST_HIT = Counter "pg_statio_user_tables_toast_blks_hit" ""
            "Blocks of the table's TOAST table found in shared buffers";
        OLD_TIDX_READ = Counter "pg_statio_user_tables_tidx_blks_read" ""
            "Blocks of the TOAST table's index read that were not in shared buffers";
        OLD_TIDX_HIT = Counter "pg_statio_user_tables_tidx_blks_hit" ""
            "Blocks of the TOAST table's index found in shared buffers";
    }
    INDEXES ["datname", "schemaname", "relname", "indexrelname"] {
        INDEX_READ = Counter "pg_statio_user_indexes_idx_blks_read_total" ""
            "Blocks of the index read that were not in shared buffers";
        INDEX_HIT = Counter "pg_statio_user_indexes_idx_blks_hit_total" "hit" "Blocks of the index found in shared buffers";
        INDEX_SCAN = Counter "pg_stat_user_indexes_idx_scan" "scans" "Scans begun on the index";
        INDEX_TUP_READ = Counter "pg_stat_user_indexes_idx_tup_read" "returned" "Index entries that scans returned";
        INDEX_TUP_FETCH = Counter "pg_stat_user_indexes_idx_tup_fetch" "tup_fetched"
            "Live rows fetched by plain scans of the index";
    }
}

/// Tables of one database, the largest first.
const MOST: usize = 4_000;
/// Indexes that are told one by one.
const MOST_INDEXES: usize = 5_000;

/// `$kinds` are the kinds of relations that the major's view has. Tables come with their own counters, then their
/// indexes and those of their TOAST tables with what indexes count.
macro_rules! tables {
    ($kinds:literal) => {
        concat!(
            "WITH t AS MATERIALIZED (SELECT oid, relname, relnamespace, reltoastrelid FROM pg_class WHERE relkind IN (",
            $kinds,
            ") AND relnamespace IN (SELECT n.oid FROM pg_namespace n WHERE ",
            user_schema!("n"),
            ") ORDER BY relpages DESC, oid LIMIT 4001) \
             SELECT 'table' AS kind, t.oid AS table_oid, current_database() AS datname, n.nspname AS schemaname, t.relname, \
               pg_stat_get_numscans(t.oid) AS scans, pg_stat_get_tuples_returned(t.oid) AS returned, \
               pg_stat_get_tuples_fetched(t.oid) AS tup_fetched, pg_stat_get_blocks_fetched(t.oid) AS fetched, \
               pg_stat_get_blocks_hit(t.oid) AS hit, \
               pg_stat_get_tuples_inserted(t.oid) AS n_tup_ins, pg_stat_get_tuples_updated(t.oid) AS n_tup_upd, \
               pg_stat_get_tuples_deleted(t.oid) AS n_tup_del, pg_stat_get_tuples_hot_updated(t.oid) AS n_tup_hot_upd, \
               pg_stat_get_live_tuples(t.oid) AS n_live_tup, pg_stat_get_dead_tuples(t.oid) AS n_dead_tup, \
               pg_stat_get_mod_since_analyze(t.oid) AS n_mod_since_analyze, \
               coalesce(date_part('epoch', pg_stat_get_last_vacuum_time(t.oid)), 0) AS last_vacuum, \
               coalesce(date_part('epoch', pg_stat_get_last_autovacuum_time(t.oid)), 0) AS last_autovacuum, \
               coalesce(date_part('epoch', pg_stat_get_last_analyze_time(t.oid)), 0) AS last_analyze, \
               coalesce(date_part('epoch', pg_stat_get_last_autoanalyze_time(t.oid)), 0) AS last_autoanalyze, \
               pg_stat_get_vacuum_count(t.oid) AS vacuum_count, pg_stat_get_autovacuum_count(t.oid) AS autovacuum_count, \
               pg_stat_get_analyze_count(t.oid) AS analyze_count, pg_stat_get_autoanalyze_count(t.oid) AS autoanalyze_count, \
               CASE WHEN reltoastrelid <> 0 THEN pg_stat_get_blocks_fetched(reltoastrelid) ELSE 0 END AS toast_fetched, \
               CASE WHEN reltoastrelid <> 0 THEN pg_stat_get_blocks_hit(reltoastrelid) ELSE 0 END AS toast_hit \
             FROM t JOIN pg_namespace n ON n.oid = t.relnamespace \
             UNION ALL SELECT 'index', t.oid, NULL, NULL, c.relname, pg_stat_get_numscans(c.oid), \
               pg_stat_get_tuples_returned(c.oid), pg_stat_get_tuples_fetched(c.oid), pg_stat_get_blocks_fetched(c.oid), \
               pg_stat_get_blocks_hit(c.oid), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
               NULL, NULL, NULL, NULL FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i' \
             UNION ALL SELECT 'toast', t.oid, NULL, NULL, NULL, NULL, NULL, NULL, pg_stat_get_blocks_fetched(i.indexrelid), \
               pg_stat_get_blocks_hit(i.indexrelid), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
               NULL, NULL, NULL, NULL, NULL FROM t JOIN pg_index i ON i.indrelid = t.reltoastrelid"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "user_tables",
    reads: "pg_class, pg_index and the functions behind pg_stat_user_tables, pg_stat_user_indexes and pg_statio_user_*",
    tier: Tier::Detail,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::until(13, tables!("'r', 'm'")), Sql::since(14, tables!("'r', 'm', 'p'"))],
    read,
};

/// What all indexes of a table did together, and those of its TOAST table.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    scans: f64,
    tup_fetched: f64,
    fetched: f64,
    hit: f64,
    toast_fetched: f64,
    toast_hit: f64,
}

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let mut sums: HashMap<&str, Sums> = HashMap::new();
    for row in rows.iter() {
        let of_table = sums.entry(row.str("table_oid")?).or_default();
        match row.str("kind")? {
            "index" => {
                of_table.scans += row.f64("scans")?;
                of_table.tup_fetched += row.f64("tup_fetched")?;
                of_table.fetched += row.f64("fetched")?;
                of_table.hit += row.f64("hit")?;
            }
            "toast" => {
                of_table.toast_fetched += row.f64("fetched")?;
                of_table.toast_hit += row.f64("hit")?;
            }
            _ => {}
        }
    }
    let of_kind = |kind: &'static str| rows.iter().filter(move |row| row.str("kind") == Ok(kind));
    let mut tables: HashMap<&str, Labels> = HashMap::new();
    for row in of_kind("table").take(MOST) {
        let (oid, labels) = (row.str("table_oid")?, crate::collector::labels(row, LABELS)?);
        page.columns(&labels, row, TABLES)?;
        blocks(row, &labels, &sums.get(oid).copied().unwrap_or_default(), page)?;
        tables.insert(oid, labels);
    }
    for row in of_kind("index").take(MOST_INDEXES) {
        let Some(labels) = tables.get(row.str("table_oid")?) else { continue };
        let labels = labels.with("indexrelname", row.str("relname")?);
        page.columns(&labels, row, INDEXES)?;
        page.put(&INDEX_READ, &labels, row.f64("fetched")? - row.f64("hit")?);
    }
    let truncated = of_kind("table").count() > MOST || of_kind("index").count() > MOST_INDEXES;
    page.truncated(COLLECTOR.name, scene.database, truncated);
    Ok(())
}

/// What is a difference or a sum. Blocks are told under both spellings.
fn blocks(row: Row<'_>, labels: &Labels, sums: &Sums, page: &mut Page) -> Result<(), RowError> {
    let (heap, heap_hit) = (row.f64("fetched")?, row.f64("hit")?);
    let (toast, toast_hit) = (row.f64("toast_fetched")?, row.f64("toast_hit")?);
    for (family, value) in [
        (&IDX_SCAN, sums.scans),
        (&IDX_TUP_FETCH, sums.tup_fetched + row.f64("tup_fetched")?),
        (&HEAP_READ, heap - heap_hit),
        (&HEAP_HIT, heap_hit),
        (&IDX_READ, sums.fetched - sums.hit),
        (&IDX_HIT, sums.hit),
        (&TOAST_READ, toast - toast_hit),
        (&TOAST_HIT, toast_hit),
        (&TIDX_READ, sums.toast_fetched - sums.toast_hit),
        (&TIDX_HIT, sums.toast_hit),
        (&OLD_HEAP_READ, heap - heap_hit),
        (&OLD_HEAP_HIT, heap_hit),
        (&OLD_IDX_READ, sums.fetched - sums.hit),
        (&OLD_IDX_HIT, sums.hit),
        (&OLD_TOAST_READ, toast - toast_hit),
        (&OLD_TOAST_HIT, toast_hit),
        (&OLD_TIDX_READ, sums.toast_fetched - sums.toast_hit),
        (&OLD_TIDX_HIT, sums.toast_hit),
    ] {
        page.put(family, labels, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use surus_testkit::{Server, majors};

    /// Every counter is what the views say, on the oldest and the newest major that are here.
    #[test]
    fn the_same_as_the_views() {
        let majors = majors();
        for major in [majors[0], majors[majors.len() - 1]] {
            let server = Server::builder().major(major).autovacuum(false).start();
            server.sql("CREATE TABLE t (id bigint PRIMARY KEY, body text, n int); CREATE INDEX by_n ON t (n)");
            server.sql("INSERT INTO t SELECT g, repeat(md5(g::text), 200), g % 7 FROM generate_series(1, 500) g");
            server.sql("UPDATE t SET n = 8 WHERE id < 50; DELETE FROM t WHERE id > 480; SET enable_seqscan = off; \
                        SELECT * FROM t WHERE id = 5; SELECT * FROM t WHERE n = 3; CREATE MATERIALIZED VIEW m AS SELECT 1");
            server.sql("VACUUM ANALYZE t");
            wait_for(
                &server,
                "SELECT (last_vacuum IS NOT NULL AND idx_scan > 1)::text AS v FROM pg_stat_user_tables WHERE relname = 't'",
                "true",
            );
            let heard = heard(&server, "postgres", &[&COLLECTOR]);
            let labels = [("datname", "postgres"), ("schemaname", "public"), ("relname", "t")];
            let same = |view: &str, prefix: &str, columns: &[(&str, &str)], labels: &[(&str, &str)]| {
                for (metric, column) in columns {
                    let sql = format!("SELECT coalesce(extract(epoch FROM {column}), 0)::float8 AS v FROM {view}");
                    let plain = format!("SELECT coalesce({column}, 0)::float8 AS v FROM {view}");
                    let expected: f64 =
                        server.value(if column.starts_with("last") { &sql } else { &plain }).parse().unwrap();
                    let told = heard.value(&format!("{prefix}{metric}"), labels);
                    assert!((told - expected).abs() < 1e-3, "on PostgreSQL {major} {metric} is {told}, not {expected}");
                }
            };
            let mut own: Vec<&str> =
                TABLES.iter().filter_map(|(family, _)| family.name.strip_prefix("pg_stat_user_tables_")).collect();
            own.sort_unstable();
            assert_eq!(own.len(), 19);
            let pairs: Vec<(&str, &str)> = own.iter().map(|name| (*name, *name)).collect();
            same("pg_stat_user_tables WHERE relname = 't'", "pg_stat_user_tables_", &pairs, &labels);
            let blocks = ["heap", "idx", "toast", "tidx"];
            for kind in blocks.into_iter().flat_map(|kind| [(kind, "read"), (kind, "hit")]) {
                let (column, new) = (format!("{}_blks_{}", kind.0, kind.1), format!("{}_blocks_{}", kind.0, kind.1));
                let pairs = [(column.as_str(), column.as_str()), (new.as_str(), column.as_str())];
                same("pg_statio_user_tables WHERE relname = 't'", "pg_statio_user_tables_", &pairs, &labels);
            }
            let index = [("schemaname", "public"), ("relname", "t"), ("indexrelname", "by_n")];
            let scans = ["idx_scan", "idx_tup_read", "idx_tup_fetch"].map(|name| (name, name));
            same("pg_stat_user_indexes WHERE indexrelname = 'by_n'", "pg_stat_user_indexes_", &scans, &index);
            let blocks = [("idx_blks_read_total", "idx_blks_read"), ("idx_blks_hit_total", "idx_blks_hit")];
            same("pg_statio_user_indexes WHERE indexrelname = 'by_n'", "pg_statio_user_indexes_", &blocks, &index);
            assert_eq!(heard.value("surus_collector_truncated", &[]), 0.0);
            assert!(heard.maybe("pg_stat_user_tables_seq_scan", &[("relname", "m")]).is_some());
        }
    }
}
