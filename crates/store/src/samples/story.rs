//! Events, query texts and plans: what has a story, and is told once.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, params};
use serde_json::Value;
use surus_core::series::Window;

use super::SampleStore;
use super::record::target_id;
use crate::{Result, StoreError};

/// Anything with a time and a story: a restart, a failover, a changed setting, a deploy.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub at_ms: i64,
    pub target: String,
    /// One word, e.g. `restart`, `failover`, `setting`.
    pub kind: String,
    /// One line for people.
    pub title: String,
    /// What else is known.
    pub detail: Value,
    /// Names what happened: a second event with the same key is not kept.
    pub key: Option<String>,
}

/// Why something that came from outside is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError(pub String);

/// Characters of the title, and of the names of kind, target and key.
const MAX_TITLE: usize = 200;
/// Bytes of the detail, as JSON.
const MAX_DETAIL: usize = 16 << 10;
/// How far a clock elsewhere may be ahead.
const MAX_AHEAD_MS: i64 = 86_400_000;

impl Event {
    /// Is it fit to be kept, when it comes from outside?
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, now_ms: i64) -> std::result::Result<(), EventError> {
        let refuse = |why: String| Err(EventError(why));
        let texts = [("title", Some(&self.title)), ("target", Some(&self.target)), ("key", self.key.as_ref())];
        for (what, text) in texts.into_iter().filter_map(|(what, text)| Some((what, text?))) {
            let count = text.chars().count();
            if count > MAX_TITLE {
                return refuse(format!("its {what} has {count} characters, and {MAX_TITLE} are the limit"));
            }
            if text.chars().any(char::is_control) {
                return refuse(format!("its {what} is not one line of text"));
            }
        }
        if self.title.trim().is_empty() {
            return refuse("it has no title".to_owned());
        }
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if self.kind.is_empty() || self.kind.len() > 32 || !self.kind.chars().all(word) {
            return refuse("its kind is not one word of at most 32 letters a to z, digits, _ and -".to_owned());
        }
        let bytes = self.detail.to_string().len();
        if bytes > MAX_DETAIL {
            return refuse(format!("its detail has {bytes} bytes, and {MAX_DETAIL} are the limit"));
        }
        if !(0..=now_ms.saturating_add(MAX_AHEAD_MS)).contains(&self.at_ms) {
            return refuse("its time is before 1970 or more than a day ahead".to_owned());
        }
        Ok(())
    }
}

/// A plan of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub query_id: i64,
    /// Tells plans of one statement apart.
    pub hash: String,
    /// When it was seen first.
    pub at_ms: i64,
    pub plan: String,
}

/// Bytes of one text; what is longer is cut off there.
const MAX_TEXT: usize = 64 << 10;

/// Events of one answer: the newest ones.
const MAX_EVENTS: i64 = 10_000;

impl SampleStore {
    /// Keeps an event; false when one with its key is there already.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn append_event(&self, event: &Event) -> Result<bool> {
        let mut writer = self.writer();
        self.writing(&mut writer, None, |transaction, _| {
            let sql = "INSERT INTO event (at_ms, target, kind, title, detail, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                 ON CONFLICT (key) WHERE key IS NOT NULL DO NOTHING";
            let detail = event.detail.to_string();
            if detail.len() > MAX_TEXT * 4 {
                let why = format!("the event's detail has {} bytes, and {} are the limit", detail.len(), MAX_TEXT * 4);
                return Err(StoreError::Refused { why });
            }
            let (target, kind, title) = (cut(&event.target), cut(&event.kind), cut(&event.title));
            let written = transaction
                .execute(sql, params![event.at_ms, target, kind, title, detail, event.key])
                .map_err(|error| self.sqlite(error))?;
            Ok(written > 0)
        })
    }

    /// The events in the window, of one target or of all, oldest first; at most the newest ten thousand.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn events(&self, target: Option<&str>, window: Window) -> Result<Vec<Event>> {
        self.reading(|connection| {
            let sqlite = |error| self.sqlite(error);
            let mut statement = connection
                .prepare_cached(
                    "SELECT at_ms, target, kind, title, detail, key FROM event WHERE at_ms > ?1 AND at_ms <= ?2 \
                     AND (?3 IS NULL OR target = ?3) ORDER BY at_ms DESC, id DESC LIMIT ?4",
                )
                .map_err(sqlite)?;
            let asked = params![window.after_ms, window.until_ms, target, MAX_EVENTS];
            let mut rows = statement.query(asked).map_err(sqlite)?;
            let mut events = Vec::new();
            while let Some(row) = rows.next().map_err(sqlite)? {
                let (at_ms, target, kind, title, detail, key): (i64, String, String, String, String, Option<String>) =
                    row.try_into().map_err(sqlite)?;
                let detail = serde_json::from_str(&detail).map_err(|_| {
                    StoreError::damaged(&self.path, format!("the event of {at_ms}: its detail is no JSON"))
                })?;
                events.push(Event { at_ms, target, kind, title, detail, key });
            }
            events.reverse();
            Ok(events)
        })
    }

    /// Those of these query ids whose text is not known yet, or was forgotten because it is older than what is kept.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn unknown_query_ids(&self, target: &str, query_ids: &[i64]) -> Result<Vec<i64>> {
        self.reading(|connection| {
            let sqlite = |error| self.sqlite(error);
            let Some(target) = target_id(connection, target).map_err(sqlite)? else { return Ok(query_ids.to_vec()) };
            let mut statement = connection
                .prepare_cached("SELECT 1 FROM query_text WHERE target = ?1 AND query_id = ?2")
                .map_err(sqlite)?;
            let mut unknown = Vec::new();
            for id in query_ids {
                if !statement.exists(params![target, id]).map_err(sqlite)? {
                    unknown.push(*id);
                }
            }
            Ok(unknown)
        })
    }

    /// Keeps the texts of statements, each once; a text that is longer than 64 KiB is cut off there.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn remember_query_texts(&self, target: &str, at_ms: i64, texts: &[(i64, &str)]) -> Result<()> {
        let mut writer = self.writer();
        self.writing(&mut writer, Some(target), |transaction, target| {
            let sql = "INSERT INTO query_text (target, query_id, text, first_ms, last_ms) VALUES (?1, ?2, ?3, ?4, ?4) \
                 ON CONFLICT (target, query_id) DO UPDATE SET last_ms = max(last_ms, excluded.last_ms)";
            let mut statement = transaction.prepare_cached(sql).map_err(|error| self.sqlite(error))?;
            for (id, text) in texts {
                statement.execute(params![target, id, cut(text), at_ms]).map_err(|error| self.sqlite(error))?;
            }
            Ok(())
        })
    }

    /// Keeps the text of one statement.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn remember_query_text(&self, target: &str, at_ms: i64, query_id: i64, text: &str) -> Result<()> {
        self.remember_query_texts(target, at_ms, &[(query_id, text)])
    }

    /// The text of a statement, if it is known.
    ///
    /// # Errors
    /// When it could not be read.
    pub fn query_text(&self, target: &str, query_id: i64) -> Result<Option<String>> {
        self.reading(|connection| {
            let sql = "SELECT q.text FROM query_text AS q JOIN target AS t ON t.id = q.target \
                 WHERE t.name = ?1 AND q.query_id = ?2";
            connection
                .prepare_cached(sql)
                .and_then(|mut statement| statement.query_row(params![target, query_id], |row| row.get(0)).optional())
                .map_err(|error| self.sqlite(error))
        })
    }

    /// The texts of those of these statements whose text is known.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn query_texts(&self, target: &str, query_ids: &[i64]) -> Result<HashMap<i64, String>> {
        self.reading(|connection| {
            let sqlite = |error| self.sqlite(error);
            let Some(target) = target_id(connection, target).map_err(sqlite)? else { return Ok(HashMap::new()) };
            let mut statement = connection
                .prepare_cached("SELECT text FROM query_text WHERE target = ?1 AND query_id = ?2")
                .map_err(sqlite)?;
            let mut texts = HashMap::with_capacity(query_ids.len());
            for id in query_ids {
                let text = statement.query_row(params![target, id], |row| row.get(0)).optional().map_err(sqlite)?;
                texts.extend(text.map(|text| (*id, text)));
            }
            Ok(texts)
        })
    }

    /// Keeps a plan of a statement, each once; false when it was known.
    ///
    /// # Errors
    /// As [`SampleStore::append`].
    pub fn remember_plan(&self, target: &str, plan: &Plan) -> Result<bool> {
        let mut writer = self.writer();
        self.writing(&mut writer, Some(target), |transaction, target| {
            let known: Option<i64> = transaction
                .prepare_cached("SELECT id FROM plan WHERE target = ?1 AND query_id = ?2 AND hash = ?3")
                .and_then(|mut statement| {
                    statement.query_row(params![target, plan.query_id, plan.hash], |row| row.get(0)).optional()
                })
                .map_err(|error| self.sqlite(error))?;
            let done = match known {
                Some(id) => transaction
                    .execute("UPDATE plan SET last_ms = max(last_ms, ?2) WHERE id = ?1", params![id, plan.at_ms]),
                None => transaction.execute(
                    "INSERT INTO plan (target, query_id, hash, at_ms, last_ms, plan) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
                    params![target, plan.query_id, cut(&plan.hash), plan.at_ms, cut(&plan.plan)],
                ),
            };
            done.map_err(|error| self.sqlite(error))?;
            Ok(known.is_none())
        })
    }

    /// The plans of a statement, oldest first.
    ///
    /// # Errors
    /// When they could not be read.
    pub fn plans(&self, target: &str, query_id: i64) -> Result<Vec<Plan>> {
        self.reading(|connection| {
            let sql = "SELECT p.query_id, p.hash, p.at_ms, p.plan FROM plan AS p JOIN target AS t ON t.id = p.target \
                 WHERE t.name = ?1 AND p.query_id = ?2 ORDER BY p.at_ms LIMIT 1000";
            let mut statement = connection.prepare_cached(sql).map_err(|error| self.sqlite(error))?;
            let rows = statement.query_map(params![target, query_id], |row| {
                Ok(Plan { query_id: row.get(0)?, hash: row.get(1)?, at_ms: row.get(2)?, plan: row.get(3)? })
            });
            rows.and_then(Iterator::collect).map_err(|error| self.sqlite(error))
        })
    }
}

/// The beginning of a text, as long as one may be.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
