//! One target at a glance: what is wrong, its numbers, its load.

use super::{
    Asking, fleet, now,
    plot::{Plot, Unit},
    quoted,
    worries::Worry,
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use surus_observe::{TargetNow, Why};

/// A target at a glance.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Instance {
    pub name: String,
    pub cluster: Option<String>,
    pub server: String,
    pub up: bool,
    pub since_ms: i64,
    #[schemars(with = "Option<serde_json::Value>")]
    pub trouble: Option<Why>,
    pub version: Option<String>,
    pub role: Option<&'static str>,
    /// When PostgreSQL was started.
    pub started_ms: Option<i64>,
    pub cores: Option<usize>,
    /// What is wrong now, worst first.
    pub worries: Vec<Worry>,
    /// The numbers at the end of the range.
    pub numbers: Vec<Number>,
    pub plots: Vec<Plot>,
}

/// A number with where it comes from.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Number {
    pub name: &'static str,
    pub value: Option<f64>,
    pub unit: Unit,
    /// The PromQL that gives it.
    pub query: String,
    /// The page that shows more, below the target's address.
    pub page: &'static str,
}

/// Looks at the target.
pub fn look(asking: &Asking<'_>) -> Result<Instance, ApiError> {
    let target = asking.target()?;
    let cores = now::cores(&asking.scene.snapshot, target);
    Ok(Instance {
        name: target.name.clone(),
        cluster: target.cluster.clone(),
        server: target.server.clone(),
        up: target.up,
        since_ms: target.since_ms,
        trouble: target.trouble.clone(),
        version: target.version.as_ref().map(ToString::to_string),
        role: target.role,
        started_ms: now::value(target, "pg_postmaster_start_time_seconds").map(|seconds| (seconds * 1000.0) as i64),
        cores,
        worries: fleet::worries_of(asking, target)?,
        numbers: numbers(asking, target)?,
        plots: plots(asking, target, cores),
    })
}

fn numbers(asking: &Asking<'_>, target: &TargetNow) -> Result<Vec<Number>, ApiError> {
    let i = format!("instance={}", quoted(&target.name));
    let asked = [
        (
            "active sessions",
            Unit::Sessions,
            format!("sum(avg_over_time(surus_active_sessions{{{i}}}[1m]))"),
            "activity",
        ),
        (
            "transactions",
            Unit::PerSecond,
            format!(
                "sum(rate(pg_stat_database_xact_commit{{{i}}}[1m]) + rate(pg_stat_database_xact_rollback{{{i}}}[1m]))"
            ),
            "queries",
        ),
        (
            "per statement",
            Unit::Seconds,
            format!(
                "sum(rate(surus_statements_seconds_total{{{i}}}[5m])) / sum(rate(surus_statements_calls_total{{{i}}}[5m]))"
            ),
            "queries",
        ),
        (
            "found in shared buffers",
            Unit::Percent,
            format!(
                "sum(rate(pg_stat_database_blks_hit{{{i}}}[5m])) / (sum(rate(pg_stat_database_blks_hit{{{i}}}[5m])) + sum(rate(pg_stat_database_blks_read{{{i}}}[5m])))"
            ),
            "tables",
        ),
        (
            "connections",
            Unit::Percent,
            format!("sum(pg_stat_database_numbackends{{{i}}}) / max(pg_settings_max_connections{{{i}}})"),
            "activity",
        ),
        ("WAL", Unit::BytesPerSecond, format!("sum(rate(pg_stat_wal_bytes_total{{{i}}}[5m]))"), "replication"),
        ("databases", Unit::Bytes, format!("sum(pg_database_size_bytes{{{i}}})"), "tables"),
    ];
    let mut numbers = Vec::new();
    for (name, unit, query, page) in asked {
        numbers.push(Number { name, value: asking.number(&query)?, unit, query, page });
    }
    Ok(numbers)
}

/// Average active sessions by what they wait for: the plot on which everything else is read.
pub fn load_plot(asking: &Asking<'_>, target: &TargetNow, cores: Option<usize>) -> Plot {
    let (i, rate) = (format!("instance={}", quoted(&target.name)), asking.scene.range.rate());
    Plot::stack("load", "Average active sessions", Unit::Sessions)
        .about("Sessions at work, by what they wait for. CPU: they wait for nothing that PostgreSQL knows of.")
        .query(
            format!("sum by (wait_event_type) (avg_over_time(surus_active_sessions{{{i}}}{rate})) > 0"),
            "{{wait_event_type}}",
        )
        .limit(cores.map(|cores| cores as f64), |cores| format!("{cores} cores"))
        .empty("No session was at work, or surus did not watch then.")
        .waits()
}

fn plots(asking: &Asking<'_>, target: &TargetNow, cores: Option<usize>) -> Vec<Plot> {
    let (i, r) = (format!("instance={}", quoted(&target.name)), asking.scene.range.rate());
    let sum = |family: &str| format!("sum(rate({family}{{{i}}}{r}))");
    vec![
        load_plot(asking, target, cores),
        Plot::lines("transactions", "Transactions", Unit::PerSecond)
            .query(sum("pg_stat_database_xact_commit"), "committed")
            .query(sum("pg_stat_database_xact_rollback"), "rolled back"),
        Plot::lines("latency", "Time per statement", Unit::Seconds)
            .about("Mean execution time over all statements.")
            .query(
                format!("{} / {}", sum("surus_statements_seconds_total"), sum("surus_statements_calls_total")),
                "mean",
            )
            .empty("pg_stat_statements is not installed, or no statement ran."),
        Plot::lines("cache", "Found in shared buffers", Unit::Percent)
            .about("Of the blocks that were asked for. The rest comes from the system's cache or from disk.")
            .query(
                format!(
                    "{hit} / ({hit} + {read})",
                    hit = sum("pg_stat_database_blks_hit"),
                    read = sum("pg_stat_database_blks_read")
                ),
                "hit ratio",
            ),
        Plot::lines("io", "Blocks from outside shared buffers, temporary files", Unit::BytesPerSecond)
            .query(format!("8192 * {}", sum("pg_stat_database_blks_read")), "read")
            .query(sum("pg_stat_database_temp_bytes"), "temporary files"),
        Plot::lines("wal", "WAL written", Unit::BytesPerSecond).query(sum("pg_stat_wal_bytes_total"), "WAL"),
        Plot::lines("checkpoints", "Checkpoints", Unit::Count)
            .about("In each step. Those on request come too early: max_wal_size is too small for the load, or somebody asked.")
            .query(format!("sum(increase(pg_stat_checkpointer_num_timed_total{{{i}}}{r}))"), "timed")
            .query(format!("sum(increase(pg_stat_checkpointer_num_requested_total{{{i}}}{r}))"), "requested"),
        Plot::stack("connections", "Connections", Unit::Sessions)
            .query(format!("sum by (state) (pg_stat_activity_count{{{i}}}) > 0"), "{{state}}")
            .limit(now::value(target, "pg_settings_max_connections"), |most| format!("max_connections {most}")),
        Plot::lines("rows", "Rows changed", Unit::PerSecond)
            .query(sum("pg_stat_database_tup_inserted"), "inserted")
            .query(sum("pg_stat_database_tup_updated"), "updated")
            .query(sum("pg_stat_database_tup_deleted"), "deleted"),
        Plot::lines("trouble", "Deadlocks, conflicts, lock waits", Unit::Count)
            .query(format!("sum(increase(pg_stat_database_deadlocks{{{i}}}{r}))"), "deadlocks")
            .query(format!("sum(increase(pg_stat_database_conflicts{{{i}}}{r}))"), "conflicts")
            .query(format!("sum(pg_locks_waiting{{{i}}})"), "waiting for a lock"),
    ]
}
