//! When a tier is due: a grid on the wall clock, moved by a phase of each target's own. Pure.

use std::time::Duration;

/// The moments at which something is due: every `every_ms`, beginning at `phase_ms` after 1970. All targets have
/// different phases, so that a hundred of them do not ask at once.
#[derive(Debug, Clone)]
pub struct Grid {
    every_ms: i64,
    phase_ms: i64,
    /// The last moment that was taken.
    last_ms: i64,
    /// Due off the grid: the first time, or because something changed.
    extra_ms: Option<i64>,
}

/// A moment that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// The scheduled time.
    pub at_ms: i64,
    /// Moments before it that were not served: the cycle before took too long.
    pub skipped: u64,
}

impl Grid {
    /// A grid that is due at once, and then at its own moments.
    pub fn new(every: Duration, name: &str, now_ms: i64) -> Self {
        let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
        let phase_ms = i64::try_from(hash(name) % every_ms.unsigned_abs()).unwrap_or(0);
        let mut grid = Self { every_ms, phase_ms, last_ms: 0, extra_ms: None };
        grid.last_ms = grid.floor(now_ms);
        grid.extra_ms = Some(now_ms);
        grid
    }

    /// Its distance, in milliseconds.
    pub fn every_ms(&self) -> i64 {
        self.every_ms
    }

    /// Makes it due now, off the grid.
    pub fn hasten(&mut self, now_ms: i64) {
        self.extra_ms = Some(now_ms);
    }

    /// The last moment of the grid that is not after `at_ms`.
    pub fn floor(&self, at_ms: i64) -> i64 {
        at_ms - (at_ms - self.phase_ms).rem_euclid(self.every_ms)
    }

    /// The next moment that is not taken yet.
    pub fn next_ms(&self) -> i64 {
        self.extra_ms.unwrap_or(self.last_ms + self.every_ms)
    }

    /// Takes the newest moment that has come, if one has; older ones are skipped.
    pub fn take(&mut self, now_ms: i64) -> Option<Due> {
        let floor = self.floor(now_ms);
        // The clock was set back: begin anew rather than wait until it is there again.
        if floor < self.last_ms {
            self.last_ms = floor;
        }
        if let Some(extra_ms) = self.extra_ms.take() {
            self.last_ms = floor;
            return Some(Due { at_ms: extra_ms.min(now_ms), skipped: 0 });
        }
        let passed = (floor - self.last_ms) / self.every_ms;
        if passed < 1 {
            return None;
        }
        self.last_ms = floor;
        Some(Due { at_ms: floor, skipped: (passed - 1).unsigned_abs() })
    }
}

/// FNV-1a: the same for a name in every process and version, so that a target keeps its phase across restarts.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(now_ms: i64) -> Grid {
        Grid::new(Duration::from_secs(10), "a", now_ms)
    }

    #[test]
    fn due_at_once_and_then_on_the_grid() {
        let now = 1_000_003_000;
        let mut grid = grid(now);
        assert_eq!(grid.take(now), Some(Due { at_ms: now, skipped: 0 }));
        assert_eq!(grid.take(now), None);
        let next = grid.next_ms();
        assert!(next > now && next <= now + 10_000);
        assert_eq!(grid.take(next - 1), None);
        assert_eq!(grid.take(next + 5), Some(Due { at_ms: next, skipped: 0 }));
        assert_eq!(grid.next_ms(), next + 10_000);
    }

    #[test]
    fn what_is_late_is_skipped_and_counted_and_not_queued() {
        let mut grid = grid(0);
        grid.take(0);
        let next = grid.next_ms();
        assert_eq!(grid.take(next + 35_000), Some(Due { at_ms: next + 30_000, skipped: 3 }));
        assert_eq!(grid.take(next + 35_000), None);
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_it() {
        let mut grid = grid(100_000_000);
        grid.take(100_000_000);
        assert_eq!(grid.take(50_000_000), None);
        assert!(grid.next_ms() <= 50_010_000);
    }

    #[test]
    fn names_spread() {
        let phases: std::collections::BTreeSet<i64> =
            (0..100).map(|n| Grid::new(Duration::from_secs(10), &format!("target{n}"), 0).phase_ms / 1000).collect();
        assert_eq!(phases.len(), 10, "100 targets fall into every second of the ten");
    }
}
