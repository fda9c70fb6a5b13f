//! What has changed on the target since the last look: each change becomes an event.

use super::{
    Watch,
    entering::{self, Known},
};
use crate::{
    asking,
    changes::{self, Change, Pulse},
    collector::Tier,
    collectors,
    desk::Item,
    gate::Extensions,
    why::Why,
};
use std::{collections::BTreeMap, sync::Arc};
use surus_pg::{Facts, FactsError, Rows, Session};

/// Since when the statistics are counted. A database that was never reset has none from 15 on; before, NULL means
/// that nothing was counted yet.
const RESETS: &str = "SELECT 'database ' || datname AS what, \
    CASE WHEN current_setting('server_version_num')::int >= 150000 THEN coalesce(stats_reset::text, '') \
      ELSE stats_reset::text END AS since FROM pg_stat_database WHERE datname IS NOT NULL \
    UNION ALL SELECT 'the background writer', stats_reset::text FROM pg_stat_bgwriter LIMIT 1000";

impl Watch {
    /// Remembers an event.
    pub(super) fn happened(&self, at_ms: i64, change: Change) {
        tracing::info!(target = %self.watched.name, kind = change.kind, "{}", change.title);
        self.writing.desk().take(Item::Happened { target: self.writing.target(), at_ms, change });
    }

    pub(super) fn all_happened(&self, at_ms: i64, changes: Vec<Change>) {
        for change in changes {
            self.happened(at_ms, change);
        }
    }

    /// After it was reached again: is it still the same?
    pub(super) fn compare(&mut self, before: &Known, at_ms: i64) {
        let Some(known) = &self.known else { return };
        let mut changes = changes::of_pulse(&before.pulse, &known.pulse);
        changes.extend(changes::of_facts(&before.facts, &known.facts));
        changes.extend(changes::of_extensions(&known.facts.database, &before.extensions, &known.extensions));
        let another = before.facts.system_identifier != known.facts.system_identifier;
        self.all_happened(at_ms, changes);
        if another {
            self.book = crate::statements::Book::default();
            self.resets = BTreeMap::new();
            self.schemas = BTreeMap::new();
        }
        self.shape = None;
        self.forget_gone_databases(at_ms);
    }

    /// What the pulse of a cycle says.
    pub(super) async fn notice(&mut self, pulse: Pulse, at_ms: i64) {
        let Some(known) = &mut self.known else { return };
        let before = std::mem::replace(&mut known.pulse, pulse.clone());
        if known.facts.in_recovery != pulse.in_recovery {
            known.facts = Arc::new(Facts { in_recovery: pulse.in_recovery, ..(*known.facts).clone() });
        }
        let changes = changes::of_pulse(&before, &pulse);
        let look_again = !changes.is_empty();
        self.all_happened(at_ms, changes);
        if look_again {
            self.look_again(at_ms).await;
        }
    }

    /// Vacuums that have ended, by what this cycle said is under way.
    pub(super) fn note_vacuums(&mut self, at_ms: i64) {
        let progress = collectors::progress::COLLECTOR.name;
        let said = self.runs.answers(|key, _| key.0 == progress).find(|answer| answer.at_ms == at_ms).cloned();
        // What was not said in this cycle may go on.
        let Some(said) = said else { return };
        for (at_ms, change) in self.vacuums.see(at_ms, &said.told) {
            self.happened(at_ms, change);
        }
    }

    /// Says why there is nothing about the machine.
    pub(super) fn note_host(&mut self) {
        let Some(known) = &self.known else { return };
        let run = self.runs.own("host", "/proc, statvfs", Tier::Counters, self.settings.counters, None);
        match &known.facts.host {
            _ if !self.settings.host => run.absent(Why::absent("the configuration turns it off")),
            Err(text) => run.absent(Why::absent(text.clone())),
            Ok(_) => run.told_elsewhere(),
        }
    }

    /// Gathers all facts anew.
    pub(super) async fn look_again(&mut self, at_ms: i64) {
        let Some(session) = self.session.take() else { return };
        let gathering = tokio::time::timeout(self.settings.connect_timeout, Facts::gather_without_hba(&session)).await;
        let _asked = session.take_asked();
        match gathering {
            Ok(Ok(facts)) => {
                self.session = Some(session);
                self.new_facts(facts, at_ms);
            }
            Ok(Err(error)) => self.not_gathered(session, &error, at_ms),
            Err(_) => {
                self.lost(Why::error(surus_core::code::CONNECT_CLOSED, "the server said nothing for too long"), at_ms)
            }
        }
    }

    fn new_facts(&mut self, facts: Facts, at_ms: i64) {
        let Some(known) = &mut self.known else { return };
        let before = std::mem::replace(&mut known.facts, Arc::new(facts));
        let changes = changes::of_facts(&before, &known.facts);
        self.all_happened(at_ms, changes);
        self.forget_gone_databases(at_ms);
    }

    fn not_gathered(&mut self, session: Session, error: &FactsError, at_ms: i64) {
        match error {
            FactsError::Ask(ask) if ask.kind == surus_pg::AskErrorKind::Closed => self.lost(ask.into(), at_ms),
            other => {
                self.missing.insert("facts", other.into());
                self.session = Some(session);
            }
        }
    }

    /// Privileges, databases, extensions and resets: cheap enough for every cycle of details.
    pub(super) async fn look_around(&mut self, at_ms: i64) {
        let (Some(session), Some(known)) = (self.session.take(), &self.known) else { return };
        let facts = known.facts.clone();
        let seen = tokio::time::timeout(self.settings.connect_timeout, facts.seen_again(&session)).await;
        let _asked = session.take_asked();
        let seen = match seen {
            Ok(Ok(seen)) => seen,
            Ok(Err(error)) => return self.not_gathered(session, &error, at_ms),
            Err(_) => {
                return self
                    .lost(Why::error(surus_core::code::CONNECT_CLOSED, "the server said nothing for too long"), at_ms);
            }
        };
        let extensions = entering::extensions(&session, self.settings.statement_timeout).await;
        let resets = asking::ask(&session, RESETS, self.settings.statement_timeout).await;
        self.session = Some(session);
        let (role, databases) = seen;
        if role != facts.role {
            self.look_again(at_ms).await;
        } else if databases != facts.databases {
            self.new_facts(Facts { databases, ..(*facts).clone() }, at_ms);
        }
        if let Ok(extensions) = extensions {
            self.extensions_of(&Arc::from(facts.database.as_str()), extensions);
        }
        // A refusal is no news: the privilege is one of the reasons that collectors give.
        if let Ok(rows) = resets {
            self.resets_are(&rows, at_ms);
        }
    }

    fn resets_are(&mut self, rows: &Rows, at_ms: i64) {
        let pair = |row: surus_pg::Row<'_>| Some((row.text("what").ok()?, row.opt_str("since").ok()??.to_owned()));
        let now: BTreeMap<String, String> = rows.iter().filter_map(pair).collect();
        let changes = changes::of_resets(&self.resets, &now);
        self.all_happened(at_ms, changes);
        self.resets = now;
    }

    /// The extensions of a database as they are now.
    pub(super) fn extensions_of(&mut self, database: &Arc<str>, now: Extensions) {
        let at_ms = surus_core::clock::now_ms();
        if let Some(known) = &mut self.known
            && *known.facts.database == **database
            && *known.extensions != now
        {
            known.extensions = Arc::new(now.clone());
            self.shape = None;
        }
        if let Some(before) = self.extensions.get(database)
            && *before != now
        {
            let changes = changes::of_extensions(database, before, &now);
            self.all_happened(at_ms, changes);
        }
        self.extensions.insert(database.clone(), now);
    }

    /// Whatever was known of databases that are not there any more.
    fn forget_gone_databases(&mut self, at_ms: i64) {
        let Some(known) = &self.known else { return };
        let facts = known.facts.clone();
        let here =
            |name: &str| facts.databases.iter().any(|db| db.name == name && db.allows_connections && db.may_connect);
        self.runs.keep_databases(here);
        let gone: Vec<Arc<str>> = self.extensions.keys().filter(|name| !here(name)).cloned().collect();
        for name in gone {
            self.extensions.remove(&name);
            self.schemas.remove(&name);
            self.writing.end(&format!("detail/{name}"), at_ms);
        }
    }
}
