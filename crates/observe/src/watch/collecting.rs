//! The cycles of the first session.

use super::Watch;
use crate::{
    asking::{self, Failed, Place},
    collector::{Scope, Tier},
    gate,
    why::Why,
};
use std::sync::Arc;
use surus_pg::{Facts, Session};

/// What is asked at the beginning of every cycle: is it there, and is it still what it was.
const PULSE: &str = "SELECT pg_is_in_recovery() AS in_recovery";

impl Watch {
    /// The counters of the instance. Without a session the cycle says that the target is down.
    pub(super) async fn counters(&mut self, at_ms: i64) {
        if let Some(session) = self.session.take() {
            match self.pulse(&session).await {
                Ok(()) => {
                    self.session = Some(session);
                    self.answered(at_ms);
                    self.tier(Tier::Counters, at_ms).await;
                }
                Err(why) => self.lost(why, at_ms),
            }
        }
        if self.session.is_some() {
            self.write_counters(at_ms);
        }
        self.write_own(at_ms);
        self.show();
    }

    /// One row per table, query, slot or standby, of the instance and the own database.
    pub(super) async fn detail(&mut self, at_ms: i64) {
        self.tier(Tier::Detail, at_ms).await;
        if self.session.is_some() {
            self.write_detail(at_ms);
        }
        self.show();
    }

    async fn pulse(&mut self, session: &Session) -> Result<(), Why> {
        let rows = asking::ask(session, PULSE, self.settings.statement_timeout).await;
        let rows = rows.map_err(|error| Why::from(&error))?;
        let in_recovery = rows.first().and_then(|row| row.bool("in_recovery")).map_err(|error| Why::from(&error))?;
        if let Some(known) = &mut self.known
            && known.facts.in_recovery != in_recovery
        {
            known.facts = Arc::new(Facts { in_recovery, ..(*known.facts).clone() });
        }
        Ok(())
    }

    /// Runs a tier's collectors one after the other, as long as the session lasts.
    async fn tier(&mut self, tier: Tier, at_ms: i64) {
        let collectors = self.settings.collectors;
        for collector in collectors.iter().filter(|collector| collector.tier == tier) {
            let Some(known) = &self.known else { return };
            let (facts, extensions) = (known.facts.clone(), known.extensions.clone());
            let own: Arc<str> = facts.database.as_str().into();
            let database = (collector.scope == Scope::Database).then_some(own);
            let run = self.runs.of(collector, database.as_ref());
            let sql = match gate::open(collector, &facts, &extensions) {
                Ok(sql) => sql,
                Err(why) => {
                    run.absent(why);
                    continue;
                }
            };
            if !run.allowed(at_ms) {
                continue;
            }
            let Some(session) = self.session.take() else { return };
            let place = Place {
                session: &session,
                facts: &facts,
                database: &facts.database,
                statement_timeout: self.settings.statement_timeout,
            };
            let ran = asking::run(&place, collector, sql, at_ms, database.clone()).await;
            let closed = matches!(ran.told, Err(Failed::Closed(_)));
            let why = self.runs.of(collector, database.as_ref()).note(ran);
            if closed {
                self.lost(why.unwrap_or_else(|| Why::absent("the session ended")), at_ms);
                return;
            }
            self.session = Some(session);
        }
    }

    /// The databases to look into: those that allow connections and that the role may enter, the own one first.
    pub(super) fn databases(&mut self, facts: &Facts) -> Vec<Arc<str>> {
        let enter =
            |name: &str, allows: bool, may: bool, template: bool| allows && may && !template && name != facts.database;
        let others =
            facts.databases.iter().filter(|db| enter(&db.name, db.allows_connections, db.may_connect, db.is_template));
        let mut names: Vec<Arc<str>> = vec![facts.database.as_str().into()];
        names.extend(others.map(|db| Arc::from(db.name.as_str())));
        names.truncate(self.settings.databases_at_most);
        names
    }
}
