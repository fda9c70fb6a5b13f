//! Wrong passwords by address: after some, that address waits.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use surus_core::clock::Stopwatch;

/// Wrong passwords of one address within [`WINDOW`].
const ALLOWED: u32 = 10;
/// For how long they count.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; when there are more, all are forgotten but the newest, and everybody waits less.
const MAX_ADDRESSES: usize = 4096;

/// Wrong passwords by address.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<Option<IpAddr>, (Stopwatch, u32)>>);

impl Failures {
    /// One more.
    pub fn note(&self, peer: Option<IpAddr>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_ADDRESSES {
            all.retain(|_, (since, _)| since.elapsed() < WINDOW);
            if all.len() >= MAX_ADDRESSES {
                all.clear();
            }
        }
        let entry = all.entry(peer).or_insert_with(|| (Stopwatch::start(), 0));
        if entry.0.elapsed() >= WINDOW {
            *entry = (Stopwatch::start(), 0);
        }
        entry.1 += 1;
    }

    /// Must this address wait?
    pub fn too_many(&self, peer: Option<IpAddr>) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&peer).is_some_and(|(since, count)| *count >= ALLOWED && since.elapsed() < WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_waits_and_another_does_not() {
        let failures = Failures::default();
        let (bad, good) = (Some(IpAddr::from([10, 0, 0, 1])), Some(IpAddr::from([10, 0, 0, 2])));
        for _ in 0..ALLOWED {
            assert!(!failures.too_many(bad));
            failures.note(bad);
        }
        assert!(failures.too_many(bad) && !failures.too_many(good));
    }
}
