//! Changes of the schema: the catalog of each database is asked with the details whether anything was written to it,
//! and read when there was.

use super::Watch;
use crate::{
    asking::{self, Failed, Ran},
    collector::Tier,
    schema::{self, Relations},
    why::Why,
};
use std::{sync::Arc, time::Duration};
use surus_core::{clock::Stopwatch, code};
use surus_pg::Session;

/// The name of this reading among the collectors.
const SCHEMA: &str = "schema";
const READS: &str = "pg_class, pg_attribute, pg_index and pg_constraint, after something was written to them";

/// A look that is to be taken in a database.
pub(super) struct Peek {
    at_ms: i64,
    /// What was written to the catalog when it was read last.
    written: Option<i64>,
}

/// What the look saw.
pub(super) struct Peeked {
    at_ms: i64,
    took: Duration,
    rows: usize,
    /// What was written to the catalog, and what is in it when that has changed.
    seen: Result<(i64, Option<Relations>), Failed>,
}

impl Peek {
    pub(super) async fn run(self, session: &Session, limit: Duration) -> Peeked {
        let (watch, mut rows) = (Stopwatch::start(), 0);
        let seen = self.look(session, limit, &mut rows).await;
        Peeked { at_ms: self.at_ms, took: watch.elapsed(), rows, seen }
    }

    async fn look(
        &self,
        session: &Session,
        limit: Duration,
        rows: &mut usize,
    ) -> Result<(i64, Option<Relations>), Failed> {
        let odd = |error: surus_pg::RowError| Failed::Refused((&error).into());
        let refused = |error: surus_pg::AskError| asking::failed(&error);
        let counted = asking::ask(session, schema::COUNT, limit).await.map_err(refused)?;
        let written = counted.first().and_then(|row| row.opt_i64("written")).map_err(odd)?.unwrap_or_default();
        if self.written == Some(written) {
            return Ok((written, None));
        }
        let found = asking::ask(session, &schema::sql(), limit).await.map_err(refused)?;
        *rows = found.len();
        match schema::read(&found).map_err(odd)? {
            Some(relations) => Ok((written, Some(relations))),
            None => {
                let most = schema::RELATIONS_AT_MOST;
                let text = format!("more than {most} tables and indexes are here; changes of them are not followed");
                Err(Failed::Refused(Why::error(code::QUERY_UNEXPECTED, text)))
            }
        }
    }
}

impl Watch {
    /// What to look at in a database; none on a standby, whose primary has the same changes.
    pub(super) fn peek(&mut self, database: &Arc<str>, at_ms: i64) -> Option<Peek> {
        let standby = self.known.as_ref()?.facts.in_recovery;
        let run = self.runs.own(SCHEMA, READS, Tier::Detail, self.settings.detail, Some(database));
        if standby {
            run.absent(Why::absent("changes of the schema are followed on the primary"));
            self.schemas.remove(database);
            return None;
        }
        let written = self.schemas.get(database).and_then(schema::Book::written);
        run.allowed(at_ms).then_some(Peek { at_ms, written })
    }

    /// Takes note of what was seen; why the session has ended, if it has.
    pub(super) fn peeked(&mut self, database: &Arc<str>, peeked: Peeked) -> Option<Why> {
        let Peeked { at_ms, took, rows, seen } = peeked;
        let told = seen.map(|(written, relations)| {
            let book = self.schemas.entry(database.clone()).or_default();
            let changes = match relations {
                Some(relations) => book.enter(database, written, relations, at_ms),
                None => {
                    book.still(at_ms);
                    Vec::new()
                }
            };
            self.all_happened(at_ms, changes);
            Vec::new()
        });
        let run = self.runs.own(SCHEMA, READS, Tier::Detail, self.settings.detail, Some(database));
        run.note(Ran { collector: SCHEMA, database: Some(database.clone()), at_ms, took, rows, told })
    }

    /// The own database.
    pub(super) async fn peek_here(&mut self, at_ms: i64) {
        let Some(known) = &self.known else { return };
        let database: Arc<str> = known.facts.database.as_str().into();
        let Some(peek) = self.peek(&database, at_ms) else { return };
        let Some(session) = self.session.take() else { return };
        let peeked = peek.run(&session, self.settings.statement_timeout).await;
        match self.peeked(&database, peeked) {
            Some(why) => self.lost(why, at_ms),
            None => self.session = Some(session),
        }
    }
}
