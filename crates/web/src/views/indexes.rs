//! Indexes: how large, how much used, bloated, invalid; and what the newest check says of those that can go.

use super::{
    Asking, now,
    tables::{self, Place, missing, place},
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use surus_observe::TargetNow;

/// The indexes of a target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Indexes {
    pub all: usize,
    pub total_bytes: f64,
    /// Bytes of indexes that were never used since the statistics began.
    pub unused_bytes: f64,
    pub sorted_by: String,
    pub rows: Vec<Index>,
    /// How many more fit the filter.
    pub more: usize,
    pub missing: Vec<String>,
}

/// An index.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Index {
    pub database: String,
    pub schema: String,
    pub table: String,
    pub name: String,
    pub bytes: Option<f64>,
    /// Scans since the statistics began.
    pub scans: Option<f64>,
    /// Entries that scans returned.
    pub entries: Option<f64>,
    /// Of its blocks that were asked for, found in shared buffers, from 0 to 1.
    pub hit_share: Option<f64>,
    /// Of its pages that it would not need if it were built anew, estimated, from 0 to 1.
    pub bloat: Option<f64>,
    /// A CREATE INDEX CONCURRENTLY that is under way or failed.
    pub invalid: bool,
}

/// All indexes as they are now.
fn all(target: &TargetNow) -> HashMap<Place, Index> {
    let mut indexes: HashMap<Place, Index> = HashMap::new();
    let mut each = |family: &str, (table, name): (&str, &str), set: &dyn Fn(&mut Index, f64)| {
        for point in now::points(target, family) {
            let at = place(&point.labels, name);
            let index = indexes.entry(at).or_insert_with_key(|(database, schema, own)| Index {
                database: database.clone(),
                schema: schema.clone(),
                table: point.labels.get(table).unwrap_or_default().to_owned(),
                name: own.clone(),
                ..Index::default()
            });
            set(index, point.value);
        }
    };
    let labels = ("relname", "indexrelname");
    each("pg_general_index_info_pg_relation_size", labels, &|index, value| index.bytes = Some(value));
    each("pg_stat_user_indexes_idx_scan", labels, &|index, value| index.scans = Some(value));
    each("pg_stat_user_indexes_idx_tup_read", labels, &|index, value| index.entries = Some(value));
    each("pg_index_invalid", labels, &|index, _| index.invalid = true);
    each("pg_bloat_btree_bloat_ratio", ("tblname", "idxname"), &|index, value| index.bloat = Some(value));
    each("pg_statio_user_indexes_idx_blks_hit_total", labels, &|index, value| index.hit_share = Some(value));
    each("pg_statio_user_indexes_idx_blks_read_total", labels, &|index, read| {
        let hit = index.hit_share.unwrap_or_default();
        index.hit_share = (hit + read > 0.0).then(|| hit / (hit + read));
    });
    indexes
}

/// Looks at the indexes.
pub fn look(asking: &Asking<'_>) -> Result<Indexes, ApiError> {
    let (target, form) = (asking.target()?, &asking.scene.form);
    let indexes = all(target);
    let bytes = |index: &Index| index.bytes.unwrap_or_default();
    let unused = indexes.values().filter(|index| index.scans == Some(0.0)).map(bytes).sum();
    let (count, total_bytes) = (indexes.len(), indexes.values().map(bytes).sum());
    let sorted_by = form.get("sort").unwrap_or("-size").to_owned();
    let words = form.get("filter").unwrap_or_default().to_lowercase();
    let fits = |index: &Index| {
        let name = format!("{}.{}.{} {}", index.database, index.schema, index.name, index.table).to_lowercase();
        words.split_whitespace().all(|word| name.contains(word))
    };
    let mut rows: Vec<Index> = indexes.into_values().filter(fits).collect();
    sort(&mut rows, &sorted_by);
    let most = if form.get("all").is_some() { 5_000 } else { tables::ROWS };
    let more = rows.len().saturating_sub(most);
    rows.truncate(most);
    let missing = missing(target, &["user_tables", "index_size", "bloat_btree"]);
    Ok(Indexes { all: count, total_bytes, unused_bytes: unused, sorted_by, rows, more, missing })
}

fn sort(rows: &mut [Index], by: &str) {
    let (key, greatest_first) = by.strip_prefix('-').map_or((by, false), |key| (key, true));
    let value = |index: &Index| match key {
        "scans" => index.scans,
        "entries" => index.entries,
        "hit" => index.hit_share,
        "bloat" => index.bloat,
        _ => index.bytes,
    };
    rows.sort_by(|a, b| {
        let order = match (value(a), value(b)) {
            _ if key == "name" => a.name.cmp(&b.name),
            (Some(x), Some(y)) if greatest_first => y.total_cmp(&x),
            (Some(x), Some(y)) => x.total_cmp(&y),
            (x, y) => y.is_some().cmp(&x.is_some()),
        };
        // Broken ones before all others, whatever the order.
        b.invalid.cmp(&a.invalid).then(order).then_with(|| (&a.database, &a.name).cmp(&(&b.database, &b.name)))
    });
}
