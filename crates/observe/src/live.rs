//! The live view: what one look at a server shows, for somebody who watches it right now. What is asked and what the
//! rows mean is here; drawing is somebody else's.

pub mod ending;
pub mod one;
pub mod overview;
pub mod replication;
pub mod sessions;

use crate::{
    asking::ask,
    statements::{Book, Reading, Shape, WHERE_IT_IS, add},
};
use overview::{Overview, Pace};
use replication::Replication;
use serde::Serialize;
use sessions::Sessions;
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};
use surus_core::clock::Stopwatch;
use surus_pg::{AskError, AskErrorKind, Facts, RowError, Rows, Session};
use surus_store::samples::QueryDelta;

/// Entries of pg_stat_statements that one look reads.
const STATEMENTS_AT_MOST: usize = 20_000;
/// Statements whose sums or texts are kept.
const KEPT_AT_MOST: usize = 40_000;
/// Statements that are shown, and whose texts are fetched.
const SHOWN_AT_MOST: usize = 100;

/// What is wanted besides overview and sessions, which every look brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Besides {
    Nothing,
    Statements,
    Replication,
}

/// What one look brought. A part that could not be seen says why.
#[derive(Debug, Clone, Serialize)]
pub struct Frame {
    pub overview: Overview,
    /// What happened since the look before; none for the first.
    pub pace: Option<Pace>,
    pub sessions: Sessions,
    /// Since when the statements are counted, in seconds.
    pub statements_since_s: f64,
    pub statements: Option<Result<Vec<Statement>, String>>,
    pub replication: Option<Result<Replication, String>>,
}

/// What a statement did since the eye was opened.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Statement {
    pub query_id: i64,
    pub database: String,
    pub user: String,
    pub calls: i64,
    pub rows: i64,
    pub exec_time_ms: f64,
    pub read_time_ms: f64,
    pub shared_blocks_hit: i64,
    pub shared_blocks_read: i64,
    pub wal_bytes: i64,
    /// Its share of all execution time, in percent.
    pub share_percent: f64,
    /// Empty when the role may not see it.
    pub text: String,
}

/// Looks at one server again and again.
pub struct Eye {
    statement_timeout: Duration,
    before: Option<Overview>,
    shape: Option<Shape>,
    book: Book,
    /// By statement, role and database.
    sums: BTreeMap<(i64, String, String), QueryDelta>,
    texts: HashMap<i64, String>,
    opened: Stopwatch,
}

impl Eye {
    /// An eye that has seen nothing yet.
    pub fn open(statement_timeout: Duration) -> Self {
        Self {
            statement_timeout,
            before: None,
            shape: None,
            book: Book::default(),
            sums: BTreeMap::new(),
            texts: HashMap::new(),
            opened: Stopwatch::start(),
        }
    }

    /// Begins to count statements anew.
    pub fn forget_statements(&mut self) {
        self.sums.clear();
        self.opened = Stopwatch::start();
    }

    /// Looks once.
    ///
    /// # Errors
    /// When overview or sessions cannot be had; what else is refused is said in its part of the frame.
    pub async fn look(&mut self, session: &Session, facts: &Facts, besides: Besides) -> Result<Frame, LookError> {
        let major = facts.version.major();
        let overview = Overview::read(&self.ask(session, overview::SQL).await?)?;
        let sessions = Sessions::read(&self.ask(session, &sessions::sql(major)).await?)?;
        let pace = self.before.as_ref().and_then(|before| Pace::between(before, &overview));
        self.before = Some(overview.clone());
        let statements = match besides {
            Besides::Statements => Some(said(self.statements(session).await)?),
            _ => None,
        };
        let replication = match besides {
            Besides::Replication => Some(said(self.replication(session, major, overview.in_recovery).await)?),
            _ => None,
        };
        let statements_since_s = self.opened.elapsed().as_secs_f64();
        Ok(Frame { overview, pace, sessions, statements_since_s, statements, replication })
    }

    async fn ask(&self, session: &Session, sql: &str) -> Result<Rows, AskError> {
        ask(session, sql, self.statement_timeout).await
    }

    async fn replication(&self, session: &Session, major: u16, in_recovery: bool) -> Result<Replication, LookError> {
        let nodes = self.ask(session, &replication::nodes_sql(in_recovery)).await?;
        let slots = self.ask(session, &replication::slots_sql(major, in_recovery)).await?;
        Ok(Replication::read(&nodes, &slots)?)
    }

    /// Where pg_stat_statements is; asked for again as long as it is nowhere.
    async fn shape(&mut self, session: &Session) -> Result<Shape, LookError> {
        if let Some(shape) = &self.shape {
            return Ok(shape.clone());
        }
        let rows = self.ask(session, WHERE_IT_IS).await?;
        if rows.is_empty() {
            let none = "pg_stat_statements is not installed in this database: CREATE EXTENSION pg_stat_statements";
            return Err(LookError::Absent(none.to_owned()));
        }
        let shape = Shape::read(&rows)?;
        self.shape = Some(shape.clone());
        Ok(shape)
    }

    async fn statements(&mut self, session: &Session) -> Result<Vec<Statement>, LookError> {
        let shape = self.shape(session).await?;
        let rows = self.ask(session, &shape.numbers_sql(STATEMENTS_AT_MOST)).await?;
        let reading = Reading::read(&rows, STATEMENTS_AT_MOST)?;
        // An eye that is open for days forgets rather than grows; since when it counts is in the frame.
        if self.sums.len() > KEPT_AT_MOST || self.texts.len() > KEPT_AT_MOST {
            self.texts.clear();
            self.forget_statements();
        }
        for delta in self.book.enter(reading).deltas {
            let key = (delta.query_id, delta.user.clone(), delta.database.clone());
            self.sums.entry(key).and_modify(|sum| add(sum, &delta)).or_insert(delta);
        }
        let all: f64 = self.sums.values().map(|sum| sum.exec_time_ms).sum();
        let mut sums: Vec<&QueryDelta> = self.sums.values().collect();
        sums.sort_by(|a, b| b.exec_time_ms.total_cmp(&a.exec_time_ms));
        sums.truncate(SHOWN_AT_MOST);
        let mut shown: Vec<Statement> = sums.into_iter().map(|sum| statement(sum, all)).collect();
        self.fetch_texts(session, &shape, &shown).await?;
        for statement in &mut shown {
            if let Some(text) = self.texts.get(&statement.query_id) {
                statement.text.clone_from(text);
            }
        }
        Ok(shown)
    }

    /// Texts cost the server a whole file to load: each is fetched once.
    async fn fetch_texts(&mut self, session: &Session, shape: &Shape, shown: &[Statement]) -> Result<(), LookError> {
        let ids = shown.iter().map(|statement| statement.query_id);
        let new: Vec<i64> = ids.filter(|id| !self.texts.contains_key(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows = self.ask(session, &shape.texts_sql(&new)).await?;
        for row in rows.iter() {
            self.texts.insert(row.i64("queryid")?, row.text("query")?);
        }
        for id in new {
            // Evicted meanwhile, or hidden: not asked for again.
            self.texts.entry(id).or_default();
        }
        Ok(())
    }
}

fn statement(sum: &QueryDelta, all_ms: f64) -> Statement {
    Statement {
        query_id: sum.query_id,
        database: sum.database.clone(),
        user: sum.user.clone(),
        calls: sum.calls,
        rows: sum.rows,
        exec_time_ms: sum.exec_time_ms,
        read_time_ms: sum.read_time_ms,
        shared_blocks_hit: sum.shared_blocks_hit,
        shared_blocks_read: sum.shared_blocks_read,
        wal_bytes: sum.wal_bytes,
        share_percent: if all_ms > 0.0 { 100.0 * sum.exec_time_ms / all_ms } else { 0.0 },
        text: String::new(),
    }
}

/// What a part of a look refuses is said in its place; a session that is gone ends the look.
fn said<T>(part: Result<T, LookError>) -> Result<Result<T, String>, LookError> {
    match part {
        Err(LookError::Ask(error)) if error.kind == AskErrorKind::Closed => Err(LookError::Ask(error)),
        other => Ok(other.map_err(|error| error.to_string())),
    }
}

/// A look was not possible.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("the server's answer has another shape: {0}")]
    Row(#[from] RowError),
    #[error("{0}")]
    Absent(String),
}
