//! The cycles of the first session.

use super::{Watch, entering};
use crate::{
    asking::{self, Failed, Place},
    collector::{Scope, Tier},
    gate,
    why::Why,
};
use std::sync::Arc;
use surus_pg::Facts;

impl Watch {
    /// The counters of the instance. Without a session the cycle says that the target is down.
    pub(super) async fn counters(&mut self, at_ms: i64) {
        if let Some(session) = self.session.take() {
            match entering::pulse(&session, self.settings.statement_timeout).await {
                Ok(pulse) => {
                    self.session = Some(session);
                    self.answered(at_ms);
                    self.notice(pulse, at_ms).await;
                    self.average_of_activity(at_ms);
                    self.note_host();
                    self.tier(Tier::Counters, at_ms).await;
                    self.note_vacuums(at_ms);
                }
                Err(why) => self.lost(why, at_ms),
            }
        }
        if self.session.is_some() {
            self.write_counters(at_ms);
        } else if self.standing.trouble.is_none() {
            // The first attempt to connect is still under way: nothing is known yet.
            return;
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

    /// Runs a tier's collectors one after the other, as long as the session lasts.
    async fn tier(&mut self, tier: Tier, at_ms: i64) {
        let collectors = self.settings.collectors;
        for collector in collectors.iter().filter(|collector| collector.tier == tier) {
            self.activity_if_due().await;
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
            let ran = asking::run(&place, collector, &sql, at_ms, database.clone()).await;
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
        let others = facts
            .databases
            .iter()
            .filter(|db| db.allows_connections && db.may_connect && !db.is_template && db.name != facts.database);
        let mut names: Vec<Arc<str>> = vec![facts.database.as_str().into()];
        names.extend(others.map(|db| Arc::from(db.name.as_str())));
        let (most, all) = (self.settings.databases_at_most, names.len());
        self.missing.remove("databases");
        if all > most {
            let text = format!("{all} databases are more than surus looks into ({most}); {} are left out", all - most);
            self.missing.insert("databases", Why::absent(text));
        }
        names.truncate(most);
        names
    }
}
