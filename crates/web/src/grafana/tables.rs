//! Tables and indexes: size, bloat, vacuum, use.

use super::{DATABASE, Dashboard, INSTANCE, Kind, Row, panel, query};

pub static DASHBOARD: Dashboard = Dashboard {
    uid: "surus-tables",
    title: "PostgreSQL / Tables",
    about: "Which tables are large, bloated, or waiting for vacuum, and how are they read?",
    variables: &[INSTANCE, DATABASE],
    rows: &[
        Row {
            title: "Size",
            panels: &[
                panel(
                    "Size of the databases",
                    "",
                    Kind::Lines,
                    "bytes",
                    12,
                    &[query(
                        r#"pg_database_size_bytes{instance=~"$instance",datname=~"$datname"}"#,
                        "{{instance}} {{datname}}",
                    )],
                ),
                panel(
                    "Largest tables",
                    "Without their indexes.",
                    Kind::Lines,
                    "bytes",
                    12,
                    &[query(
                        r#"topk(10, pg_stat_user_tables_table_size_bytes{instance=~"$instance",datname=~"$datname"})"#,
                        "{{datname}} {{schemaname}}.{{relname}}",
                    )],
                ),
                panel(
                    "Bloat of tables",
                    "An estimate: the share of the table that holds nothing.",
                    Kind::Table,
                    "percentunit",
                    12,
                    &[query(r#"topk(20, pg_bloat_table_bloat_ratio{instance=~"$instance",datname=~"$datname"})"#, "")],
                ),
                panel(
                    "Bloat of indexes",
                    "An estimate for B-trees.",
                    Kind::Table,
                    "percentunit",
                    12,
                    &[query(r#"topk(20, pg_bloat_btree_bloat_ratio{instance=~"$instance",datname=~"$datname"})"#, "")],
                ),
            ],
        },
        Row {
            title: "Vacuum",
            panels: &[
                panel(
                    "Dead rows",
                    "The ten tables with the most.",
                    Kind::Lines,
                    "short",
                    12,
                    &[query(
                        r#"topk(10, pg_stat_user_tables_n_dead_tup{instance=~"$instance",datname=~"$datname"})"#,
                        "{{datname}} {{schemaname}}.{{relname}}",
                    )],
                ),
                panel(
                    "Age of the oldest transaction id",
                    "Autovacuum is forced at autovacuum_freeze_max_age.",
                    Kind::Lines,
                    "short",
                    12,
                    &[
                        query(
                            r#"topk(10, pg_table_frozenxid_age{instance=~"$instance",datname=~"$datname"})"#,
                            "{{datname}} {{schemaname}}.{{relname}}",
                        ),
                        query(r#"pg_settings_autovacuum_freeze_max_age{instance=~"$instance"}"#, "{{instance}} limit"),
                    ],
                ),
                panel(
                    "Autovacuum",
                    "Runs in the last hour, by table.",
                    Kind::Lines,
                    "short",
                    12,
                    &[query(
                        r#"topk(10, increase(pg_stat_user_tables_autovacuum_count{instance=~"$instance",datname=~"$datname"}[1h]) > 0)"#,
                        "{{datname}} {{schemaname}}.{{relname}}",
                    )],
                ),
                panel(
                    "Vacuum at work",
                    "Blocks scanned, of those that the table has.",
                    Kind::Lines,
                    "percentunit",
                    12,
                    &[query(
                        r#"pg_stat_progress_vacuum_heap_blks_scanned{instance=~"$instance"} / pg_stat_progress_vacuum_heap_blks{instance=~"$instance"}"#,
                        "{{datname}} {{relname}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Use",
            panels: &[
                panel(
                    "Rows read by sequential scans",
                    "The ten tables with the most, a second.",
                    Kind::Lines,
                    "ops",
                    12,
                    &[query(
                        r#"topk(10, rate(pg_stat_user_tables_seq_tup_read{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                        "{{datname}} {{schemaname}}.{{relname}}",
                    )],
                ),
                panel(
                    "Rows changed",
                    "Inserted, updated, deleted, a second.",
                    Kind::Stacked,
                    "ops",
                    12,
                    &[
                        query(
                            r#"sum(rate(pg_stat_user_tables_n_tup_ins{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                            "inserted",
                        ),
                        query(
                            r#"sum(rate(pg_stat_user_tables_n_tup_upd{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                            "updated",
                        ),
                        query(
                            r#"sum(rate(pg_stat_user_tables_n_tup_del{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                            "deleted",
                        ),
                    ],
                ),
                panel(
                    "Indexes that nobody used",
                    "In the last day, largest first.",
                    Kind::Table,
                    "bytes",
                    24,
                    &[query(
                        r#"topk(20, pg_general_index_info_pg_relation_size{instance=~"$instance",datname=~"$datname"} and on (instance, datname, schemaname, relname, indexrelname) (increase(pg_stat_user_indexes_idx_scan{instance=~"$instance"}[1d]) == 0))"#,
                        "",
                    )],
                ),
            ],
        },
    ],
};
