//! Active sessions and query statistics: records with text in them, which would be too many label values. Those of one
//! moment arrive as one row; later the rows of some minutes become one, whose repetitions compress well.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use surus_core::series::Window;

use super::bytes::{seal, unseal};
use super::fold::slot_of;
use super::row::decompress;
use super::scan::{Look, QueryDeltaRef, SessionRef, each_look};
use super::{Damage, SampleStore, sessions};
use crate::{Result, StoreError};

/// A session that did something, or waited, or held a transaction open, when it was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionSample {
    #[serde(rename = "p")]
    pub pid: i32,
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// The client's address; none on a Unix socket.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub backend_type: Option<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// None while it is on a CPU.
    #[serde(rename = "wt", default, skip_serializing_if = "Option::is_none")]
    pub wait_event_type: Option<String>,
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub wait_event: Option<String>,
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    pub query_id: Option<i64>,
    /// The processes that it waits for.
    #[serde(rename = "bl", default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<i32>,
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub transaction_age_ms: Option<i64>,
    #[serde(rename = "qa", default, skip_serializing_if = "Option::is_none")]
    pub query_age_ms: Option<i64>,
    /// The leader, for a parallel worker.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub leader_pid: Option<i32>,
}

/// The sessions that were active at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    pub at_ms: i64,
    pub sessions: Vec<SessionSample>,
}

/// What a statement added to `pg_stat_statements` between two looks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueryDelta {
    #[serde(rename = "q")]
    pub query_id: i64,
    #[serde(rename = "u", skip_serializing_if = "String::is_empty")]
    pub user: String,
    #[serde(rename = "d", skip_serializing_if = "String::is_empty")]
    pub database: String,
    #[serde(rename = "c", skip_serializing_if = "is_zero")]
    pub calls: i64,
    #[serde(rename = "r", skip_serializing_if = "is_zero")]
    pub rows: i64,
    #[serde(rename = "t", skip_serializing_if = "is_nothing")]
    pub exec_time_ms: f64,
    #[serde(rename = "pt", skip_serializing_if = "is_nothing")]
    pub plan_time_ms: f64,
    #[serde(rename = "sh", skip_serializing_if = "is_zero")]
    pub shared_blocks_hit: i64,
    #[serde(rename = "sr", skip_serializing_if = "is_zero")]
    pub shared_blocks_read: i64,
    #[serde(rename = "sd", skip_serializing_if = "is_zero")]
    pub shared_blocks_dirtied: i64,
    #[serde(rename = "sw", skip_serializing_if = "is_zero")]
    pub shared_blocks_written: i64,
    #[serde(rename = "tr", skip_serializing_if = "is_zero")]
    pub temp_blocks_read: i64,
    #[serde(rename = "tw", skip_serializing_if = "is_zero")]
    pub temp_blocks_written: i64,
    #[serde(rename = "rt", skip_serializing_if = "is_nothing")]
    pub read_time_ms: f64,
    #[serde(rename = "wt", skip_serializing_if = "is_nothing")]
    pub write_time_ms: f64,
    #[serde(rename = "wr", skip_serializing_if = "is_zero")]
    pub wal_records: i64,
    #[serde(rename = "wb", skip_serializing_if = "is_zero")]
    pub wal_bytes: i64,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_nothing(number: &f64) -> bool {
    *number == 0.0
}

/// What the statements added in the time up to one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryDeltas {
    pub at_ms: i64,
    pub deltas: Vec<QueryDelta>,
}

/// Kinds of records; the numbers are in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Activity = 1,
    Queries = 2,
    /// One sum per statement over a folded row of the kind above; start and end are that row's.
    QueryHours = 3,
}

/// The records of one moment, as they are in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Moment<T> {
    pub t: i64,
    pub d: Vec<T>,
}

/// Bytes of one row, unpacked.
pub(super) const MAX_ROW: usize = 256 << 20;

/// Sessions are looked at every second or so, statements every minute or so.
const ACTIVITY_SLOT_MS: i64 = 300_000;
const QUERIES_SLOT_MS: i64 = 3_600_000;

/// Stretches that are folded in one go.
const SLOTS_AT_ONCE: usize = 300;

/// Records of one moment.
const MAX_RECORDS: usize = 100_000;

impl SampleStore {
    /// Appends the sessions that were active at one moment; none is an answer too.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn append_activity(&self, target: &str, at_ms: i64, sessions: &[SessionSample]) -> Result<()> {
        self.append_records(Kind::Activity, target, at_ms, sessions)
    }

    /// The moments in the window at which sessions were looked at, oldest first.
    ///
    /// # Errors
    /// When it is more than the limit of samples, or could not be read.
    pub fn activity(&self, target: &str, window: Window) -> Result<Vec<Activity>> {
        let keep = |all: &mut Vec<Activity>, look: Look<'_>| {
            let sessions = look.sessions.iter().map(SessionRef::to_sample).collect();
            all.push(Activity { at_ms: look.at_ms, sessions });
        };
        let most = self.settings.max_selected_samples / 10;
        let merge = |all: &mut Vec<Activity>, mut more: Vec<Activity>| all.append(&mut more);
        let (mut all, _) = self.scan_activity(target, window, most, Vec::new, keep, merge)?;
        all.sort_by_key(|look| look.at_ms);
        Ok(all)
    }

    /// Appends what the statements added since the look before.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn append_query_deltas(&self, target: &str, at_ms: i64, deltas: &[QueryDelta]) -> Result<()> {
        self.append_records(Kind::Queries, target, at_ms, deltas)
    }

    /// What the statements added, by moment, oldest first.
    ///
    /// # Errors
    /// As [`SampleStore::activity`].
    pub fn query_deltas(&self, target: &str, window: Window) -> Result<Vec<QueryDeltas>> {
        let moments = self.records(Kind::Queries, target, window)?;
        Ok(moments.into_iter().map(|Moment { t, d }| QueryDeltas { at_ms: t, deltas: d }).collect())
    }

    fn append_records<T: Serialize + Clone>(&self, kind: Kind, target: &str, at_ms: i64, records: &[T]) -> Result<()> {
        if records.len() > MAX_RECORDS {
            let why = format!("{} records of one moment, and {MAX_RECORDS} are the limit", records.len());
            return Err(StoreError::Refused { why });
        }
        let mut writer = self.writer();
        self.writing(&mut writer, Some(target), |transaction, id| {
            let data = pack(&[Moment { t: at_ms, d: records.to_vec() }], 1, kind, id, at_ms, at_ms)?;
            let sql =
                "INSERT INTO record (kind, target, start_ms, end_ms, folded, data) VALUES (?1, ?2, ?3, ?3, 0, ?4)";
            transaction
                .prepare_cached(sql)
                .and_then(|mut statement| statement.execute(params![kind as u8, id, at_ms, data]))
                .map_err(|error| self.sqlite(error))?;
            Ok(())
        })
    }

    fn records<T: DeserializeOwned>(&self, kind: Kind, target: &str, window: Window) -> Result<Vec<Moment<T>>> {
        self.reading(|connection| {
            let sqlite = |error| self.sqlite(error);
            let Some(target) = target_id(connection, target).map_err(sqlite)? else { return Ok(Vec::new()) };
            let mut statement = connection
                .prepare_cached(
                    "SELECT start_ms, end_ms, data FROM record WHERE kind = ?1 AND target = ?2 AND folded IN (0, 1) AND end_ms > ?3 \
                     AND start_ms <= ?4 ORDER BY start_ms",
                )
                .map_err(sqlite)?;
            let mut found = Vec::new();
            let mut count = 0;
            let window_of = params![kind as u8, target, window.after_ms, window.until_ms];
            let mut rows = statement.query(window_of).map_err(sqlite)?;
            while let Some(row) = rows.next().map_err(sqlite)? {
                let (start_ms, end_ms, data): (i64, i64, Vec<u8>) = row.try_into().map_err(sqlite)?;
                let moments: Vec<Moment<T>> = unpack(&data, kind, target, start_ms, end_ms)
                    .map_err(|damage| damage.of(&self.path, &format!("records of {start_ms}")))?;
                for moment in moments.into_iter().filter(|moment| window.holds(moment.t)) {
                    count += moment.d.len() + 1;
                    found.push(moment);
                }
                if count > self.settings.max_selected_samples / 10 {
                    let why = format!("the answer would have more than {count} records");
                    return Err(StoreError::TooMuch { why });
                }
            }
            Ok(found)
        })
    }
}

impl SampleStore {
    /// Makes one row of those of some minutes.
    pub(super) fn fold_records(&self, now_ms: i64) -> Result<()> {
        for (kind, slot_ms) in [(Kind::Activity, ACTIVITY_SLOT_MS), (Kind::Queries, QUERIES_SLOT_MS)] {
            let targets: Vec<u32> = self.writer().targets.values().map(|target| target.id).collect();
            for target in targets {
                for _ in 0..SLOTS_AT_ONCE {
                    if !self.fold_oldest(kind, target, slot_ms, now_ms)? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Folds the oldest stretch that is over; false when there is none.
    fn fold_oldest(&self, kind: Kind, target: u32, slot_ms: i64, now_ms: i64) -> Result<bool> {
        let sqlite = |error| self.sqlite(error);
        let rows: Vec<Found> = self.reading(|connection| {
            let oldest: Option<i64> = connection
                .prepare_cached("SELECT min(end_ms) FROM record WHERE kind = ?1 AND target = ?2 AND folded = 0")
                .and_then(|mut statement| statement.query_row(params![kind as u8, target], |row| row.get(0)))
                .map_err(sqlite)?;
            let Some(oldest) = oldest else { return Ok(Vec::new()) };
            let slot = slot_of(oldest, slot_ms);
            if slot.until_ms.saturating_add(slot_ms) > now_ms {
                return Ok(Vec::new());
            }
            let mut statement = connection
                .prepare_cached(
                    "SELECT id, start_ms, end_ms, data FROM record WHERE kind = ?1 AND target = ?2 AND folded = 0 \
                     AND end_ms > ?3 AND end_ms <= ?4 ORDER BY end_ms",
                )
                .map_err(sqlite)?;
            let asked = params![kind as u8, target, slot.after_ms, slot.until_ms];
            let rows = statement.query_map(asked, |row| row.try_into());
            rows.and_then(Iterator::collect).map_err(sqlite)
        })?;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(false) };
        let (start, end) = (first.1, last.2);
        let made = match kind {
            Kind::Activity => self.folded_sessions(&rows, target, start, end)?,
            Kind::Queries | Kind::QueryHours => self.folded_queries(&rows, target, start, end)?,
        };
        let mut writer = self.writer();
        self.writing(&mut writer, None, |transaction, _| {
            let mut statement = transaction.prepare_cached("DELETE FROM record WHERE id = ?1").map_err(sqlite)?;
            for (id, ..) in &rows {
                statement.execute([id]).map_err(sqlite)?;
            }
            let sql =
                "INSERT INTO record (kind, target, start_ms, end_ms, folded, data) VALUES (?1, ?2, ?3, ?4, 1, ?5)";
            let mut statement = transaction.prepare_cached(sql).map_err(sqlite)?;
            for (kind, data) in &made {
                statement.execute(params![*kind as u8, target, start, end, data]).map_err(sqlite)?;
            }
            Ok(true)
        })
    }
}

impl SampleStore {
    fn folded_sessions(&self, rows: &[Found], target: u32, start: i64, end: i64) -> Result<Vec<(Kind, Vec<u8>)>> {
        let kind = Kind::Activity;
        let mut writer = sessions::Writer::default();
        for (_, start, end, data) in rows {
            let ever = Window { after_ms: i64::MIN, until_ms: i64::MAX };
            text_of(data, kind, target, *start, *end)
                .and_then(|text| each_look(&text, ever, |at_ms, sessions| writer.add(at_ms, sessions)))
                .map_err(|damage| damage.of(&self.path, &format!("records of {start}")))?;
        }
        Ok(vec![(kind, compress(&writer.into_bytes(), 3, kind, target, start, end)?)])
    }

    fn folded_queries(&self, rows: &[Found], target: u32, start: i64, end: i64) -> Result<Vec<(Kind, Vec<u8>)>> {
        let mut moments: Vec<Moment<Box<RawValue>>> = Vec::new();
        for (_, start, end, data) in rows {
            let some = unpack(data, Kind::Queries, target, *start, *end);
            moments.extend(some.map_err(|damage| damage.of(&self.path, &format!("records of {start}")))?);
        }
        let sums = sums(&moments).map_err(|damage| damage.of(&self.path, &format!("records of {start}")))?;
        let all = pack(&moments, 3, Kind::Queries, target, start, end)?;
        let sums = pack(&[Moment { t: end, d: sums }], 3, Kind::QueryHours, target, start, end)?;
        Ok(vec![(Kind::Queries, all), (Kind::QueryHours, sums)])
    }
}

/// Id, start, end and data of a row.
type Found = (i64, i64, i64, Vec<u8>);

/// What each statement of each user and database added in all of these moments.
fn sums(moments: &[Moment<Box<RawValue>>]) -> std::result::Result<Vec<QueryDelta>, Damage> {
    let mut sums: BTreeMap<(i64, String, String), QueryDelta> = BTreeMap::new();
    for delta in moments.iter().flat_map(|moment| &moment.d) {
        let delta: QueryDeltaRef<'_> =
            serde_json::from_str(delta.get()).map_err(|_| Damage("it is no list of statements"))?;
        let names = (delta.query_id, delta.user.to_string(), delta.database.to_string());
        sums.entry(names).or_default().add(&delta);
    }
    let named = |((query_id, user, database), sum)| QueryDelta { query_id, user, database, ..sum };
    Ok(sums.into_iter().map(named).collect())
}

fn pack<T: Serialize>(
    moments: &[Moment<T>],
    level: i32,
    kind: Kind,
    target: u32,
    start: i64,
    end: i64,
) -> Result<Vec<u8>> {
    let odd = |error: String| StoreError::NotRecordable { why: error };
    let text = serde_json::to_vec(moments).map_err(|error| odd(error.to_string()))?;
    compress(&text, level, kind, target, start, end)
}

fn compress(text: &[u8], level: i32, kind: Kind, target: u32, start: i64, end: i64) -> Result<Vec<u8>> {
    let odd = |error: std::io::Error| StoreError::NotRecordable { why: error.to_string() };
    let data = zstd::bulk::compress(text, level).map_err(odd)?;
    Ok(seal(data, &[kind as i64, i64::from(target), start, end]))
}

fn unpack<T: DeserializeOwned>(
    data: &[u8],
    kind: Kind,
    target: u32,
    start: i64,
    end: i64,
) -> std::result::Result<Vec<Moment<T>>, Damage> {
    let text = text_of(data, kind, target, start, end)?;
    serde_json::from_slice(&text).map_err(|_| Damage("it is no list of records"))
}

fn text_of(data: &[u8], kind: Kind, target: u32, start: i64, end: i64) -> std::result::Result<Vec<u8>, Damage> {
    decompress(unseal(data, &[kind as i64, i64::from(target), start, end])?, MAX_ROW)
}

/// The id of a target that is known.
pub(super) fn target_id(connection: &Connection, name: &str) -> rusqlite::Result<Option<u32>> {
    use rusqlite::OptionalExtension as _;
    connection.prepare_cached("SELECT id FROM target WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}
