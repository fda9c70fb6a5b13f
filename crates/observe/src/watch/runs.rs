//! What became of every collector at every place where it runs.

use crate::{
    asking::{Failed, Ran},
    breaker::{Breaker, Ended, Rest},
    collector::{Collector, Tier},
    settings::Settings,
    snapshot::{Answer, CollectorNow, State},
    why::Why,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// A collector at one place: a database, or the instance.
pub(super) type Key = (&'static str, Option<Arc<str>>);

/// A collector's runs at one place.
pub(super) struct Run {
    reads: &'static str,
    pub tier: Tier,
    every: Duration,
    breaker: Breaker,
    state: State,
    reason: Option<Why>,
    last_run_ms: Option<i64>,
    pub took: Duration,
    pub rows: usize,
    pub answer: Option<Arc<Answer>>,
}

pub(super) struct Runs {
    settings: [Duration; 3],
    all: BTreeMap<Key, Run>,
}

impl Runs {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { settings: [settings.counters, settings.detail, settings.slow], all: BTreeMap::new() }
    }

    fn every(&self, tier: Tier) -> Duration {
        match tier {
            Tier::Counters => self.settings[0],
            Tier::Detail => self.settings[1],
            Tier::Slow => self.settings[2],
        }
    }

    /// The runs of a collector at a place; they begin with the first call.
    pub(super) fn of(&mut self, collector: &'static Collector, database: Option<&Arc<str>>) -> &mut Run {
        let every = self.every(collector.tier);
        self.own(collector.name, collector.reads, collector.tier, every, database)
    }

    /// As [`Runs::of`], for what the engine itself reads.
    pub(super) fn own(
        &mut self,
        name: &'static str,
        reads: &'static str,
        tier: Tier,
        every: Duration,
        database: Option<&Arc<str>>,
    ) -> &mut Run {
        self.all.entry((name, database.cloned())).or_insert_with(|| Run {
            reads,
            tier,
            every,
            breaker: Breaker::default(),
            state: State::Waiting,
            reason: None,
            last_run_ms: None,
            took: Duration::ZERO,
            rows: 0,
            answer: None,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Run)> {
        self.all.iter()
    }

    /// The answers of a tier, of one database or of the instance and the own database.
    pub(super) fn answers<'a>(
        &'a self,
        keep: impl Fn(&Key, &Run) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Arc<Answer>> {
        self.all.iter().filter(move |(key, run)| keep(key, run)).filter_map(|(_, run)| run.answer.as_ref())
    }

    /// Nothing that was said holds any more, for this reason.
    pub(super) fn forget_answers(&mut self, why: &Why) {
        for run in self.all.values_mut().filter(|run| run.answer.is_some()) {
            (run.state, run.reason, run.answer) = (State::Failing, Some(why.clone()), None);
        }
    }

    /// Databases that are gone.
    pub(super) fn keep_databases(&mut self, keep: impl Fn(&str) -> bool) {
        self.all.retain(|(_, database), _| database.as_deref().is_none_or(&keep));
    }

    /// Every collector for the page.
    pub(super) fn shown(&self) -> Vec<CollectorNow> {
        let shown = |(key, run): (&Key, &Run)| CollectorNow {
            name: key.0,
            reads: run.reads,
            tier: Some(run.tier),
            database: key.1.as_deref().map(str::to_owned),
            state: run.state,
            reason: run.reason.clone(),
            last_run_ms: run.last_run_ms,
            duration_ms: run.took.as_secs_f64() * 1000.0,
            rows: run.rows,
            next_run_ms: run.next_run_ms(),
        };
        self.all.iter().map(shown).collect()
    }
}

impl Run {
    /// May it run in a cycle of this time?
    pub(super) fn allowed(&self, at_ms: i64) -> bool {
        self.breaker.allows(at_ms)
    }

    /// Did the last run succeed?
    pub(super) fn succeeded(&self) -> Option<bool> {
        match self.state {
            State::Waiting | State::Absent => None,
            State::Fine => Some(true),
            State::Failing => Some(false),
            State::Resting => Some(self.answer.is_some()),
        }
    }

    pub(super) fn last_run_ms(&self) -> Option<i64> {
        self.last_run_ms
    }

    fn next_run_ms(&self) -> Option<i64> {
        let next = self.last_run_ms? + i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX);
        Some(next.max(self.breaker.rests_until_ms().unwrap_or(next)))
    }

    /// It is well, and its answer is in another place.
    pub(super) fn told_elsewhere(&mut self) {
        (self.state, self.reason) = (State::Fine, None);
    }

    /// It was not asked, for this reason.
    pub(super) fn absent(&mut self, why: Why) {
        (self.state, self.reason, self.answer) = (State::Absent, Some(why), None);
        self.breaker.reset();
    }

    /// Takes note of a run. The session's end is told to the caller, who knows what to do.
    pub(super) fn note(&mut self, ran: Ran) -> Option<Why> {
        (self.last_run_ms, self.took, self.rows) = (Some(ran.at_ms), ran.took, ran.rows);
        let (ended, closed) = match ran.told {
            Ok(told) => {
                let Ran { collector, database, at_ms, .. } = ran;
                self.answer = Some(Arc::new(Answer { collector, database, at_ms, told }));
                (self.state, self.reason) = (State::Fine, None);
                (Ended::Well, None)
            }
            Err(Failed::Absent(why)) => {
                self.absent(why);
                return None;
            }
            Err(Failed::Refused(why)) => {
                (self.state, self.reason, self.answer) = (State::Failing, Some(why), None);
                (Ended::Badly, None)
            }
            Err(Failed::Closed(why)) => {
                (self.state, self.reason, self.answer) = (State::Failing, Some(why.clone()), None);
                (Ended::Badly, Some(why))
            }
        };
        if let Some(rest) = self.breaker.ran(ended, ran.took, self.every, ran.at_ms) {
            self.state = State::Resting;
            self.reason = Some(self.why_resting(rest));
        }
        closed
    }

    fn why_resting(&self, rest: Rest) -> Why {
        let pause = self.breaker.rests_until_ms().unwrap_or(0) - self.last_run_ms.unwrap_or(0);
        let every = format!("it runs every {} s for now", pause / 1000);
        match (rest, &self.reason) {
            (Rest::Failing(times), Some(why)) => {
                Why { text: format!("{}; failed {times} times in a row, so {every}", why.text), ..why.clone() }
            }
            (_, Some(why)) => Why { text: format!("{}; {every}", why.text), ..why.clone() },
            _ => Why::absent(format!(
                "its last run took {:.0} ms, more than its share of {} s, so {every}",
                self.took.as_secs_f64() * 1000.0,
                self.every.as_secs()
            )),
        }
    }
}
