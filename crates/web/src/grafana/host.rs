//! The machine, under node_exporter's names.

use super::{Dashboard, Kind, Row, Variable, panel, query};

/// Machines that surus runs on.
const MACHINE: Variable =
    Variable { name: "instance", label: "Server", selector: "node_load1", of: "instance", several: true };

pub static DASHBOARD: Dashboard = Dashboard {
    uid: "surus-host",
    title: "PostgreSQL / Host",
    about: "The machine of the servers that surus runs beside: CPU, memory, disks, network.",
    variables: &[MACHINE],
    rows: &[
        Row {
            title: "CPU and memory",
            panels: &[
                panel(
                    "CPU",
                    "Cores at work, by what for.",
                    Kind::Stacked,
                    "short",
                    12,
                    &[query(
                        r#"sum by (mode) (rate(node_cpu_seconds_total{instance=~"$instance",mode!="idle"}[$__rate_interval]))"#,
                        "{{mode}}",
                    )],
                ),
                panel(
                    "Load",
                    "",
                    Kind::Lines,
                    "short",
                    12,
                    &[
                        query(r#"node_load1{instance=~"$instance"}"#, "{{instance}} 1 min"),
                        query(r#"node_load5{instance=~"$instance"}"#, "{{instance}} 5 min"),
                        query(r#"node_load15{instance=~"$instance"}"#, "{{instance}} 15 min"),
                    ],
                ),
                panel(
                    "Memory",
                    "",
                    Kind::Lines,
                    "bytes",
                    12,
                    &[
                        query(r#"node_memory_MemTotal_bytes{instance=~"$instance"}"#, "{{instance}} total"),
                        query(r#"node_memory_MemAvailable_bytes{instance=~"$instance"}"#, "{{instance}} available"),
                        query(r#"node_memory_Cached_bytes{instance=~"$instance"}"#, "{{instance}} cached"),
                    ],
                ),
                panel(
                    "Pressure",
                    "The share of time in which something waited.",
                    Kind::Lines,
                    "percentunit",
                    12,
                    &[
                        query(
                            r#"rate(node_pressure_cpu_waiting_seconds_total{instance=~"$instance"}[$__rate_interval])"#,
                            "{{instance}} CPU",
                        ),
                        query(
                            r#"rate(node_pressure_io_waiting_seconds_total{instance=~"$instance"}[$__rate_interval])"#,
                            "{{instance}} I/O",
                        ),
                        query(
                            r#"rate(node_pressure_memory_waiting_seconds_total{instance=~"$instance"}[$__rate_interval])"#,
                            "{{instance}} memory",
                        ),
                    ],
                ),
            ],
        },
        Row {
            title: "Disks",
            panels: &[
                panel(
                    "Space left",
                    "Of each filesystem.",
                    Kind::Lines,
                    "percentunit",
                    12,
                    &[query(
                        r#"node_filesystem_avail_bytes{instance=~"$instance"} / node_filesystem_size_bytes{instance=~"$instance"}"#,
                        "{{instance}} {{mountpoint}}",
                    )],
                ),
                panel(
                    "Full in",
                    "If it goes on as in the last six hours; empty when it does not fill.",
                    Kind::Table,
                    "s",
                    12,
                    &[query(
                        r#"node_filesystem_avail_bytes{instance=~"$instance"} / -(deriv(node_filesystem_avail_bytes{instance=~"$instance"}[6h]) < 0)"#,
                        "",
                    )],
                ),
                panel(
                    "Read and written",
                    "",
                    Kind::Lines,
                    "Bps",
                    12,
                    &[
                        query(
                            r#"rate(node_disk_read_bytes_total{instance=~"$instance"}[$__rate_interval])"#,
                            "{{device}} read",
                        ),
                        query(
                            r#"rate(node_disk_written_bytes_total{instance=~"$instance"}[$__rate_interval])"#,
                            "{{device}} written",
                        ),
                    ],
                ),
                panel(
                    "Busy",
                    "The share of time in which a disk worked.",
                    Kind::Lines,
                    "percentunit",
                    12,
                    &[query(
                        r#"rate(node_disk_io_time_seconds_total{instance=~"$instance"}[$__rate_interval])"#,
                        "{{instance}} {{device}}",
                    )],
                ),
            ],
        },
        Row {
            title: "Network",
            panels: &[panel(
                "Received and sent",
                "",
                Kind::Lines,
                "Bps",
                24,
                &[
                    query(
                        r#"rate(node_network_receive_bytes_total{instance=~"$instance"}[$__rate_interval])"#,
                        "{{device}} received",
                    ),
                    query(
                        r#"rate(node_network_transmit_bytes_total{instance=~"$instance"}[$__rate_interval])"#,
                        "{{device}} sent",
                    ),
                ],
            )],
        },
    ],
};
