//! Tables: how large, how fast they grow, how they are read, how much of them is dead.

use super::{Asking, now, quoted};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use surus_core::series::Labels;
use surus_observe::TargetNow;

/// Tables that are listed unless all are asked for.
pub const ROWS: usize = 100;
/// Tables that are listed when all are asked for.
const MOST_ROWS: usize = 4_000;

/// The tables of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Tables {
    pub all: usize,
    pub total_bytes: f64,
    pub sorted_by: String,
    pub rows: Vec<Table>,
    /// How many more fit the filter.
    pub more: usize,
    /// What is not known, with its reason.
    pub missing: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Table {
    pub database: String,
    pub schema: String,
    pub name: String,
    /// With TOAST, without indexes.
    pub bytes: Option<f64>,
    pub index_bytes: Option<f64>,
    /// Bytes that table and indexes grew by over the range.
    pub growth_bytes: Option<f64>,
    pub live_rows: Option<f64>,
    pub dead_rows: Option<f64>,
    /// Of all rows, from 0 to 1.
    pub dead_share: Option<f64>,
    /// Of its pages that its rows do not need, estimated, from 0 to 1.
    pub bloat: Option<f64>,
    /// Since the statistics began.
    pub seq_scans: Option<f64>,
    pub index_scans: Option<f64>,
    /// Rows that sequential scans read in the range.
    pub seq_rows: Option<f64>,
    pub changed_rows: Option<f64>,
    /// By hand or by autovacuum; 0: never.
    pub vacuumed_ms: Option<f64>,
    pub analyzed_ms: Option<f64>,
    /// Age of the oldest unfrozen transaction id; of the oldest tables only.
    pub frozen_age: Option<f64>,
}

/// Where a relation is: database, schema, name.
pub type Place = (String, String, String);

/// The relation that a label set is about.
pub fn place(labels: &Labels, name: &str) -> Place {
    let get = |label: &str| labels.get(label).unwrap_or_default().to_owned();
    (get("datname"), get("schemaname"), get(name))
}

/// Families of the newest answers that become columns.
type Column = fn(&mut Table) -> &mut Option<f64>;
const COLUMNS: [(&str, Column); 13] = [
    ("pg_stat_user_tables_table_size_bytes", |table| &mut table.bytes),
    ("pg_stat_user_tables_index_size_bytes", |table| &mut table.index_bytes),
    ("pg_stat_user_tables_n_live_tup", |table| &mut table.live_rows),
    ("pg_stat_user_tables_n_dead_tup", |table| &mut table.dead_rows),
    ("pg_bloat_table_bloat_ratio", |table| &mut table.bloat),
    ("pg_stat_user_tables_seq_scan", |table| &mut table.seq_scans),
    ("pg_stat_user_tables_idx_scan", |table| &mut table.index_scans),
    ("pg_stat_user_tables_last_vacuum", |table| &mut table.vacuumed_ms),
    ("pg_stat_user_tables_last_autovacuum", |table| &mut table.vacuumed_ms),
    ("pg_stat_user_tables_last_analyze", |table| &mut table.analyzed_ms),
    ("pg_stat_user_tables_last_autoanalyze", |table| &mut table.analyzed_ms),
    ("pg_table_frozenxid_age", |table| &mut table.frozen_age),
    ("pg_table_minmxid_age", |table| &mut table.frozen_age),
];

/// All tables as they are now.
pub fn all(target: &TargetNow) -> HashMap<Place, Table> {
    let mut tables: HashMap<Place, Table> = HashMap::new();
    for (family, column) in COLUMNS {
        // Times are in seconds since 1970; the later one counts, as does the greater age.
        let scale = if family.contains("_last_") { 1000.0 } else { 1.0 };
        for point in now::points(target, family) {
            let place = place(&point.labels, "relname");
            // Ages are told of system catalogs too, which are nobody's tables.
            if family.starts_with("pg_table_") && !tables.contains_key(&place) {
                continue;
            }
            let table = tables.entry(place).or_insert_with_key(|(database, schema, name)| Table {
                database: database.clone(),
                schema: schema.clone(),
                name: name.clone(),
                ..Table::default()
            });
            let cell = column(table);
            *cell = Some(cell.map_or(point.value * scale, |other: f64| other.max(point.value * scale)));
        }
    }
    for table in tables.values_mut() {
        if let (Some(live), Some(dead)) = (table.live_rows, table.dead_rows) {
            table.dead_share = (live + dead > 0.0).then(|| dead / (live + dead));
        }
    }
    tables
}

/// Looks at the tables.
pub fn look(asking: &Asking<'_>) -> Result<Tables, ApiError> {
    let (target, scene) = (asking.target()?, &asking.scene);
    let mut tables = all(target);
    add_range(asking, &mut tables)?;
    let total = |table: &Table| table.bytes.unwrap_or_default() + table.index_bytes.unwrap_or_default();
    let (count, total_bytes) = (tables.len(), tables.values().map(total).sum());
    let sorted_by = scene.form.get("sort").unwrap_or("-size").to_owned();
    let words = scene.form.get("filter").unwrap_or_default().to_lowercase();
    let mut rows: Vec<Table> = tables.into_values().filter(|table| fits(table, &words)).collect();
    sort(&mut rows, &sorted_by);
    let most = if scene.form.get("all").is_some() { MOST_ROWS } else { ROWS };
    let more = rows.len().saturating_sub(most);
    rows.truncate(most);
    let missing = missing(target, &["user_tables", "table_size", "bloat_table", "table_freeze"]);
    Ok(Tables { all: count, total_bytes, sorted_by, rows, more, missing })
}

/// What only two moments can tell.
fn add_range(asking: &Asking<'_>, tables: &mut HashMap<Place, Table>) -> Result<(), ApiError> {
    let (i, whole) = (format!("instance={}", quoted(&asking.target()?.name)), asking.scene.range.whole());
    let size = |family: &str| format!("delta({family}{{{i}}}{whole})");
    let changed = |what: &str| format!("increase(pg_stat_user_tables_n_tup_{what}{{{i}}}{whole})");
    let questions: [(String, Column); 5] = [
        (size("pg_stat_user_tables_table_size_bytes"), |table| &mut table.growth_bytes),
        (size("pg_stat_user_tables_index_size_bytes"), |table| &mut table.growth_bytes),
        (format!("increase(pg_stat_user_tables_seq_tup_read{{{i}}}{whole})"), |table| &mut table.seq_rows),
        (format!("{} + {}", changed("ins"), changed("upd")), |table| &mut table.changed_rows),
        (changed("del"), |table| &mut table.changed_rows),
    ];
    for (query, column) in questions {
        for sample in asking.vector(&query)? {
            if let Some(table) = tables.get_mut(&place(&sample.labels, "relname")) {
                let cell = column(table);
                *cell = Some(cell.unwrap_or_default() + sample.value);
            }
        }
    }
    Ok(())
}

fn fits(table: &Table, words: &str) -> bool {
    let name = format!("{}.{}.{}", table.database, table.schema, table.name).to_lowercase();
    words.split_whitespace().all(|word| name.contains(word))
}

/// Sorts by the column of this key; what is not known comes last.
pub fn sort(rows: &mut [Table], by: &str) {
    let (key, greatest_first) = by.strip_prefix('-').map_or((by, false), |key| (key, true));
    let value = |table: &Table| match key {
        "index" => table.index_bytes,
        "growth" => table.growth_bytes,
        "live" => table.live_rows,
        "dead" => table.dead_rows,
        "share" => table.dead_share,
        "bloat" => table.bloat,
        "seq" => table.seq_rows,
        "changed" => table.changed_rows,
        "vacuumed" => table.vacuumed_ms,
        "age" => table.frozen_age,
        _ => table.bytes,
    };
    if key == "name" {
        let name = |table: &Table| (table.database.clone(), table.schema.clone(), table.name.clone());
        rows.sort_by_cached_key(name);
        if greatest_first {
            rows.reverse();
        }
        return;
    }
    rows.sort_by(|a, b| {
        let order = match (value(a), value(b)) {
            (Some(x), Some(y)) if greatest_first => y.total_cmp(&x),
            (Some(x), Some(y)) => x.total_cmp(&y),
            (x, y) => y.is_some().cmp(&x.is_some()),
        };
        order.then_with(|| (&a.database, &a.schema, &a.name).cmp(&(&b.database, &b.schema, &b.name)))
    });
}

/// Why collectors of these names gave no answer, or not for everything.
pub fn missing(target: &TargetNow, collectors: &[&str]) -> Vec<String> {
    let silent = target.collectors.iter().filter(|one| collectors.contains(&one.name));
    let mut told: Vec<String> = silent
        .filter_map(|one| {
            let place = one.database.as_ref().map(|database| format!(" in {database}")).unwrap_or_default();
            one.reason.as_ref().map(|why| format!("{}{place}: {}", one.name, why.text))
        })
        .collect();
    for point in now::points(target, "surus_collector_truncated").filter(|point| point.value > 0.0) {
        let (name, database) = (point.labels.get("collector"), point.labels.get("datname"));
        if let Some(name) = name.filter(|name| collectors.contains(name)) {
            told.push(format!(
                "{name} in {}: more than surus reads; the smallest are left out",
                database.unwrap_or("all")
            ));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_comes_last() {
        let table = |name: &str, bytes: Option<f64>| Table { name: name.into(), bytes, ..Table::default() };
        let mut rows = vec![table("b", None), table("c", Some(1.0)), table("a", Some(9.0))];
        let order = |rows: &[Table]| rows.iter().map(|table| table.name.clone()).collect::<String>();
        sort(&mut rows, "-size");
        assert_eq!(order(&rows), "acb");
        sort(&mut rows, "size");
        assert_eq!(order(&rows), "cab");
        sort(&mut rows, "name");
        assert_eq!(order(&rows), "abc");
    }
}
