//! Statements over the range: what each added to `pg_stat_statements`, its share of the load, and how that compares
//! with a week ago.

use super::Asking;
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::{HashMap, hash_map::Entry};
use surus_core::series::Window;
use surus_store::samples::{Grain, QueryDeltaRef};

/// Points of a statement's small plot.
const POINTS: usize = 40;
/// Statements that are listed.
const ROWS: usize = 100;
/// What a statement is compared with, in milliseconds.
const WEEK_MS: i64 = 7 * 86_400_000;
/// The longest range that is compared with the week before, in milliseconds.
const COMPARED_MS: i64 = 2 * 86_400_000;
/// Slower than so many times the time of a week ago is a regression, if it was called so often both times.
const SLOWER: f64 = 1.5;
const CALLS_TO_COMPARE: i64 = 20;
/// Bytes of one block.
pub const BLOCK: f64 = 8192.0;

/// The statements of a range.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Queries {
    /// Milliseconds in execution of all statements together.
    pub total_ms: f64,
    pub calls: i64,
    /// Statements that ran in the range.
    pub statements: usize,
    /// By what they are sorted.
    pub sorted_by: String,
    pub rows: Vec<Row>,
    /// Why there is nothing, if there is nothing.
    pub empty: Option<String>,
}

/// What one statement did.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Row {
    /// `queryid`, as text: it has more digits than JavaScript keeps.
    pub query: String,
    pub text: Option<String>,
    pub users: Vec<String>,
    pub databases: Vec<String>,
    pub calls: i64,
    pub time_ms: f64,
    /// Of the time of all statements, from 0 to 1.
    pub share: f64,
    pub mean_ms: f64,
    pub rows: i64,
    pub blocks_hit: i64,
    pub blocks_read: i64,
    pub temp_blocks: i64,
    pub read_time_ms: f64,
    pub wal_bytes: i64,
    /// Its mean time over the one of the same range a week ago; none when it cannot be compared.
    pub against_week: Option<f64>,
    /// It became slower than that a week ago.
    pub slower: bool,
    /// Milliseconds in execution, by equal parts of the range.
    pub spark: Vec<Option<f64>>,
}

impl Row {
    fn add(&mut self, delta: &QueryDeltaRef<'_>) {
        self.calls += delta.calls;
        self.time_ms += delta.exec_time_ms;
        self.rows += delta.rows;
        self.blocks_hit += delta.shared_blocks_hit;
        self.blocks_read += delta.shared_blocks_read;
        self.temp_blocks += delta.temp_blocks_read + delta.temp_blocks_written;
        self.read_time_ms += delta.read_time_ms;
        self.wal_bytes += delta.wal_bytes;
        note(&mut self.users, &delta.user);
        note(&mut self.databases, &delta.database);
    }

    /// Takes over what another thread has added up.
    fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        self.time_ms += other.time_ms;
        self.rows += other.rows;
        self.blocks_hit += other.blocks_hit;
        self.blocks_read += other.blocks_read;
        self.temp_blocks += other.temp_blocks;
        self.read_time_ms += other.read_time_ms;
        self.wal_bytes += other.wal_bytes;
        other.users.iter().for_each(|name| note(&mut self.users, name));
        other.databases.iter().for_each(|name| note(&mut self.databases, name));
        for (own, other) in self.spark.iter_mut().zip(other.spark) {
            *own = match (*own, other) {
                (Some(a), Some(b)) => Some(a + b),
                (a, b) => a.or(b),
            };
        }
    }
}

/// Adds a name that is not there yet.
fn note(names: &mut Vec<String>, name: &str) {
    if !name.is_empty() && !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

/// Looks at the statements.
pub fn look(asking: &Asking<'_>) -> Result<Queries, ApiError> {
    let scene = &asking.scene;
    let mut rows = summed(asking, scene.range.window(), true)?;
    let (total_ms, calls) = (rows.iter().map(|row| row.time_ms).sum::<f64>(), rows.iter().map(|row| row.calls).sum());
    let statements = rows.len();
    let before = if scene.range.length_ms() <= COMPARED_MS { week_ago(asking)? } else { HashMap::new() };
    for row in &mut rows {
        row.share = if total_ms > 0.0 { row.time_ms / total_ms } else { 0.0 };
        compare(row, before.get(&row.query));
    }
    let sorted_by = scene.form.get("sort").unwrap_or("-time").to_owned();
    sort(&mut rows, &sorted_by);
    let words = scene.form.get("filter").unwrap_or_default().to_lowercase();
    let store = &asking.site.store;
    let mut shown = Vec::new();
    // Texts are brought for so many at a time as are shown at most; with a filter it may take several.
    for some in rows.chunks(ROWS) {
        let ids: Vec<i64> = some.iter().filter_map(|row| row.query.parse().ok()).collect();
        let mut texts = store.query_texts(&asking.target()?.name, &ids)?;
        let told = some
            .iter()
            .map(|row| Row { text: row.query.parse().ok().and_then(|id: i64| texts.remove(&id)), ..row.clone() });
        shown.extend(told.filter(|row| fits(row, &words)));
        if shown.len() >= ROWS {
            shown.truncate(ROWS);
            break;
        }
    }
    let empty = shown.is_empty().then(|| why_empty(asking, statements)).transpose()?;
    Ok(Queries { total_ms, calls, statements, sorted_by, rows: shown, empty })
}

/// What each statement added in the window. Without small plots whole hours are enough.
fn summed(asking: &Asking<'_>, window: Window, with_sparks: bool) -> Result<Vec<Row>, ApiError> {
    let length_ms = (window.until_ms - window.after_ms).max(1);
    let grain = if with_sparks && length_ms < POINTS as i64 * 3_600_000 { Grain::Moments } else { Grain::Hours };
    let see = |rows: &mut HashMap<i64, Row>, at_ms: i64, delta: &QueryDeltaRef<'_>| {
        let row = rows.entry(delta.query_id).or_insert_with(|| Row {
            query: delta.query_id.to_string(),
            spark: if with_sparks { vec![None; POINTS] } else { Vec::new() },
            ..Row::default()
        });
        row.add(delta);
        let at = (at_ms - window.after_ms - 1).max(0) * POINTS as i64 / length_ms;
        if let Some(point) = row.spark.get_mut(at as usize) {
            *point = Some(point.unwrap_or_default() + delta.exec_time_ms);
        }
    };
    let merge = |rows: &mut HashMap<i64, Row>, other: HashMap<i64, Row>| {
        for (id, row) in other {
            match rows.entry(id) {
                Entry::Vacant(place) => drop(place.insert(row)),
                Entry::Occupied(mut own) => own.get_mut().merge(row),
            }
        }
    };
    let (target, store) = (&asking.target()?.name, &asking.site.store);
    let (rows, _) = store.fold_query_deltas(target, window, grain, HashMap::new, see, merge)?;
    let mut rows: Vec<Row> = rows.into_values().collect();
    for row in &mut rows {
        row.mean_ms = if row.calls > 0 { row.time_ms / row.calls as f64 } else { 0.0 };
    }
    Ok(rows)
}

fn week_ago(asking: &Asking<'_>) -> Result<HashMap<String, Row>, ApiError> {
    let now = asking.scene.range.window();
    let window = Window { after_ms: now.after_ms - WEEK_MS, until_ms: now.until_ms - WEEK_MS };
    Ok(summed(asking, window, false)?.into_iter().map(|row| (row.query.clone(), row)).collect())
}

fn compare(row: &mut Row, before: Option<&Row>) {
    let comparable = |row: &Row| row.calls >= CALLS_TO_COMPARE && row.mean_ms > 0.0;
    let before = before.filter(|before| comparable(before) && comparable(row));
    row.against_week = before.map(|before| row.mean_ms / before.mean_ms);
    row.slower = row.against_week.is_some_and(|times| times >= SLOWER);
}

fn sort(rows: &mut [Row], by: &str) {
    let (key, greatest_first) = by.strip_prefix('-').map_or((by, false), |key| (key, true));
    let value = |row: &Row| match key {
        "calls" => row.calls as f64,
        "mean" => row.mean_ms,
        "rows" => row.rows as f64,
        "read" => row.blocks_read as f64,
        "hit" => row.blocks_hit as f64,
        "temp" => row.temp_blocks as f64,
        "wal" => row.wal_bytes as f64,
        "week" => row.against_week.unwrap_or_default(),
        _ => row.time_ms,
    };
    rows.sort_by(|a, b| value(a).total_cmp(&value(b)).then_with(|| b.query.cmp(&a.query)));
    if greatest_first {
        rows.reverse();
    }
}

fn fits(row: &Row, words: &str) -> bool {
    let text = row.text.as_deref().unwrap_or_default().to_lowercase();
    words.split_whitespace().all(|word| {
        text.contains(word)
            || row.query.contains(word)
            || row.users.iter().chain(&row.databases).any(|name| name.to_lowercase().contains(word))
    })
}

/// Why no statement is shown.
fn why_empty(asking: &Asking<'_>, statements: usize) -> Result<String, ApiError> {
    if statements > 0 {
        return Ok("No statement fits the filter.".to_owned());
    }
    let target = asking.target()?;
    let collector = target.collectors.iter().find(|one| one.name == "statements");
    Ok(match collector.and_then(|one| one.reason.as_ref()) {
        Some(why) => format!("Statements are not known: {}", why.text),
        None => {
            "No statement ended in this range, or surus did not watch then. What statements add is read once a minute."
                .to_owned()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(query: &str, calls: i64, time_ms: f64) -> Row {
        Row { query: query.into(), calls, time_ms, mean_ms: time_ms / calls as f64, ..Row::default() }
    }

    #[test]
    fn only_what_was_called_often_is_compared() {
        let mut now = row("1", 100, 400.0);
        compare(&mut now, Some(&row("1", 100, 200.0)));
        assert_eq!((now.against_week, now.slower), (Some(2.0), true));
        compare(&mut now, Some(&row("1", 3, 3.0)));
        assert_eq!((now.against_week, now.slower), (None, false));
        compare(&mut now, None);
        assert_eq!(now.against_week, None);
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let mut rows = vec![row("1", 10, 50.0), row("2", 5, 100.0), row("3", 20, 10.0)];
        let order = |rows: &[Row]| rows.iter().map(|row| row.query.clone()).collect::<String>();
        sort(&mut rows, "-time");
        assert_eq!(order(&rows), "213");
        sort(&mut rows, "calls");
        assert_eq!(order(&rows), "213");
        sort(&mut rows, "-mean");
        assert_eq!(order(&rows), "213");
        let one = Row { text: Some("SELECT * FROM Orders".into()), users: vec!["app".into()], ..row("9", 1, 1.0) };
        assert!(fits(&one, "orders app") && fits(&one, "") && !fits(&one, "tasks"));
    }
}
