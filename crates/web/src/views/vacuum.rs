//! Vacuum: what needs it, what runs, what holds it back, and how far the freeze horizon is.

use super::{
    Asking, now,
    plot::{Plot, Unit},
    quoted,
    tables::{self, Table, missing},
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use surus_observe::TargetNow;

/// Tables that are listed.
const ROWS: usize = 50;

/// Vacuum of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Vacuum {
    /// Vacuums under way.
    pub running: Vec<Running>,
    /// What keeps vacuum from removing dead rows, if anything does.
    pub held_back: Vec<Holder>,
    pub databases: Vec<Age>,
    /// `autovacuum_freeze_max_age`: from here on autovacuum starts whatever the settings say.
    pub freeze_max_age: Option<f64>,
    /// Tables with dead rows, most first.
    pub tables: Vec<Table>,
    pub sorted_by: String,
    pub plots: Vec<Plot>,
    pub missing: Vec<String>,
}

/// A vacuum under way.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Running {
    pub database: String,
    pub table: String,
    pub phase: Option<String>,
    /// Of the table's blocks, scanned so far, from 0 to 1.
    pub scanned: Option<f64>,
    /// How often all indexes were gone through.
    pub index_rounds: Option<f64>,
}

/// Something that holds the horizon back.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Holder {
    pub what: String,
    /// How long, in words of its own kind.
    pub age: f64,
    pub unit: Unit,
    /// The page that shows it, below the target's address.
    pub page: &'static str,
}

/// How old a database's oldest unfrozen transaction is.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Age {
    pub database: String,
    /// In transactions.
    pub xid_age: f64,
    pub mxid_age: Option<f64>,
    /// Of the 2^31 after which PostgreSQL stops, from 0 to 1.
    pub share: f64,
}

/// Transactions after which PostgreSQL takes no more commands that need a transaction id, about.
const WRAPAROUND: f64 = 2_147_483_648.0;

/// Looks at vacuum.
pub fn look(asking: &Asking<'_>) -> Result<Vacuum, ApiError> {
    let target = asking.target()?;
    let i = format!("instance={}", quoted(&target.name));
    let r = asking.scene.range.rate();
    let sorted_by = asking.scene.form.get("sort").unwrap_or("-dead").to_owned();
    let mut rows: Vec<Table> =
        tables::all(target).into_values().filter(|table| table.dead_rows.is_some_and(|dead| dead > 0.0)).collect();
    tables::sort(&mut rows, &sorted_by);
    rows.truncate(ROWS);
    let plots = vec![
        Plot::lines("dead", "Dead rows", Unit::Count)
            .about("Of the five tables with most, estimated by the statistics.")
            .query(
                format!("topk(5, max by (datname, schemaname, relname) (pg_stat_user_tables_n_dead_tup{{{i}}}))"),
                "{{datname}} {{schemaname}}.{{relname}}",
            ),
        Plot::lines("freeze", "Age of the oldest unfrozen transaction", Unit::Count)
            .about("Autovacuum freezes tables from autovacuum_freeze_max_age on.")
            .query(format!("pg_database_wraparound_age_datfrozenxid_seconds{{{i}}}"), "{{datname}}")
            .limit(now::value(target, "pg_settings_autovacuum_freeze_max_age"), |age| {
                format!("autovacuum_freeze_max_age {age:.0}")
            }),
        Plot::stack("workers", "Vacuums under way", Unit::Count)
            .query(format!("count(pg_stat_progress_vacuum_heap_blks{{{i}}}) or vector(0)"), "vacuums")
            .limit(now::value(target, "pg_settings_autovacuum_max_workers"), |most| {
                format!("autovacuum_max_workers {most:.0}")
            }),
        Plot::lines("vacuums", "Vacuums that ended", Unit::Count)
            .query(format!("sum(increase(pg_stat_user_tables_autovacuum_count{{{i}}}{r}))"), "autovacuum")
            .query(format!("sum(increase(pg_stat_user_tables_vacuum_count{{{i}}}{r}))"), "by hand"),
    ];
    Ok(Vacuum {
        running: running(target),
        held_back: held_back(target),
        databases: ages(target),
        freeze_max_age: now::value(target, "pg_settings_autovacuum_freeze_max_age"),
        tables: rows,
        sorted_by,
        plots,
        missing: missing(target, &["user_tables", "progress", "table_freeze", "database"]),
    })
}

fn running(target: &TargetNow) -> Vec<Running> {
    let key = |point: &surus_core::series::Point| {
        let get = |name: &str| point.labels.get(name).unwrap_or_default().to_owned();
        (get("datname"), get("relname"))
    };
    let column = |family: &str| -> BTreeMap<(String, String), f64> {
        now::points(target, family).map(|point| (key(point), point.value)).collect()
    };
    let scanned = column("pg_stat_progress_vacuum_heap_blks_scanned");
    let rounds = column("pg_stat_progress_vacuum_index_vacuums");
    let phases: BTreeMap<(String, String), String> = now::points(target, "pg_stat_progress_vacuum_phase")
        .filter(|point| point.value > 0.0)
        .map(|point| (key(point), point.labels.get("phase").unwrap_or_default().to_owned()))
        .collect();
    let all = column("pg_stat_progress_vacuum_heap_blks");
    all.into_iter()
        .map(|(at, blocks)| Running {
            phase: phases.get(&at).cloned(),
            scanned: scanned.get(&at).filter(|_| blocks > 0.0).map(|done| done / blocks),
            index_rounds: rounds.get(&at).copied(),
            database: at.0,
            table: at.1,
        })
        .collect()
}

/// An open transaction that is older than this, in seconds, is named.
const OLD_TRANSACTION_S: f64 = 60.0;
/// A slot whose horizon is older than this, in transactions, is named.
const OLD_SLOT: f64 = 10_000.0;

fn held_back(target: &TargetNow) -> Vec<Holder> {
    let mut all = Vec::new();
    let seconds = now::value(target, "pg_long_running_transactions_oldest_timestamp_seconds");
    if let Some(age) = seconds.filter(|age| *age >= OLD_TRANSACTION_S) {
        all.push(Holder { what: "the oldest open transaction".into(), age, unit: Unit::Seconds, page: "activity" });
    }
    for point in now::points(target, "pg_prepared_xacts_oldest_age_seconds").filter(|point| point.value > 0.0) {
        let database = point.labels.get("datname").unwrap_or_default();
        let what = format!("a prepared transaction in {database}");
        all.push(Holder { what, age: point.value, unit: Unit::Seconds, page: "findings" });
    }
    for family in ["pg_replication_slots_xmin_age", "pg_replication_slots_catalog_xmin_age"] {
        for point in now::points(target, family).filter(|point| point.value >= OLD_SLOT) {
            let what = format!("the slot {}", point.labels.get("slot_name").unwrap_or_default());
            all.push(Holder { what, age: point.value, unit: Unit::Count, page: "replication" });
        }
    }
    all
}

fn ages(target: &TargetNow) -> Vec<Age> {
    let database = |point: &surus_core::series::Point| point.labels.get("datname").unwrap_or_default().to_owned();
    let multixacts: BTreeMap<String, f64> = now::points(target, "pg_database_wraparound_age_datminmxid_seconds")
        .map(|point| (database(point), point.value))
        .collect();
    let mut ages: Vec<Age> = now::points(target, "pg_database_wraparound_age_datfrozenxid_seconds")
        .map(|point| {
            let database = database(point);
            let mxid_age = multixacts.get(&database).copied();
            Age { mxid_age, xid_age: point.value, share: point.value / WRAPAROUND, database }
        })
        .collect();
    ages.sort_by(|a, b| b.xid_age.total_cmp(&a.xid_age));
    ages
}
