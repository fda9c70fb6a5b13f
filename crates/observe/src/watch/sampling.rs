//! What goes to the store as records and not as series: active sessions and what statements added.

use super::Watch;
use crate::{
    activity,
    asking::{self, Failed, Ran},
    collector::Tier,
    desk::Item,
    statements::{self, Reading, Shape, TEXTS_AT_MOST},
    why::Why,
};
use std::time::Duration;
use surus_core::{clock, clock::Stopwatch, code, series::Told, version::NEWEST_MAJOR};
use surus_pg::{AskError, AskErrorKind, Facts, Rows, Session};
use surus_store::samples::QueryDelta;

/// The names of these readings among the collectors.
const ACTIVITY: &str = "activity";
const AVERAGE: &str = "active_sessions";
const STATEMENTS: &str = "statements";
const TEXTS: &str = "statement_texts";
/// What they are read from.
pub(super) const EXTENSION: &str = "pg_stat_statements";
/// Statements whose text is known to be known.
const TEXTS_REMEMBERED: usize = 100_000;

impl Watch {
    /// Takes a sample of the activity when one is due, and writes the heartbeat. It is called between any two questions
    /// of the first session, so that a long list of collectors leaves no gap.
    pub(super) async fn activity_if_due(&mut self) {
        self.heartbeat_if_due().await;
        if self.session.is_none() {
            return;
        }
        if let Some(due) = self.grids.activity.take(clock::now_ms()) {
            self.skipped += due.skipped;
            self.activity(due.at_ms).await;
        }
    }

    async fn activity(&mut self, at_ms: i64) {
        let every = self.settings.activity;
        let run = self.runs.own(ACTIVITY, "pg_stat_activity, pg_blocking_pids", Tier::Counters, every, None);
        let Some(known) = &self.known else { return };
        if !run.allowed(at_ms) {
            return;
        }
        if let Err(why) = may_see(&known.facts) {
            run.absent(why);
            return;
        }
        let Some(session) = self.session.take() else { return };
        let (most, watch) = (self.settings.sessions_at_most, Stopwatch::start());
        let facts = known.facts.clone();
        let sql = activity::sql(facts.version.major().min(NEWEST_MAJOR), most);
        let answer = asking::ask(&session, &sql, self.settings.statement_timeout).await;
        let rows = answer.as_ref().map_or(0, Rows::len);
        let read = answer
            .map_err(|error| asking::failed(&error))
            .and_then(|rows| activity::read(&rows, &facts.databases).map_err(|error| Failed::Refused((&error).into())));
        let told = read.map(|mut sessions| {
            self.missing.remove(ACTIVITY);
            if sessions.len() > most {
                sessions.truncate(most);
                let text = format!("more than {most} sessions are active; the sample is truncated");
                self.missing.insert(ACTIVITY, Why::absent(text));
            }
            self.average.add(&sessions);
            for (at_ms, change) in self.blocking.see(at_ms, &sessions) {
                self.happened(at_ms, change);
            }
            self.writing.desk().take(Item::Activity { target: self.writing.target(), at_ms, sessions });
            Vec::new()
        });
        self.done(Done { name: ACTIVITY, at_ms, took: watch.elapsed(), rows }, told, session);
    }

    /// The average of the samples since the last cycle becomes a family of its own.
    pub(super) fn average_of_activity(&mut self, at_ms: i64) {
        let every = self.settings.counters;
        let Some(told) = self.average.take() else { return };
        let run = self.runs.own(AVERAGE, "the activity samples", Tier::Counters, every, None);
        let ran = Ran { collector: AVERAGE, database: None, at_ms, took: Duration::ZERO, rows: 0, told: Ok(told) };
        let _closed = run.note(ran);
    }

    /// Reads pg_stat_statements, hands over what was added and fetches texts that are not known.
    pub(super) async fn statements(&mut self, at_ms: i64) {
        let every = self.settings.statements;
        let run = self.runs.own(STATEMENTS, "pg_stat_statements without texts", Tier::Detail, every, None);
        let Some(known) = &self.known else { return };
        if !run.allowed(at_ms) {
            return;
        }
        if !known.extensions.contains_key(EXTENSION) {
            if self.extensions.values().any(|all| all.contains_key(EXTENSION)) {
                // The second session passes there.
                self.errand = Some(at_ms);
                return;
            }
            let own = &known.facts.database;
            let text = format!("{EXTENSION} is not installed in database {own}, nor in another that surus looks into");
            run.absent(Why::absent(text));
            return;
        }
        let Some(session) = self.session.take() else { return };
        let watch = Stopwatch::start();
        let (limit, most) = (self.settings.statement_timeout, self.settings.statements_at_most);
        let reading = read_statements(&session, self.shape.take(), limit, most).await;
        let took = watch.elapsed();
        let rows = reading.as_ref().map_or(0, |(reading, _)| reading.len());
        let mut wanted = Vec::new();
        let told = match reading {
            Ok((reading, shape)) => {
                self.shape = Some(shape);
                wanted = self.enter_statements(reading, at_ms).await;
                Ok(self.book.told())
            }
            Err(failed) => Err(failed),
        };
        self.done(Done { name: STATEMENTS, at_ms, took, rows }, told, session);
        if !wanted.is_empty() {
            self.texts(&wanted, at_ms).await;
        }
    }

    /// Returns the statements whose texts are not known, the most expensive first.
    async fn enter_statements(&mut self, reading: Reading, at_ms: i64) -> Vec<i64> {
        match reading.missing(self.settings.statements_at_most) {
            Some(why) => drop(self.missing.insert(STATEMENTS, why)),
            None => drop(self.missing.remove(STATEMENTS)),
        }
        let added = self.book.enter(reading);
        if let Some(reset_at) = added.reset_at {
            let detail = serde_json::json!({ "of": "pg_stat_statements", "at": reset_at });
            let title = "The statistics of pg_stat_statements were reset";
            self.happened(at_ms, crate::changes::Change::new("stats_reset", title, detail));
        }
        let wanted = self.unknown(&added.deltas).await;
        if !added.deltas.is_empty() {
            let target = self.writing.target();
            self.writing.desk().take(Item::Deltas { target, at_ms, deltas: added.deltas });
        }
        wanted
    }

    async fn unknown(&mut self, deltas: &[QueryDelta]) -> Vec<i64> {
        let mut new: Vec<&QueryDelta> = deltas.iter().filter(|delta| !self.texts.contains(&delta.query_id)).collect();
        new.sort_by(|a, b| b.exec_time_ms.total_cmp(&a.exec_time_ms));
        let ids: Vec<i64> = new.iter().map(|delta| delta.query_id).collect();
        if ids.is_empty() {
            return ids;
        }
        let (store, target) = (self.writing.desk().store().clone(), self.writing.target());
        let asked = ids.clone();
        let unknown = tokio::task::spawn_blocking(move || store.unknown_query_ids(&target, &asked)).await;
        // What cannot be asked now is asked again with the next reading.
        let Ok(Ok(mut unknown)) = unknown else { return Vec::new() };
        if self.texts.len() + ids.len() > TEXTS_REMEMBERED {
            self.texts.clear();
        }
        self.texts.extend(ids.iter().filter(|id| !unknown.contains(id)));
        unknown.truncate(TEXTS_AT_MOST);
        unknown
    }

    async fn texts(&mut self, wanted: &[i64], at_ms: i64) {
        let every = self.settings.statements;
        let run = self.runs.own(TEXTS, "pg_stat_statements, texts of new statements", Tier::Detail, every, None);
        if !run.allowed(at_ms) {
            return;
        }
        let (Some(session), Some(shape)) = (self.session.take(), &self.shape) else { return };
        let watch = Stopwatch::start();
        let answer = asking::ask(&session, &shape.texts_sql(wanted), self.settings.statement_timeout).await;
        let rows = answer.as_ref().map_or(0, Rows::len);
        let told = answer.map_err(|error| not_read(&error)).map(|rows| {
            let texts = texts_of(&rows);
            self.writing.desk().take(Item::Texts { target: self.writing.target(), at_ms, texts });
            Vec::new()
        });
        self.done(Done { name: TEXTS, at_ms, took: watch.elapsed(), rows }, told, session);
    }

    /// What the second session has read, in a database where the extension is.
    pub(super) async fn statements_came(&mut self, brought: Brought) {
        let Brought { at_ms, took, reading, texts } = brought;
        let rows = reading.as_ref().map_or(0, Reading::len);
        if !texts.is_empty() {
            self.writing.desk().take(Item::Texts { target: self.writing.target(), at_ms, texts });
        }
        let told = match reading {
            Ok(reading) => {
                self.wanted = self.enter_statements(reading, at_ms).await;
                Ok(self.book.told())
            }
            Err(failed) => Err(failed),
        };
        let every = self.settings.statements;
        let run = self.runs.own(STATEMENTS, "", Tier::Detail, every, None);
        // That the second session ended says nothing about the first one.
        let _closed = run.note(Ran { collector: STATEMENTS, database: None, at_ms, took, rows, told });
    }

    /// Takes note of a run of one of these readings, and of the session's end.
    fn done(&mut self, done: Done, told: Result<Vec<Told>, Failed>, session: Session) {
        let Done { name, at_ms, took, rows } = done;
        let every = if name == ACTIVITY { self.settings.activity } else { self.settings.statements };
        let run = self.runs.own(name, "", Tier::Detail, every, None);
        match run.note(Ran { collector: name, database: None, at_ms, took, rows, told }) {
            Some(why) => self.lost(why, at_ms),
            None => self.session = Some(session),
        }
    }
}

/// An errand of the second session: what it shall read besides its collectors.
pub(super) struct Errand {
    pub at_ms: i64,
    /// Statements whose texts are wanted.
    pub wanted: Vec<i64>,
    pub at_most: usize,
}

/// What it brought.
pub(super) struct Brought {
    at_ms: i64,
    took: Duration,
    reading: Result<Reading, Failed>,
    texts: Vec<(i64, String)>,
}

impl Errand {
    /// Reads the counters, and the texts that were wanted when it left.
    pub(super) async fn run(self, session: &Session, limit: Duration) -> Brought {
        let watch = Stopwatch::start();
        let (reading, mut texts) = (read_statements(session, None, limit, self.at_most).await, Vec::new());
        if let (Ok((_, shape)), false) = (&reading, self.wanted.is_empty())
            && let Ok(rows) = asking::ask(session, &shape.texts_sql(&self.wanted), limit).await
        {
            texts = texts_of(&rows);
        }
        let reading = reading.map(|(reading, _)| reading);
        Brought { at_ms: self.at_ms, took: watch.elapsed(), reading, texts }
    }
}

fn texts_of(rows: &Rows) -> Vec<(i64, String)> {
    let pair = |row: surus_pg::Row<'_>| Some((row.i64("queryid").ok()?, row.text("query").ok()?));
    rows.iter().filter_map(pair).collect()
}

/// Reads pg_stat_statements, whose shape is asked for when it is not known.
async fn read_statements(
    session: &Session,
    shape: Option<Shape>,
    limit: Duration,
    most: usize,
) -> Result<(Reading, Shape), Failed> {
    let odd = |error: surus_pg::RowError| Failed::Refused((&error).into());
    let shape = match shape {
        Some(shape) => shape,
        None => {
            let rows = asking::ask(session, statements::WHERE_IT_IS, limit).await.map_err(|error| not_read(&error))?;
            Shape::read(&rows).map_err(odd)?
        }
    };
    let rows = asking::ask(session, &shape.numbers_sql(most), limit).await.map_err(|error| not_read(&error))?;
    let mut reading = Reading::read(&rows, most).map_err(odd)?;
    if let Some(sql) = shape.info_sql() {
        let rows = asking::ask(session, &sql, limit).await.map_err(|error| not_read(&error))?;
        reading.add_info(&rows).map_err(odd)?;
    }
    Ok((reading, shape))
}

/// A reading that has ended.
struct Done {
    name: &'static str,
    at_ms: i64,
    took: Duration,
    rows: usize,
}

fn may_see(facts: &Facts) -> Result<(), Why> {
    if facts.role.superuser || facts.role.reads_stats {
        return Ok(());
    }
    let text = format!("the role {} is no member of pg_read_all_stats and sees only its own sessions", facts.role.name);
    Err(Why::error(code::QUERY_PRIVILEGE, text))
}

/// The extension may be installed while its library is not loaded: that is a state, no error of the server's.
fn not_read(error: &AskError) -> Failed {
    match error.kind {
        AskErrorKind::ObjectState => Failed::Absent(Why::absent(format!(
            "{}; add it to shared_preload_libraries and restart the server",
            error.message
        ))),
        _ => asking::failed(error),
    }
}
