//! All servers: are they up, how busy are they, what do they wait for?

use super::{DATABASE, Dashboard, INSTANCE, Kind, Row, panel, query};

pub static DASHBOARD: Dashboard = Dashboard {
    uid: "surus-overview",
    title: "PostgreSQL / Overview",
    about: "Are the servers up, how busy are they, and what do they wait for?",
    variables: &[INSTANCE, DATABASE],
    rows: &[
        Row {
            title: "State",
            panels: &[
                panel(
                    "Up",
                    "1 while the server answers.",
                    Kind::Stat,
                    "none",
                    6,
                    &[query(r#"pg_up{instance=~"$instance"}"#, "{{instance}}")],
                ),
                panel(
                    "Uptime",
                    "Since the server started.",
                    Kind::Stat,
                    "s",
                    6,
                    &[query(r#"time() - pg_postmaster_start_time_seconds{instance=~"$instance"}"#, "{{instance}}")],
                ),
                panel(
                    "Connections used",
                    "Of max_connections.",
                    Kind::Stat,
                    "percentunit",
                    6,
                    &[query(
                        r#"sum by (instance) (pg_stat_database_numbackends{instance=~"$instance"}) / max by (instance) (pg_settings_max_connections{instance=~"$instance"})"#,
                        "{{instance}}",
                    )],
                ),
                panel(
                    "Oldest transaction",
                    "It holds back vacuum.",
                    Kind::Stat,
                    "s",
                    6,
                    &[query(
                        r#"max by (instance) (pg_stat_activity_max_tx_duration{instance=~"$instance",state!~"idle"})"#,
                        "{{instance}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Load",
            panels: &[
                panel(
                    "Average active sessions",
                    "Sessions at work, by what they wait for; CPU is those that wait for nothing.",
                    Kind::Stacked,
                    "short",
                    12,
                    &[query(
                        r#"sum by (wait_event_type) (avg_over_time(surus_active_sessions{instance=~"$instance"}[$__rate_interval]))"#,
                        "{{wait_event_type}}",
                    )],
                ),
                panel(
                    "Transactions",
                    "Commits and rollbacks a second.",
                    Kind::Lines,
                    "ops",
                    12,
                    &[
                        query(
                            r#"sum by (instance) (rate(pg_stat_database_xact_commit{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                            "{{instance}} commit",
                        ),
                        query(
                            r#"sum by (instance) (rate(pg_stat_database_xact_rollback{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                            "{{instance}} rollback",
                        ),
                    ],
                ),
                panel(
                    "Connections",
                    "By what they do.",
                    Kind::Stacked,
                    "short",
                    12,
                    &[query(
                        r#"sum by (state) (pg_stat_activity_count{instance=~"$instance",datname=~"$datname"})"#,
                        "{{state}}",
                    )],
                ),
                panel(
                    "Found in shared buffers",
                    "Of the blocks that were asked for.",
                    Kind::Lines,
                    "percentunit",
                    12,
                    &[query(
                        r#"sum by (instance) (rate(pg_stat_database_blks_hit{instance=~"$instance",datname=~"$datname"}[$__rate_interval])) / (sum by (instance) (rate(pg_stat_database_blks_hit{instance=~"$instance",datname=~"$datname"}[$__rate_interval])) + sum by (instance) (rate(pg_stat_database_blks_read{instance=~"$instance",datname=~"$datname"}[$__rate_interval])) > 0)"#,
                        "{{instance}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Trouble",
            panels: &[
                panel(
                    "Deadlocks and conflicts",
                    "In the last five minutes.",
                    Kind::Lines,
                    "short",
                    8,
                    &[
                        query(
                            r#"sum by (instance) (increase(pg_stat_database_deadlocks{instance=~"$instance"}[5m]))"#,
                            "{{instance}} deadlocks",
                        ),
                        query(
                            r#"sum by (instance) (increase(pg_stat_database_conflicts{instance=~"$instance"}[5m]))"#,
                            "{{instance}} conflicts",
                        ),
                    ],
                ),
                panel(
                    "Locks that are waited for",
                    "By database.",
                    Kind::Lines,
                    "short",
                    8,
                    &[query(
                        r#"pg_locks_waiting{instance=~"$instance",datname=~"$datname"}"#,
                        "{{instance}} {{datname}}",
                    )],
                ),
                panel(
                    "Temporary files",
                    "Written by queries that did not fit work_mem.",
                    Kind::Lines,
                    "Bps",
                    8,
                    &[query(
                        r#"sum by (instance) (rate(pg_stat_database_temp_bytes{instance=~"$instance",datname=~"$datname"}[$__rate_interval]))"#,
                        "{{instance}}",
                    )],
                ),
            ],
        },
        Row {
            title: "WAL and checkpoints",
            panels: &[
                panel(
                    "WAL written",
                    "",
                    Kind::Lines,
                    "Bps",
                    8,
                    &[query(
                        r#"rate(pg_xlog_location_bytes{instance=~"$instance"}[$__rate_interval])"#,
                        "{{instance}}",
                    )],
                ),
                panel(
                    "Checkpoints",
                    "In the last hour; those on request came before their time.",
                    Kind::Lines,
                    "short",
                    8,
                    &[
                        query(
                            r#"increase(pg_stat_bgwriter_checkpoints_timed_total{instance=~"$instance"}[1h])"#,
                            "{{instance}} timed",
                        ),
                        query(
                            r#"increase(pg_stat_bgwriter_checkpoints_req_total{instance=~"$instance"}[1h])"#,
                            "{{instance}} on request",
                        ),
                    ],
                ),
                panel(
                    "Archiving failed",
                    "Times in the last hour.",
                    Kind::Lines,
                    "short",
                    8,
                    &[query(r#"increase(pg_stat_archiver_failed_count{instance=~"$instance"}[1h])"#, "{{instance}}")],
                ),
            ],
        },
        Row {
            title: "What watching costs",
            panels: &[
                panel(
                    "Time of the collectors",
                    "Their last runs, the slowest ten.",
                    Kind::Lines,
                    "s",
                    12,
                    &[query(
                        r#"topk(10, surus_collector_duration_seconds{instance=~"$instance"})"#,
                        "{{instance}} {{collector}} {{datname}}",
                    )],
                ),
                panel(
                    "Collectors that fail",
                    "",
                    Kind::Table,
                    "none",
                    12,
                    &[query(r#"surus_collector_success{instance=~"$instance"} == 0"#, "")],
                ),
            ],
        },
    ],
};
