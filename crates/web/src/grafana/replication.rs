//! Standbys, slots and WAL that is kept.

use super::{Dashboard, INSTANCE, Kind, Row, panel, query};

pub static DASHBOARD: Dashboard = Dashboard {
    uid: "surus-replication",
    title: "PostgreSQL / Replication",
    about: "How far behind are the standbys, and what WAL is kept for whom?",
    variables: &[INSTANCE],
    rows: &[
        Row {
            title: "Standbys, as they see themselves",
            panels: &[
                panel(
                    "Is a standby",
                    "",
                    Kind::Stat,
                    "none",
                    8,
                    &[query(r#"pg_replication_is_replica{instance=~"$instance"}"#, "{{instance}}")],
                ),
                panel(
                    "Lag of replay",
                    "0 when everything received was replayed.",
                    Kind::Lines,
                    "s",
                    8,
                    &[query(r#"pg_replication_lag_seconds{instance=~"$instance"}"#, "{{instance}}")],
                ),
                panel(
                    "Since the last replay",
                    "Grows on an idle primary, too.",
                    Kind::Lines,
                    "s",
                    8,
                    &[query(r#"pg_replication_last_replay_seconds{instance=~"$instance"}"#, "{{instance}}")],
                ),
            ],
        },
        Row {
            title: "Standbys, as the primary sees them",
            panels: &[
                panel(
                    "Lag of replay in bytes",
                    "",
                    Kind::Lines,
                    "bytes",
                    12,
                    &[query(
                        r#"pg_stat_replication_replay_lag_bytes{instance=~"$instance"}"#,
                        "{{application_name}} {{client_addr}}",
                    )],
                ),
                panel(
                    "Lag in time",
                    "Write, flush and replay.",
                    Kind::Lines,
                    "s",
                    12,
                    &[
                        query(
                            r#"pg_stat_replication_write_lag_seconds{instance=~"$instance"}"#,
                            "{{application_name}} write",
                        ),
                        query(
                            r#"pg_stat_replication_flush_lag_seconds{instance=~"$instance"}"#,
                            "{{application_name}} flush",
                        ),
                        query(
                            r#"pg_stat_replication_replay_lag_seconds{instance=~"$instance"}"#,
                            "{{application_name}} replay",
                        ),
                    ],
                ),
                panel(
                    "Connected standbys",
                    "With their state.",
                    Kind::Table,
                    "bytes",
                    24,
                    &[query(r#"pg_stat_replication_replay_lag_bytes{instance=~"$instance"}"#, "")],
                ),
            ],
        },
        Row {
            title: "Slots and WAL",
            panels: &[
                panel(
                    "WAL kept for slots",
                    "A slot that nobody reads fills the disk.",
                    Kind::Lines,
                    "bytes",
                    8,
                    &[query(
                        r#"pg_replication_slots_retained_bytes{instance=~"$instance"}"#,
                        "{{instance}} {{slot_name}}",
                    )],
                ),
                panel(
                    "Slots that are not active",
                    "",
                    Kind::Table,
                    "none",
                    8,
                    &[query(r#"pg_replication_slots_active{instance=~"$instance"} == 0"#, "")],
                ),
                panel(
                    "Size of pg_wal",
                    "",
                    Kind::Lines,
                    "bytes",
                    8,
                    &[query(r#"pg_wal_size_bytes{instance=~"$instance"}"#, "{{instance}}")],
                ),
            ],
        },
        Row {
            title: "Conflicts on standbys",
            panels: &[panel(
                "Queries that were cancelled",
                "A second, by reason.",
                Kind::Lines,
                "ops",
                24,
                &[
                    query(
                        r#"sum by (instance) (rate(pg_stat_database_conflicts_confl_snapshot{instance=~"$instance"}[$__rate_interval]))"#,
                        "{{instance}} snapshot",
                    ),
                    query(
                        r#"sum by (instance) (rate(pg_stat_database_conflicts_confl_lock{instance=~"$instance"}[$__rate_interval]))"#,
                        "{{instance}} lock",
                    ),
                    query(
                        r#"sum by (instance) (rate(pg_stat_database_conflicts_confl_bufferpin{instance=~"$instance"}[$__rate_interval]))"#,
                        "{{instance}} buffer pin",
                    ),
                    query(
                        r#"sum by (instance) (rate(pg_stat_database_conflicts_confl_deadlock{instance=~"$instance"}[$__rate_interval]))"#,
                        "{{instance}} deadlock",
                    ),
                ],
            )],
        },
    ],
};
