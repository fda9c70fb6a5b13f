//! Tables: rows read, changed, dead; vacuum and analyze; blocks read and hit. What pg_stat_user_tables and
//! pg_statio_user_tables tell, in one pass over pg_class with the functions behind those views: together they join and
//! group twice, and ask for the same table's counters in two queries.
//!
//! 0.20 of the exporter renamed the `_blks_` of its sample queries to `_blocks_`; both are told, from one read.
//!
//! Sizes are elsewhere (`table_size`): reading them takes locks and touches the disk.

use crate::collector::{Collector, Limit, Page, RunsOn, Scene, Scope, Tier, families, user_schema};
use surus_pg::{RowError, Rows, Sql};

const LABELS: &[&str] = &["datname", "schemaname", "relname"];

families! {
    limited;
    TABLES ["datname", "schemaname", "relname"] {
        SEQ_SCAN = Counter "pg_stat_user_tables_seq_scan" "seq_scan" "Sequential scans begun on the table";
        SEQ_TUP_READ = Counter "pg_stat_user_tables_seq_tup_read" "seq_tup_read" "Live rows read by sequential scans";
        IDX_SCAN = Counter "pg_stat_user_tables_idx_scan" "idx_scan" "Scans begun on the table's indexes";
        IDX_TUP_FETCH = Counter "pg_stat_user_tables_idx_tup_fetch" "idx_tup_fetch" "Live rows fetched by index scans";
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
        HEAP_READ = Counter "pg_statio_user_tables_heap_blocks_read" "heap_read"
            "Blocks of the table read that were not in shared buffers";
        HEAP_HIT = Counter "pg_statio_user_tables_heap_blocks_hit" "heap_hit"
            "Blocks of the table found in shared buffers";
        IDX_READ = Counter "pg_statio_user_tables_idx_blocks_read" "idx_read"
            "Blocks of the table's indexes read that were not in shared buffers";
        IDX_HIT = Counter "pg_statio_user_tables_idx_blocks_hit" "idx_hit"
            "Blocks of the table's indexes found in shared buffers";
        TOAST_READ = Counter "pg_statio_user_tables_toast_blocks_read" "toast_read"
            "Blocks of the table's TOAST table read that were not in shared buffers";
        TOAST_HIT = Counter "pg_statio_user_tables_toast_blocks_hit" "toast_hit"
            "Blocks of the table's TOAST table found in shared buffers";
        TIDX_READ = Counter "pg_statio_user_tables_tidx_blocks_read" "tidx_read"
            "Blocks of the TOAST table's index read that were not in shared buffers";
        TIDX_HIT = Counter "pg_statio_user_tables_tidx_blocks_hit" "tidx_hit"
            "Blocks of the TOAST table's index found in shared buffers";
        OLD_HEAP_READ = Counter "pg_statio_user_tables_heap_blks_read" "heap_read"
            "Blocks of the table read that were not in shared buffers";
        OLD_HEAP_HIT = Counter "pg_statio_user_tables_heap_blks_hit" "heap_hit"
            "Blocks of the table found in shared buffers";
        OLD_IDX_READ = Counter "pg_statio_user_tables_idx_blks_read" "idx_read"
            "Blocks of the table's indexes read that were not in shared buffers";
        OLD_IDX_HIT = Counter "pg_statio_user_tables_idx_blks_hit" "idx_hit"
            "Blocks of the table's indexes found in shared buffers";
        OLD_TOAST_READ = Counter "pg_statio_user_tables_toast_blks_read" "toast_read"
            "Blocks of the table's TOAST table read that were not in shared buffers";
        OLD_TOAST_HIT = Counter "pg_statio_user_tables_toast_blks_hit" "toast_hit"
            "Blocks of the table's TOAST table found in shared buffers";
        OLD_TIDX_READ = Counter "pg_statio_user_tables_tidx_blks_read" "tidx_read"
            "Blocks of the TOAST table's index read that were not in shared buffers";
        OLD_TIDX_HIT = Counter "pg_statio_user_tables_tidx_blks_hit" "tidx_hit"
            "Blocks of the TOAST table's index found in shared buffers";
    }
}

const MOST: usize = 5_000;

/// `$kinds` are the kinds of relations that the major's view has.
macro_rules! tables {
    ($kinds:literal) => {
        concat!(
            "WITH x AS (SELECT indrelid, sum(pg_stat_get_numscans(indexrelid)) AS scans, \
               sum(pg_stat_get_tuples_fetched(indexrelid)) AS fetched, \
               sum(pg_stat_get_blocks_fetched(indexrelid)) AS fetched_blocks, \
               sum(pg_stat_get_blocks_hit(indexrelid)) AS hit_blocks FROM pg_index GROUP BY indrelid) \
             SELECT current_database() AS datname, n.nspname AS schemaname, c.relname, \
               pg_stat_get_numscans(c.oid) AS seq_scan, pg_stat_get_tuples_returned(c.oid) AS seq_tup_read, \
               coalesce(i.scans, 0) AS idx_scan, \
               coalesce(i.fetched, 0) + pg_stat_get_tuples_fetched(c.oid) AS idx_tup_fetch, \
               pg_stat_get_tuples_inserted(c.oid) AS n_tup_ins, pg_stat_get_tuples_updated(c.oid) AS n_tup_upd, \
               pg_stat_get_tuples_deleted(c.oid) AS n_tup_del, pg_stat_get_tuples_hot_updated(c.oid) AS n_tup_hot_upd, \
               pg_stat_get_live_tuples(c.oid) AS n_live_tup, pg_stat_get_dead_tuples(c.oid) AS n_dead_tup, \
               pg_stat_get_mod_since_analyze(c.oid) AS n_mod_since_analyze, \
               coalesce(extract(epoch FROM pg_stat_get_last_vacuum_time(c.oid)), 0) AS last_vacuum, \
               coalesce(extract(epoch FROM pg_stat_get_last_autovacuum_time(c.oid)), 0) AS last_autovacuum, \
               coalesce(extract(epoch FROM pg_stat_get_last_analyze_time(c.oid)), 0) AS last_analyze, \
               coalesce(extract(epoch FROM pg_stat_get_last_autoanalyze_time(c.oid)), 0) AS last_autoanalyze, \
               pg_stat_get_vacuum_count(c.oid) AS vacuum_count, pg_stat_get_autovacuum_count(c.oid) AS autovacuum_count, \
               pg_stat_get_analyze_count(c.oid) AS analyze_count, \
               pg_stat_get_autoanalyze_count(c.oid) AS autoanalyze_count, \
               pg_stat_get_blocks_fetched(c.oid) - pg_stat_get_blocks_hit(c.oid) AS heap_read, \
               pg_stat_get_blocks_hit(c.oid) AS heap_hit, \
               coalesce(i.fetched_blocks - i.hit_blocks, 0) AS idx_read, coalesce(i.hit_blocks, 0) AS idx_hit, \
               pg_stat_get_blocks_fetched(c.reltoastrelid) - pg_stat_get_blocks_hit(c.reltoastrelid) AS toast_read, \
               pg_stat_get_blocks_hit(c.reltoastrelid) AS toast_hit, \
               coalesce(t.fetched_blocks - t.hit_blocks, 0) AS tidx_read, coalesce(t.hit_blocks, 0) AS tidx_hit \
             FROM (SELECT oid, relname, relnamespace, reltoastrelid FROM pg_class WHERE relkind IN (",
            $kinds,
            ") AND relnamespace IN (SELECT n.oid FROM pg_namespace n WHERE ",
            user_schema!("n"),
            ") ORDER BY relpages DESC, oid LIMIT 5001) c \
             JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN x i ON i.indrelid = c.oid LEFT JOIN x t ON t.indrelid = c.reltoastrelid"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "user_tables",
    reads: "pg_class, pg_index and the functions behind pg_stat_user_tables and pg_statio_user_tables",
    tier: Tier::Detail,
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    families: FAMILIES,
    sql: &[Sql::until(13, tables!("'r', 'm'")), Sql::since(14, tables!("'r', 'm', 'p'"))],
    read,
};

fn read(rows: &Rows, scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    let limit = Limit { collector: COLLECTOR.name, database: scene.database, rows: MOST };
    page.limited(rows, &limit, LABELS, TABLES)
}
