//! pg_stat_statements as series: the 100 statements that took most time, under the exporter's names.
//!
//! A query id as a label makes a series that never ends for every statement that was ever among them, which is how
//! Prometheus servers die; surus keeps statements elsewhere, so this runs only when it is wanted. Texts are not read.

use crate::collector::{Collector, Need, Page, RunsOn, Scene, Scope, Tier, families};
use surus_pg::{RowError, Rows, Sql};

families! {
    STATEMENTS ["user", "datname", "queryid"] {
        CALLS = Counter "pg_stat_statements_calls_total" "calls" "How often the statement was executed";
        SECONDS = Counter "pg_stat_statements_seconds_total" "seconds" "Seconds spent executing the statement";
        ROWS = Counter "pg_stat_statements_rows_total" "rows" "Rows that the statement returned or changed";
        READ_SECONDS = Counter "pg_stat_statements_block_read_seconds_total" "read_seconds"
            "Seconds that the statement spent reading blocks, when track_io_timing is on";
        WRITE_SECONDS = Counter "pg_stat_statements_block_write_seconds_total" "write_seconds"
            "Seconds that the statement spent writing blocks, when track_io_timing is on";
    }
}

/// The same statement has a row for top level and one for inside functions (14 and newer): told as their sum.
macro_rules! statements {
    ($read:literal, $write:literal) => {
        concat!(
            "SELECT pg_get_userbyid(s.userid) AS \"user\", d.datname, s.queryid, sum(s.calls) AS calls, \
                   sum(s.total_exec_time) / 1000 AS seconds, sum(s.rows) AS rows, sum(s.",
            $read,
            ") / 1000 AS read_seconds, sum(s.",
            $write,
            ") / 1000 AS write_seconds FROM @schema@.pg_stat_statements(false) s JOIN pg_database d ON d.oid = s.dbid \
                 WHERE s.queryid IS NOT NULL GROUP BY 1, 2, 3 ORDER BY seconds DESC, 3 LIMIT 100"
        )
    };
}

pub static COLLECTOR: Collector = Collector {
    name: "stat_statements",
    reads: "pg_stat_statements(false)",
    tier: Tier::Detail,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats, Need::Extension("pg_stat_statements")],
    families: FAMILIES,
    sql: &[
        Sql::until(16, statements!("blk_read_time", "blk_write_time")),
        Sql::since(17, statements!("shared_blk_read_time", "shared_blk_write_time")),
    ],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    page.table(rows, &["user", "datname", "queryid"], STATEMENTS)
}
