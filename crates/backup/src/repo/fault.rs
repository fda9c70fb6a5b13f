//! A place that fails when it is told to. For tests: whatever a disk or a bucket can do to us happens here on purpose
//! and can be repeated. The program itself never makes one.

use super::{
    place::{Created, Entry, Place, PlaceError, Trouble},
    record::Verb,
};
use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The place refuses; nothing happens.
    Before(Trouble),
    /// It happens, and the answer is lost.
    After(Trouble),
    /// A read gives only this many bytes and does not say so. Other verbs are not touched.
    Short(usize),
    /// It happens, later.
    Slow(Duration),
}

/// When something goes wrong.
#[derive(Debug)]
enum Plan {
    /// The n-th time (from 0) that this verb is asked for an object whose name has this in it.
    Script(Vec<Step>),
    /// With this probability for each question, in thousandths; the same seed gives the same faults for the same
    /// questions.
    Random { state: u64, per_mille: u64 },
}

/// One line of a script.
#[derive(Debug, Clone)]
pub struct Step {
    pub verb: Verb,
    /// A part of the object's name; empty for any.
    pub name: String,
    /// How often it goes well before.
    pub spared: u64,
    /// How often it goes wrong then.
    pub times: u64,
    pub fault: Fault,
}

impl Step {
    /// The first question of the kind fails, once.
    pub fn once(verb: Verb, name: &str, fault: Fault) -> Self {
        Self { verb, name: name.to_owned(), spared: 0, times: 1, fault }
    }

    /// All questions of the kind fail.
    pub fn always(verb: Verb, name: &str, fault: Fault) -> Self {
        Self { times: u64::MAX, ..Self::once(verb, name, fault) }
    }
}

/// Wraps a place.
#[derive(Debug)]
pub struct FaultPlace {
    inner: Arc<dyn Place>,
    plan: Mutex<Plan>,
    asked: AtomicU64,
    injected: AtomicU64,
}

impl FaultPlace {
    /// Fails as the script says.
    pub fn scripted(inner: Arc<dyn Place>, script: Vec<Step>) -> Self {
        Self::with(inner, Plan::Script(script))
    }

    /// Fails now and then: lost requests, lost answers, no room. Reads are never falsified.
    pub fn random(inner: Arc<dyn Place>, seed: u64, per_mille: u64) -> Self {
        Self::with(inner, Plan::Random { state: seed | 1, per_mille })
    }

    fn with(inner: Arc<dyn Place>, plan: Plan) -> Self {
        Self { inner, plan: Mutex::new(plan), asked: AtomicU64::new(0), injected: AtomicU64::new(0) }
    }

    /// From now on by this script.
    pub fn follow(&self, script: Vec<Step>) {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Plan::Script(script);
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Faults so far.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    fn fault(&self, verb: Verb, name: &str) -> Option<Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let fault = self.plan.lock().unwrap_or_else(PoisonError::into_inner).fault(verb, name);
        self.injected.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        fault
    }

    fn ask<T>(
        &self,
        verb: Verb,
        doing: &'static str,
        name: &str,
        work: impl FnOnce() -> Result<T, PlaceError>,
    ) -> Result<(T, Option<usize>), PlaceError> {
        let lost = |trouble| PlaceError {
            trouble,
            doing,
            name: name.to_owned(),
            place: self.address(),
            problem: format!("injected {trouble:?}"),
        };
        match self.fault(verb, name) {
            None => work().map(|done| (done, None)),
            Some(Fault::Before(trouble)) => Err(lost(trouble)),
            Some(Fault::After(trouble)) => work().and_then(|_| Err(lost(trouble))),
            Some(Fault::Short(bytes)) => work().map(|done| (done, Some(bytes))),
            Some(Fault::Slow(time)) => {
                thread::sleep(time);
                work().map(|done| (done, None))
            }
        }
    }
}

impl Plan {
    fn fault(&mut self, verb: Verb, name: &str) -> Option<Fault> {
        match self {
            Self::Script(steps) => {
                let step =
                    steps.iter_mut().find(|step| step.verb == verb && step.times > 0 && name.contains(&step.name))?;
                if step.spared > 0 {
                    step.spared -= 1;
                    return None;
                }
                step.times = step.times.saturating_sub(u64::from(step.times != u64::MAX));
                Some(step.fault)
            }
            Self::Random { state, per_mille } => {
                let hit = next(state) % 1000 < *per_mille;
                let kinds = [
                    Fault::Before(Trouble::Unreachable),
                    Fault::After(Trouble::Unreachable),
                    Fault::Before(Trouble::NoRoom),
                    Fault::Before(Trouble::Broken),
                ];
                let reads = matches!(verb, Verb::Read | Verb::ReadRange | Verb::List);
                let kind = kinds[(next(state) % if reads { 2 } else { 4 }) as usize];
                hit.then_some(kind)
            }
        }
    }
}

/// Marsaglia's xorshift: not for secrets.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}

fn shortened(body: Option<Vec<u8>>, bytes: Option<usize>) -> Option<Vec<u8>> {
    body.map(|mut body| {
        body.truncate(bytes.unwrap_or(usize::MAX));
        body
    })
}

impl Place for FaultPlace {
    fn create(&self, name: &str, body: &[u8]) -> Result<Created, PlaceError> {
        self.ask(Verb::Create, "create", name, || self.inner.create(name, body)).map(|done| done.0)
    }

    fn replace(&self, name: &str, body: &[u8]) -> Result<(), PlaceError> {
        self.ask(Verb::Replace, "write", name, || self.inner.replace(name, body)).map(|done| done.0)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let (body, bytes) = self.ask(Verb::Read, "read", name, || self.inner.read(name))?;
        Ok(shortened(body, bytes))
    }

    fn read_range(&self, name: &str, range: Range<u64>) -> Result<Option<Vec<u8>>, PlaceError> {
        let (body, bytes) = self.ask(Verb::ReadRange, "read", name, || self.inner.read_range(name, range))?;
        Ok(shortened(body, bytes))
    }

    fn list(&self, folder: &str) -> Result<Vec<Entry>, PlaceError> {
        self.ask(Verb::List, "list", folder, || self.inner.list(folder)).map(|done| done.0)
    }

    fn delete(&self, names: &[String]) -> Result<(), PlaceError> {
        let first = names.first().map_or("", String::as_str);
        self.ask(Verb::Delete, "delete", first, || self.inner.delete(names)).map(|done| done.0)
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn local_folder(&self) -> Option<&std::path::Path> {
        self.inner.local_folder()
    }
}
