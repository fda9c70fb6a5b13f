//! When a collector rests: after repeated failures, or when it costs the server too much. Pure.

use std::time::Duration;

/// Failures in a row before it rests.
const FAILURES: u32 = 3;
/// Runs in a row that cost too much before it rests.
const DEAR: u32 = 2;
/// The most that a collector may take of its interval. With two sessions at most, and most collectors at a few
/// thousandths of it, surus stays near 1 % of a core.
const SHARE: f64 = 0.05;
/// It rests for at most this many of its intervals, or for [`LONGEST`] where that is more.
const MOST_INTERVALS: u32 = 32;
/// A rest of at most this long is always allowed.
const LONGEST: Duration = Duration::from_secs(300);

/// How a run ended, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Well,
    Badly,
}

/// One collector at one place.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    failures: u32,
    dear: u32,
    /// Doublings of the interval because of failures, and because of cost.
    failing_level: u32,
    cost_level: u32,
    rests_until_ms: Option<i64>,
    /// The last run.
    ran_ms: i64,
}

/// Why it rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It failed this many times in a row.
    Failing(u32),
    /// It takes more of its interval than it may.
    TooDear,
}

impl Breaker {
    /// May it run now? A clock that was set back does not prolong its rest.
    pub fn allows(&self, at_ms: i64) -> bool {
        self.rests_until_ms.is_none_or(|until| until <= at_ms || at_ms < self.ran_ms)
    }

    /// Until when it rests, if it does.
    pub fn rests_until_ms(&self) -> Option<i64> {
        self.rests_until_ms
    }

    /// Takes note of a run. Returns why it rests from now on, if it does.
    pub fn ran(&mut self, ended: Ended, took: Duration, every: Duration, at_ms: i64) -> Option<Rest> {
        self.ran_ms = at_ms;
        let share = took.as_secs_f64() / every.as_secs_f64().max(0.001);
        // A failure has its own pauses; how long it waited for a lock or a limit says nothing about its cost.
        self.dear = if share > SHARE && ended == Ended::Well { self.dear + 1 } else { 0 };
        match ended {
            Ended::Badly => self.failures += 1,
            Ended::Well => (self.failures, self.failing_level) = (0, 0),
        }
        if self.failures >= FAILURES {
            self.failing_level = (self.failing_level + 1).min(16);
        }
        if self.dear >= DEAR {
            self.cost_level = (self.cost_level + 1).min(16);
        } else if share < SHARE / 2.0 {
            self.cost_level = self.cost_level.saturating_sub(1);
        }
        let rest = match (self.failing_level, self.cost_level) {
            (0, 0) => None,
            (failing, cost) if failing >= cost => Some(Rest::Failing(self.failures)),
            _ => Some(Rest::TooDear),
        };
        self.rests_until_ms = rest.map(|_| at_ms + self.pause_ms(every));
        rest
    }

    /// Twice the interval at the first level, then doubling.
    fn pause_ms(&self, every: Duration) -> i64 {
        let level = self.failing_level.max(self.cost_level);
        let most = (every * MOST_INTERVALS).min(LONGEST.max(every));
        let pause = every.saturating_mul(1_u32 << level.min(16)).min(most);
        i64::try_from(pause.as_millis()).unwrap_or(i64::MAX)
    }

    /// Forgets everything: the server is another one now.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(10);
    const FAST: Duration = Duration::from_millis(5);

    #[test]
    fn the_third_failure_makes_it_rest_twice_as_long_each_time_up_to_a_bound() {
        let mut breaker = Breaker::default();
        let mut at = 0;
        assert_eq!(breaker.ran(Ended::Badly, FAST, EVERY, at), None);
        assert_eq!(breaker.ran(Ended::Badly, FAST, EVERY, at), None);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            assert!(matches!(breaker.ran(Ended::Badly, FAST, EVERY, at), Some(Rest::Failing(_))));
            let until = breaker.rests_until_ms().unwrap();
            assert!(!breaker.allows(until - 1) && breaker.allows(until));
            pauses.push((until - at) / 1000);
            at = until;
        }
        assert_eq!(pauses, [20, 40, 80, 160, 300, 300, 300, 300]);
        breaker.ran(Ended::Badly, FAST, EVERY, at);
        assert!(!breaker.allows(at) && breaker.allows(at - 1000), "the clock was set back");
        assert_eq!(breaker.ran(Ended::Well, FAST, EVERY, at), None);
        assert!(breaker.allows(at));
    }

    #[test]
    fn what_costs_too_much_runs_less_often_until_it_is_cheap_again() {
        let mut breaker = Breaker::default();
        let slow = Duration::from_secs(2);
        assert_eq!(breaker.ran(Ended::Well, slow, EVERY, 0), None);
        assert_eq!(breaker.ran(Ended::Well, slow, EVERY, 0), Some(Rest::TooDear));
        assert_eq!(breaker.rests_until_ms(), Some(20_000));
        assert_eq!(breaker.ran(Ended::Well, slow, EVERY, 20_000), Some(Rest::TooDear));
        assert_eq!(breaker.rests_until_ms(), Some(60_000));
        assert_eq!(breaker.ran(Ended::Well, FAST, EVERY, 60_000), Some(Rest::TooDear));
        assert_eq!(breaker.ran(Ended::Well, FAST, EVERY, 80_000), None);
    }

    #[test]
    fn a_slow_tier_never_waits_longer_than_its_own_interval() {
        let mut breaker = Breaker::default();
        let every = Duration::from_secs(600);
        for _ in 0..5 {
            breaker.ran(Ended::Badly, FAST, every, 0);
        }
        assert_eq!(breaker.rests_until_ms(), Some(600_000));
    }
}
