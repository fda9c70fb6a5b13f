//! What each statement added to pg_stat_statements between two readings. Pure; the engine asks.

use crate::{collector::Page, why::Why};
use std::collections::{BTreeMap, HashMap};
use surus_core::{
    code,
    series::{Family, MetricKind, Told},
};
use surus_pg::{Row, RowError, Rows, quote};
use surus_store::samples::QueryDelta;

/// Texts that are fetched at once.
pub const TEXTS_AT_MOST: usize = 200;
/// Characters of one text.
const TEXT_CHARACTERS: usize = 10_000;

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricKind::Counter, help }
}

pub static CALLS: Family =
    counter("surus_statements_calls_total", "Calls that pg_stat_statements counted since surus watches.");
pub static SECONDS: Family = counter(
    "surus_statements_seconds_total",
    "Time in execution that pg_stat_statements counted since surus watches; statements in functions count with their \
     caller too when track is all.",
);
pub static ROWS: Family =
    counter("surus_statements_rows_total", "Rows that pg_stat_statements counted since surus watches.");
pub static TRACKED: Family =
    Family { name: "surus_statements_tracked", kind: MetricKind::Gauge, help: "Entries of pg_stat_statements." };
pub static EVICTIONS: Family = counter(
    "surus_statements_evictions_total",
    "Times that pg_stat_statements has thrown entries out for want of room (dealloc).",
);

/// Every family that statements fill together, with its labels.
pub static FAMILIES: &[(&Family, &[&str])] =
    &[(&CALLS, &["datname"]), (&SECONDS, &["datname"]), (&ROWS, &["datname"]), (&TRACKED, &[]), (&EVICTIONS, &[])];

/// Where the extension is and what its version can tell.
pub const WHERE_IT_IS: &str = "SELECT n.nspname AS schema, \
    to_regproc(format('%I.pg_stat_statements_info', n.nspname)) IS NOT NULL AS has_info, \
    (SELECT coalesce(array_agg(a.name), '{}') FROM pg_proc p, unnest(p.proargnames) AS a(name) \
      WHERE p.proname = 'pg_stat_statements' AND p.pronamespace = n.oid) AS columns \
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'";

/// pg_stat_statements as one database has it.
#[derive(Debug, Clone)]
pub struct Shape {
    schema: String,
    columns: Vec<String>,
    has_info: bool,
}

impl Shape {
    /// Reads the answer to [`WHERE_IT_IS`].
    ///
    /// # Errors
    /// When the extension is not there, or the answer has another shape.
    pub fn read(rows: &Rows) -> Result<Self, RowError> {
        let row = rows.first()?;
        Ok(Self { schema: row.text("schema")?, columns: row.list("columns")?, has_info: row.bool("has_info")? })
    }

    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|one| one == column)
    }

    /// The first of the columns that this version has, or 0.
    fn any(&self, columns: &[&'static str]) -> &'static str {
        columns.iter().find(|column| self.has(column)).copied().unwrap_or("0")
    }

    /// Reads the counters without any text, which the server would have to load from its file.
    pub fn numbers_sql(&self, at_most: usize) -> String {
        let times = |new: [&'static str; 3], old: &'static str| {
            let there: Vec<_> = new.into_iter().filter(|column| self.has(column)).collect();
            if there.is_empty() { self.any(&[old]).to_owned() } else { there.join(" + ") }
        };
        format!(
            "SELECT s.queryid, s.userid, s.dbid, {top} AS toplevel, {since} AS since, pg_get_userbyid(s.userid) AS username, \
               d.datname, s.calls, s.rows, s.{exec} AS exec_ms, {plan} AS plan_ms, shared_blks_hit, shared_blks_read, \
               shared_blks_dirtied, shared_blks_written, temp_blks_read, temp_blks_written, {reads} AS read_ms, \
               {writes} AS write_ms, {walr} AS wal_records, {walb} AS wal_bytes \
             FROM {function}(false) s LEFT JOIN pg_database d ON d.oid = s.dbid LIMIT {limit}",
            top = if self.has("toplevel") { "s.toplevel" } else { "true" },
            since = if self.has("stats_since") { "extract(epoch FROM s.stats_since)" } else { "NULL" },
            exec = self.any(&["total_exec_time", "total_time"]),
            plan = self.any(&["total_plan_time"]),
            reads = times(["shared_blk_read_time", "local_blk_read_time", "temp_blk_read_time"], "blk_read_time"),
            writes = times(["shared_blk_write_time", "local_blk_write_time", "temp_blk_write_time"], "blk_write_time"),
            walr = self.any(&["wal_records"]),
            walb = self.any(&["wal_bytes"]),
            function = quote::qualified(&self.schema, "pg_stat_statements"),
            limit = at_most + 1,
        )
    }

    /// How often entries were thrown out, and when all was reset; none before PostgreSQL 14.
    pub fn info_sql(&self) -> Option<String> {
        let function = quote::qualified(&self.schema, "pg_stat_statements_info");
        self.has_info.then(|| format!("SELECT dealloc, stats_reset::text AS stats_reset FROM {function}()"))
    }

    /// The texts of these statements. Constants are placeholders already, except in utility statements: passwords
    /// there are hidden.
    pub fn texts_sql(&self, ids: &[i64]) -> String {
        let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
        format!(
            "SELECT DISTINCT ON (queryid) queryid, \
               regexp_replace(left(query, {TEXT_CHARACTERS}), {secret}, '\\1''***''', 'gi') AS query \
             FROM {function}(true) WHERE queryid IN ({ids}) ORDER BY queryid",
            secret = quote::literal("(password\\s+)e?'([^']|'')*'?"),
            function = quote::qualified(&self.schema, "pg_stat_statements"),
            ids = ids.join(", "),
        )
    }
}

/// Which entry: pg_stat_statements keeps one per statement, role, database and whether it was called from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    query_id: i64,
    user: i64,
    database: i64,
    toplevel: bool,
}

/// One entry at one time.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    /// When its statistics began, in seconds since 1970 (17 and newer).
    since: Option<f64>,
    counted: QueryDelta,
}

/// All entries at one time.
#[derive(Debug, Default)]
pub struct Reading {
    entries: Vec<(Key, Entry)>,
    /// Entries that the role may not see.
    hidden: usize,
    /// There were more than are read.
    truncated: bool,
    pub deallocations: Option<f64>,
    pub reset_at: Option<String>,
}

impl Reading {
    /// Reads the answer to [`Shape::numbers_sql`].
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read(rows: &Rows, at_most: usize) -> Result<Self, RowError> {
        let mut reading = Self { truncated: rows.len() > at_most, ..Self::default() };
        for row in rows.iter().take(at_most) {
            match row.opt_i64("queryid")? {
                Some(query_id) => reading.entries.push(entry(query_id, row)?),
                None => reading.hidden += 1,
            }
        }
        Ok(reading)
    }

    /// Adds the answer to [`Shape::info_sql`].
    ///
    /// # Errors
    /// When it has another shape.
    pub fn add_info(&mut self, rows: &Rows) -> Result<(), RowError> {
        let row = rows.first()?;
        self.deallocations = row.opt_f64("dealloc")?;
        self.reset_at = row.opt_str("stats_reset")?.map(str::to_owned);
        Ok(())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What was not seen.
    pub fn missing(&self, at_most: usize) -> Option<Why> {
        if self.truncated {
            let text = format!("pg_stat_statements has more than {at_most} entries; the rest was not read");
            return Some(Why::error(code::QUERY_UNEXPECTED, text));
        }
        (self.hidden > 0).then(|| {
            let text =
                format!("{} statements of other roles are hidden from this role (pg_read_all_stats)", self.hidden);
            Why::error(code::QUERY_PRIVILEGE, text)
        })
    }
}

fn entry(query_id: i64, row: Row<'_>) -> Result<(Key, Entry), RowError> {
    let key = Key { query_id, user: row.i64("userid")?, database: row.i64("dbid")?, toplevel: row.bool("toplevel")? };
    // Sums of numeric type may be beyond 64 bits only after ages; then the largest number stands for them.
    let wide = |column: &str| Ok::<_, RowError>(row.opt_f64(column)?.unwrap_or(0.0) as i64);
    let counted = QueryDelta {
        query_id,
        user: row.text("username")?,
        database: row.text("datname")?,
        calls: row.i64("calls")?,
        rows: row.i64("rows")?,
        exec_time_ms: row.f64("exec_ms")?,
        plan_time_ms: row.f64("plan_ms")?,
        shared_blocks_hit: row.i64("shared_blks_hit")?,
        shared_blocks_read: row.i64("shared_blks_read")?,
        shared_blocks_dirtied: row.i64("shared_blks_dirtied")?,
        shared_blocks_written: row.i64("shared_blks_written")?,
        temp_blocks_read: row.i64("temp_blks_read")?,
        temp_blocks_written: row.i64("temp_blks_written")?,
        read_time_ms: row.f64("read_ms")?,
        write_time_ms: row.f64("write_ms")?,
        wal_records: wide("wal_records")?,
        wal_bytes: wide("wal_bytes")?,
    };
    Ok((key, Entry { since: row.opt_f64("since")?, counted }))
}

/// The entries of the reading before, and the sums since surus watches.
#[derive(Debug, Default)]
pub struct Book {
    before: Option<HashMap<Key, Entry>>,
    /// The reading before had every entry, so one that was not in it is new.
    complete: bool,
    sums: BTreeMap<String, (f64, f64, f64)>,
    reset_at: Option<String>,
    deallocations: Option<f64>,
    tracked: usize,
}

/// What a reading adds to the one before.
#[derive(Debug, Default)]
pub struct Added {
    pub deltas: Vec<QueryDelta>,
    /// All statistics were reset in between, at this time.
    pub reset_at: Option<String>,
}

impl Book {
    /// Enters a reading. The first one only says where the counting begins. An entry that began anew in between (it was
    /// reset, or evicted and came back) has added what it has now; a delta is never negative.
    pub fn enter(&mut self, reading: Reading) -> Added {
        let mut added = Added::default();
        if reading.reset_at.is_some() && self.before.is_some() && self.reset_at != reading.reset_at {
            added.reset_at.clone_from(&reading.reset_at);
        }
        self.reset_at = reading.reset_at;
        self.deallocations = reading.deallocations;
        self.tracked = reading.entries.len();
        let complete_before = std::mem::replace(&mut self.complete, !reading.truncated);
        let now: HashMap<Key, Entry> = reading.entries.into_iter().collect();
        if let Some(before) = &self.before {
            let mut merged: BTreeMap<(i64, i64, i64), QueryDelta> = BTreeMap::new();
            for (key, entry) in &now {
                let delta = match before.get(key) {
                    Some(earlier) => entry.since_earlier(earlier),
                    None if complete_before => entry.counted.clone(),
                    None => continue,
                };
                if !is_nothing(&delta) {
                    // Called from outside or from a function, it is the same statement.
                    let sum = merged.entry((key.query_id, key.user, key.database));
                    sum.and_modify(|sum| add(sum, &delta)).or_insert(delta);
                }
            }
            added.deltas = merged.into_values().collect();
        }
        self.before = Some(now);
        for delta in &added.deltas {
            let sum = self.sums.entry(delta.database.clone()).or_default();
            sum.0 += delta.calls as f64;
            sum.1 += delta.exec_time_ms / 1000.0;
            sum.2 += delta.rows as f64;
        }
        added
    }

    /// The sums, by database: never by statement, which would be a series each.
    pub fn told(&self) -> Vec<Told> {
        let mut page = Page::default();
        for (database, (calls, seconds, rows)) in &self.sums {
            let labels = [("datname", database.as_str())];
            page.tell(&CALLS, labels, *calls);
            page.tell(&SECONDS, labels, *seconds);
            page.tell(&ROWS, labels, *rows);
        }
        page.tell(&TRACKED, [], self.tracked as f64);
        if let Some(deallocations) = self.deallocations {
            page.tell(&EVICTIONS, [], deallocations);
        }
        page.into_told()
    }
}

impl Entry {
    fn since_earlier(&self, earlier: &Self) -> QueryDelta {
        let (now, then) = (&self.counted, &earlier.counted);
        let anew =
            self.since != earlier.since || now.calls < then.calls || now.exec_time_ms + 0.001 < then.exec_time_ms;
        if anew {
            return now.clone();
        }
        let whole = |now: i64, then: i64| (now - then).max(0);
        let part = |now: f64, then: f64| (now - then).max(0.0);
        QueryDelta {
            query_id: now.query_id,
            user: now.user.clone(),
            database: now.database.clone(),
            calls: whole(now.calls, then.calls),
            rows: whole(now.rows, then.rows),
            exec_time_ms: part(now.exec_time_ms, then.exec_time_ms),
            plan_time_ms: part(now.plan_time_ms, then.plan_time_ms),
            shared_blocks_hit: whole(now.shared_blocks_hit, then.shared_blocks_hit),
            shared_blocks_read: whole(now.shared_blocks_read, then.shared_blocks_read),
            shared_blocks_dirtied: whole(now.shared_blocks_dirtied, then.shared_blocks_dirtied),
            shared_blocks_written: whole(now.shared_blocks_written, then.shared_blocks_written),
            temp_blocks_read: whole(now.temp_blocks_read, then.temp_blocks_read),
            temp_blocks_written: whole(now.temp_blocks_written, then.temp_blocks_written),
            read_time_ms: part(now.read_time_ms, then.read_time_ms),
            write_time_ms: part(now.write_time_ms, then.write_time_ms),
            wal_records: whole(now.wal_records, then.wal_records),
            wal_bytes: whole(now.wal_bytes, then.wal_bytes),
        }
    }
}

/// Adds what a statement did later to what it did before.
pub(crate) fn add(sum: &mut QueryDelta, more: &QueryDelta) {
    sum.calls += more.calls;
    sum.rows += more.rows;
    sum.exec_time_ms += more.exec_time_ms;
    sum.plan_time_ms += more.plan_time_ms;
    sum.shared_blocks_hit += more.shared_blocks_hit;
    sum.shared_blocks_read += more.shared_blocks_read;
    sum.shared_blocks_dirtied += more.shared_blocks_dirtied;
    sum.shared_blocks_written += more.shared_blocks_written;
    sum.temp_blocks_read += more.temp_blocks_read;
    sum.temp_blocks_written += more.temp_blocks_written;
    sum.read_time_ms += more.read_time_ms;
    sum.write_time_ms += more.write_time_ms;
    sum.wal_records += more.wal_records;
    sum.wal_bytes += more.wal_bytes;
}

fn is_nothing(delta: &QueryDelta) -> bool {
    delta.calls == 0 && delta.exec_time_ms == 0.0 && delta.plan_time_ms == 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(entries: &[(i64, i64, f64)]) -> Reading {
        let entry = |&(query_id, calls, exec_time_ms): &(i64, i64, f64)| {
            let counted =
                QueryDelta { query_id, calls, exec_time_ms, database: "shop".into(), ..QueryDelta::default() };
            (Key { query_id, user: 10, database: 5, toplevel: true }, Entry { since: None, counted })
        };
        Reading { entries: entries.iter().map(entry).collect(), ..Reading::default() }
    }

    fn calls(added: &Added) -> Vec<(i64, i64)> {
        added.deltas.iter().map(|delta| (delta.query_id, delta.calls)).collect()
    }

    #[test]
    fn the_first_reading_is_where_counting_begins() {
        let mut book = Book::default();
        assert!(book.enter(reading(&[(1, 100, 5.0)])).deltas.is_empty());
        let added = book.enter(reading(&[(1, 103, 6.0), (2, 4, 1.0)]));
        assert_eq!(calls(&added), [(1, 3), (2, 4)]);
        assert!(book.enter(reading(&[(1, 103, 6.0), (2, 4, 1.0)])).deltas.is_empty());
        let told = book.told();
        assert_eq!(told[0].points[0].value, 7.0);
    }

    #[test]
    fn evicted_and_reset_entries_never_give_a_negative_delta() {
        let mut book = Book::default();
        book.enter(reading(&[(1, 100, 5.0), (2, 100, 5.0)]));
        // 1 was evicted and came back, 2 was evicted and is not back, then is.
        assert_eq!(calls(&book.enter(reading(&[(1, 7, 0.5)]))), [(1, 7)]);
        assert_eq!(calls(&book.enter(reading(&[(1, 7, 0.5), (2, 2, 0.1)]))), [(2, 2)]);
        // As many calls as before, but less time: another life of the entry.
        assert_eq!(calls(&book.enter(reading(&[(1, 7, 0.2), (2, 2, 0.1)]))), [(1, 7)]);
    }

    #[test]
    fn what_an_incomplete_reading_has_not_seen_is_not_new() {
        let mut book = Book::default();
        book.enter(Reading { truncated: true, ..reading(&[(1, 100, 5.0)]) });
        assert_eq!(calls(&book.enter(reading(&[(1, 101, 5.1), (2, 50, 1.0)]))), [(1, 1)]);
        assert_eq!(calls(&book.enter(reading(&[(1, 101, 5.1), (2, 50, 1.0), (3, 1, 0.0)]))), [(3, 1)]);
    }

    #[test]
    fn a_reset_is_told_once() {
        let at = |time: &str| Reading { reset_at: Some(time.into()), ..reading(&[]) };
        let mut book = Book::default();
        assert_eq!(book.enter(at("a")).reset_at, None);
        assert_eq!(book.enter(at("b")).reset_at.as_deref(), Some("b"));
        assert_eq!(book.enter(at("b")).reset_at, None);
    }
}
