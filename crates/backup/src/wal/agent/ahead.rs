//! Work on named things, some of which nobody has asked for yet: what waits, what is being done, what is done.

use super::words::Trouble;
use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

#[derive(Debug, Clone)]
enum Step<T> {
    Waiting,
    Working,
    Settled(Result<T, Trouble>),
}

/// What became of something that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waited<T> {
    Settled(Result<T, Trouble>),
    /// It takes longer than was waited.
    NotYet,
    /// Nobody works on it; somebody else took the result, or it was dropped.
    Unknown,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<String>,
    steps: HashMap<String, Step<T>>,
}

/// The work and its results, shared by those who ask and those who work.
#[derive(Debug)]
pub struct Ahead<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

impl<T> Default for Ahead<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { queue: VecDeque::new(), steps: HashMap::new() }), changed: Condvar::new() }
    }
}

impl<T: Clone> Ahead<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is wanted before everything else. What failed before is tried again.
    pub fn now(&self, name: &str) {
        let mut state = self.state();
        match state.steps.get(name) {
            Some(Step::Working | Step::Settled(Ok(_))) => return,
            Some(Step::Waiting) => state.queue.retain(|other| other != name),
            Some(Step::Settled(Err(_))) | None => {}
        }
        state.steps.insert(name.to_owned(), Step::Waiting);
        state.queue.push_front(name.to_owned());
        self.changed.notify_all();
    }

    /// They will be wanted, in this order. What is known already, or failed, is left alone.
    pub fn later(&self, names: impl IntoIterator<Item = String>) {
        let mut state = self.state();
        for name in names {
            if !state.steps.contains_key(&name) {
                state.steps.insert(name.clone(), Step::Waiting);
                state.queue.push_back(name);
            }
        }
        self.changed.notify_all();
    }

    /// The next thing to do; waits until there is one. The flag says whether it is the only one at the moment.
    pub fn take(&self) -> (String, bool) {
        let mut state = self.state();
        loop {
            if let Some(name) = state.queue.pop_front() {
                let alone = state.queue.is_empty() && !state.steps.values().any(|step| matches!(step, Step::Working));
                state.steps.insert(name.clone(), Step::Working);
                return (name, alone);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// It was done, or could not be.
    pub fn settle(&self, name: &str, result: Result<T, Trouble>) {
        self.state().steps.insert(name.to_owned(), Step::Settled(result));
        self.changed.notify_all();
    }

    /// Waits for its end, and takes the result out.
    pub fn wait(&self, name: &str, within: Duration) -> Waited<T> {
        let settled = |state: &mut State<T>| !matches!(state.steps.get(name), Some(Step::Settled(_)) | None);
        let waited = self.changed.wait_timeout_while(self.state(), within, settled);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.steps.get(name) {
            Some(Step::Settled(_)) => match state.steps.remove(name) {
                Some(Step::Settled(result)) => Waited::Settled(result),
                _ => Waited::Unknown,
            },
            Some(_) => Waited::NotYet,
            None => Waited::Unknown,
        }
    }

    /// Forgets what is not wanted any more, unless it is being done; gives the results that are dropped.
    pub fn keep(&self, wanted: impl Fn(&str) -> bool) -> Vec<T> {
        let mut state = self.state();
        state.queue.retain(|name| wanted(name));
        let gone = state.steps.extract_if(|name, step| !wanted(name) && !matches!(step, Step::Working));
        gone.filter_map(|(_, step)| match step {
            Step::Settled(Ok(result)) => Some(result),
            _ => None,
        })
        .collect()
    }

    /// What failed may be tried again.
    pub fn forget_failures(&self) {
        self.state().steps.retain(|_, step| !matches!(step, Step::Settled(Err(_))));
    }

    /// Does not begin what nobody has asked for yet.
    pub fn stop_ahead(&self) {
        let mut state = self.state();
        for name in std::mem::take(&mut state.queue) {
            state.steps.remove(&name);
        }
        self.changed.notify_all();
    }

    /// Is nothing waiting or being done?
    pub fn idle(&self) -> bool {
        !self.state().steps.values().any(|step| matches!(step, Step::Waiting | Step::Working))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::code;

    fn trouble() -> Trouble {
        Trouble { code: code::REPO_UNREACHABLE, text: "no".into() }
    }

    #[test]
    fn what_is_wanted_now_comes_first_and_a_result_is_given_once() {
        let ahead = Ahead::default();
        ahead.later(["b".to_owned(), "c".to_owned()]);
        ahead.now("c");
        ahead.now("a");
        assert_eq!(ahead.take(), ("a".into(), false));
        assert_eq!(ahead.take().0, "c");
        assert_eq!(ahead.wait("c", Duration::ZERO), Waited::NotYet);
        ahead.settle("c", Ok(3));
        ahead.later(["c".to_owned()]);
        assert_eq!(ahead.wait("c", Duration::ZERO), Waited::Settled(Ok(3)));
        assert_eq!(ahead.wait("c", Duration::ZERO), Waited::Unknown);
        assert!(!ahead.idle());
    }

    #[test]
    fn a_failure_is_tried_again_only_when_it_is_wanted_now() {
        let ahead = Ahead::default();
        ahead.now("a");
        assert_eq!(ahead.take(), ("a".into(), true));
        ahead.settle("a", Err(trouble()));
        ahead.later(["a".to_owned()]);
        assert!(ahead.idle());
        ahead.now("a");
        assert_eq!(ahead.take().0, "a");
        ahead.settle("a", Ok(1));
        assert_eq!(ahead.wait("a", Duration::ZERO), Waited::Settled(Ok(1)));
    }

    #[test]
    fn what_is_not_wanted_is_dropped_unless_it_is_being_done() {
        let ahead = Ahead::default();
        ahead.later(["a", "b", "c"].map(str::to_owned));
        assert_eq!(ahead.take().0, "a");
        ahead.settle("a", Ok(1));
        assert_eq!(ahead.take().0, "b");
        assert_eq!(ahead.keep(|_| false), [1]);
        assert_eq!(ahead.wait("c", Duration::ZERO), Waited::Unknown);
        ahead.settle("b", Ok(2));
        assert_eq!(ahead.keep(|_| false), [2]);
        assert!(ahead.idle());
    }
}
