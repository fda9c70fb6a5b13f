//! Work that gives way: no faster than a rate while somebody else uses the machine, and as fast as it can else.
//!
//! A low priority protects others from much, not from all: whoever waits for the disk waits for what is written there
//! by anybody, and a processor is left only at the end of a turn.

use rustix::param::clock_ticks_per_second;
use std::{
    fs,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};
use surus_core::clock::Stopwatch;

/// How often it is looked at whether others use the machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// From this share of one processor on they do.
const IN_USE: f64 = 0.10;
/// So far work may be ahead of its rate: a small cluster is through before anybody notices.
const AHEAD: Duration = Duration::from_secs(1);
/// Sleeps are not shorter.
const SLACK: Duration = Duration::from_millis(5);
/// The longest single sleep: others may leave meanwhile.
const NAP: Duration = Duration::from_millis(250);

/// A rate for all threads of one piece of work. They are expected to be niced: what is not counts as others' work.
#[derive(Debug)]
pub struct Pace<'a> {
    /// Bytes a second; none: as fast as it can.
    rate: Option<u64>,
    over: &'a AtomicBool,
    begun: Stopwatch,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When what was spent so far would be paid for, from the beginning.
    due: Duration,
    looked: Stopwatch,
    ticks: Option<u64>,
    others: bool,
    sleepers: u32,
    asleep_since: Duration,
    held: Duration,
}

impl<'a> Pace<'a> {
    /// So many bytes a second at most; none: as fast as it can. Nobody waits any more once `over` is set.
    pub fn new(rate: Option<u64>, over: &'a AtomicBool) -> Self {
        let state = State {
            due: Duration::ZERO,
            looked: Stopwatch::start(),
            ticks: others_ticks(),
            // Until it is known.
            others: true,
            sleepers: 0,
            asleep_since: Duration::ZERO,
            held: Duration::ZERO,
        };
        Self { rate, over, begun: Stopwatch::start(), state: Mutex::new(state) }
    }

    /// So many bytes were read or written: waits until the next may be.
    pub fn spend(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        {
            let mut state = self.lock();
            state.due =
                state.due.max(self.begun.elapsed()) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        }
        while let Some(nap) = self.nap() {
            thread::sleep(nap);
            let mut state = self.lock();
            state.sleepers -= 1;
            if state.sleepers == 0 {
                let slept = self.begun.elapsed() - state.asleep_since;
                state.held += slept;
            }
        }
    }

    /// How long to sleep now; none: no longer.
    fn nap(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.look();
        let now = self.begun.elapsed();
        if !state.others || self.over.load(Ordering::Relaxed) {
            state.due = now;
        }
        let ahead = state.due.saturating_sub(now + AHEAD);
        if ahead <= SLACK {
            return None;
        }
        if state.sleepers == 0 {
            state.asleep_since = now;
        }
        state.sleepers += 1;
        Some(ahead.min(NAP))
    }

    /// How long work was held back so far: the time in which at least one thread waited.
    pub fn held(&self) -> Duration {
        self.lock().held
    }

    /// The rate in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        self.rate
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self) {
        let passed = self.looked.elapsed();
        if passed < LOOK_EVERY {
            return;
        }
        let now = others_ticks();
        self.others = in_use(self.ticks, now, clock_ticks_per_second(), passed);
        (self.ticks, self.looked) = (now, Stopwatch::start());
    }
}

/// Whether the machine was in use: where that cannot be seen, it was.
fn in_use(before: Option<u64>, now: Option<u64>, ticks_a_second: u64, passed: Duration) -> bool {
    let (Some(before), Some(now)) = (before, now) else { return true };
    let seconds = now.saturating_sub(before) as f64 / ticks_a_second.max(1) as f64;
    seconds >= IN_USE * passed.as_secs_f64()
}

/// What all processors together have spent in processes that are not niced. Source: proc(5), `/proc/stat`, the first
/// number; niced processes are in the second.
fn others_ticks() -> Option<u64> {
    user_ticks(&fs::read_to_string("/proc/stat").ok()?)
}

fn user_ticks(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("cpu "))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn niced_work_is_nobodys_use() {
        assert_eq!(user_ticks("cpu  1200 77 300 4000 5 0 1 0 0 0\ncpu0 600 0 0 0\n"), Some(1200));
        assert_eq!(user_ticks("nothing"), None);
        let second = Duration::from_secs(1);
        assert!(!in_use(Some(1200), Some(1209), 100, second));
        assert!(in_use(Some(1200), Some(1210), 100, second));
        assert!(!in_use(Some(1200), Some(1215), 100, 2 * second));
        assert!(in_use(None, Some(1200), 100, second));
    }

    #[test]
    fn it_holds_back_as_long_as_somebody_works_and_none_waits_when_it_is_over() {
        let over = AtomicBool::new(false);
        let pace = Pace::new(Some(10 << 20), &over);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0u64;
                while !done.load(Ordering::Relaxed) {
                    number = std::hint::black_box(number.wrapping_mul(31).wrapping_add(7));
                }
            });
            let watch = Stopwatch::start();
            for _ in 0..15 {
                pace.spend(2 << 20);
            }
            let took = watch.elapsed();
            done.store(true, Ordering::Relaxed);
            assert!(took >= Duration::from_millis(1900), "{took:?}");
            assert!(pace.held() >= Duration::from_millis(1500) && pace.held() <= took, "{:?}", pace.held());
        });
        over.store(true, Ordering::Relaxed);
        let watch = Stopwatch::start();
        pace.spend(1 << 40);
        Pace::new(None, &AtomicBool::new(false)).spend(1 << 40);
        assert!(watch.elapsed() < Duration::from_secs(5));
    }
}
