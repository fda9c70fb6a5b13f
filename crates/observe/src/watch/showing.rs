//! What a target shows to those who ask, and what it hands over to the store.

use super::{
    Watch,
    runs::{Key, Run},
};
use crate::{
    collector::Tier,
    own,
    snapshot::{Answer, TargetNow},
    writing,
};
use std::sync::Arc;

impl Watch {
    pub(super) fn write_counters(&mut self, at_ms: i64) {
        let answers = self.runs.answers(|_, run| run.tier == Tier::Counters);
        self.writing.group("counters", at_ms, self.grids.counters.every_ms(), answers);
    }

    /// Of the instance and the own database.
    pub(super) fn write_detail(&mut self, at_ms: i64) {
        let Some(known) = &self.known else { return };
        let own = known.facts.database.as_str();
        let answers = self.runs.answers(move |key, run| {
            run.tier == Tier::Detail && key.1.as_deref().is_none_or(|database| database == own)
        });
        self.writing.group("detail", at_ms, self.grids.detail.every_ms(), answers);
    }

    pub(super) fn write_detail_of(&mut self, database: &Arc<str>, at_ms: i64) {
        let Some(known) = &self.known else { return };
        if *known.facts.database == **database {
            return;
        }
        let answers =
            self.runs.answers(|key: &Key, run: &Run| run.tier != Tier::Slow && key.1.as_ref() == Some(database));
        self.writing.group(&format!("detail/{database}"), at_ms, self.grids.detail.every_ms(), answers);
    }

    /// What is read seldom is written as often as the look-back of a query needs it.
    pub(super) fn write_slow(&mut self, at_ms: i64) {
        let answers = self.runs.answers(|_, run| run.tier == Tier::Slow);
        self.writing.group("slow", at_ms, self.grids.repeat.every_ms(), answers);
    }

    /// After a trip: what is new need not wait for its next turn.
    pub(super) fn write_slow_once(&mut self) {
        self.grids.repeat.hasten(surus_core::clock::now_ms());
    }

    /// `up`, `pg_up` and what surus itself costs.
    pub(super) fn write_own(&mut self, at_ms: i64) {
        let connections = self.connections();
        self.cycles += 1;
        let mut told = own::of_target(
            self.standing.up,
            connections,
            self.skipped,
            self.cycles,
            self.runs.iter().map(|(key, run)| own::Cost {
                collector: key.0,
                database: key.1.as_deref(),
                took: run.took,
                rows: run.rows,
                succeeded: run.succeeded(),
                last_run_ms: run.last_run_ms(),
            }),
            self.beside.checked().as_ref(),
            &self.beside.protected(),
        );
        told.extend(own::proof::tell(&self.beside.proofs()));
        let answer = Arc::new(Answer { collector: "target", database: None, at_ms, told });
        self.writing.group(writing::TARGET, at_ms, self.grids.counters.every_ms(), std::iter::once(&answer));
        self.own = Some(answer);
    }

    /// Sessions with the server now.
    fn connections(&self) -> u8 {
        u8::from(self.session.is_some()) + u8::from(self.trip.is_some() || self.beside.second.is_taken())
    }

    pub(super) fn show(&mut self) {
        let facts = self.known.as_ref().map(|known| &known.facts);
        let answers = self.own.iter().chain(self.runs.answers(|_, _| true)).cloned().collect();
        self.shown.set(TargetNow {
            name: self.watched.name.clone(),
            cluster: self.watched.cluster.clone(),
            server: self.known.as_ref().map(|known| known.server.clone()).unwrap_or_default(),
            up: self.standing.up,
            since_ms: self.standing.since_ms,
            trouble: self.standing.trouble.clone(),
            version: facts.map(|facts| facts.version),
            role: facts.map(|facts| facts.replication_role()),
            system_identifier: facts.and_then(|facts| facts.system_identifier.clone()),
            places: self.known.as_ref().and_then(|known| known.places.clone()),
            connections: self.connections(),
            skipped: self.skipped,
            answers,
            collectors: self.runs.shown(),
            missing: self.missing.values().cloned().collect(),
        });
    }
}
