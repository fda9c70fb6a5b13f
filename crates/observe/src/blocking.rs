//! Who kept others waiting for long, from the activity samples. Pure.

use crate::changes::{Change, PerHour};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use surus_store::samples::SessionSample;

/// How long others must have waited for it until that is an event.
const LONG_MS: i64 = 60_000;
/// A blocker that was not seen for so long does not block any more.
const OVER_MS: i64 = 5_000;

/// A session that others wait for, and that waits for none itself.
#[derive(Debug)]
struct Held {
    since_ms: i64,
    seen_ms: i64,
    /// Sessions that waited for it at one time, directly or through others.
    most: usize,
    who: Option<SessionSample>,
    told: bool,
}

/// Blockers that are at it.
#[derive(Debug, Default)]
pub struct Blocking {
    held: BTreeMap<i32, Held>,
    limit: PerHour,
}

impl Blocking {
    /// What the next sample says has happened: that somebody has blocked others for a minute, and that it is over.
    pub fn see(&mut self, at_ms: i64, sessions: &[SessionSample]) -> Vec<(i64, Change)> {
        for (pid, count) in roots(sessions) {
            let who = sessions.iter().find(|session| session.pid == pid);
            let new = Held { since_ms: at_ms, seen_ms: at_ms, most: 0, who: None, told: false };
            let held = self.held.entry(pid).or_insert(new);
            if at_ms - held.seen_ms <= OVER_MS {
                (held.seen_ms, held.most) = (at_ms, held.most.max(count));
                held.who = who.cloned().or(held.who.take());
            }
        }
        let mut told = Vec::new();
        for (pid, held) in &mut self.held {
            let over = at_ms - held.seen_ms > OVER_MS;
            let long = held.seen_ms - held.since_ms >= LONG_MS;
            if (over && held.told) || (long && !held.told) {
                let first = !held.told;
                held.told = true;
                if (!first || self.limit.allows(at_ms))
                    && let Some(change) = held.change(*pid, over)
                {
                    told.push((held.seen_ms, change));
                }
            }
        }
        self.held.retain(|_, held| at_ms - held.seen_ms <= OVER_MS);
        told
    }
}

impl Held {
    fn change(&self, pid: i32, over: bool) -> Option<Change> {
        let who = self.who.as_ref();
        let seconds = (self.seen_ms - self.since_ms) / 1000;
        let name = match (pid, who) {
            (0, _) => "A prepared transaction".to_owned(),
            (_, Some(who)) => {
                let of = [("user", &who.user), ("application", &who.application)];
                let of: Vec<String> =
                    of.iter().filter_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?))).collect();
                if of.is_empty() { format!("Session {pid}") } else { format!("Session {pid} ({})", of.join(", ")) }
            }
            (_, None) => format!("Session {pid}"),
        };
        let others = if self.most == 1 { "1 other".to_owned() } else { format!("{} others", self.most) };
        let title = match over {
            false => format!("{name} has kept {others} waiting for {seconds} s"),
            true => format!("{name} kept up to {others} waiting for {seconds} s; that is over"),
        };
        let detail = json!({
            "pid": pid, "user": who.and_then(|who| who.user.clone()),
            "application": who.and_then(|who| who.application.clone()),
            "database": who.and_then(|who| who.database.clone()),
            "state": who.and_then(|who| who.state.clone()),
            // As text: numbers of JSON are not that long everywhere.
            "query_id": who.and_then(|who| who.query_id).map(|id| id.to_string()),
            "since_ms": self.since_ms, "seconds": seconds, "sessions": self.most, "over": over,
        });
        Some(Change::new("blocking", title, detail))
    }
}

/// Sessions that block others and wait for none, with how many wait for them, directly or through others.
fn roots(sessions: &[SessionSample]) -> BTreeMap<i32, usize> {
    let waits: BTreeMap<i32, &[i32]> = sessions
        .iter()
        .filter(|session| !session.blocked_by.is_empty())
        .map(|session| (session.pid, session.blocked_by.as_slice()))
        .collect();
    let mut roots = BTreeMap::new();
    for blockers in waits.values() {
        let (mut open, mut seen) = (blockers.to_vec(), BTreeSet::new());
        while let Some(pid) = open.pop() {
            if !seen.insert(pid) {
                continue;
            }
            match waits.get(&pid) {
                Some(more) => open.extend_from_slice(more),
                None => *roots.entry(pid).or_default() += 1,
            }
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: i32, blocked_by: &[i32]) -> SessionSample {
        let user = Some(format!("user{pid}"));
        SessionSample { pid, user, blocked_by: blocked_by.to_vec(), ..SessionSample::default() }
    }

    #[test]
    fn the_one_at_the_root_counts_with_all_who_wait() {
        let all = [
            session(1, &[]),
            session(2, &[1]),
            session(3, &[2]),
            session(4, &[2, 9]),
            session(5, &[6]),
            session(6, &[5]),
        ];
        assert_eq!(roots(&all).into_iter().collect::<Vec<_>>(), [(1, 3), (9, 1)]);
    }

    #[test]
    fn it_is_told_after_a_minute_and_when_it_is_over() {
        let mut blocking = Blocking::default();
        let (some, more) = ([session(1, &[]), session(2, &[1])], [session(1, &[]), session(2, &[1]), session(3, &[1])]);
        let mut told = Vec::new();
        for second in 0..75 {
            told.extend(blocking.see(second * 1000, if second == 30 { &more } else { &some }));
        }
        for second in 75..90 {
            told.extend(blocking.see(second * 1000, &[]));
        }
        let titles: Vec<_> = told.iter().map(|(at_ms, change)| (*at_ms, change.title.as_str())).collect();
        let over = "Session 1 (user user1) kept up to 2 others waiting for 74 s; that is over";
        assert_eq!(titles, [(60_000, "Session 1 (user user1) has kept 2 others waiting for 60 s"), (74_000, over)]);
    }

    #[test]
    fn short_waits_are_no_event() {
        let mut blocking = Blocking::default();
        for second in 0..300 {
            // Somebody else each time.
            let pid = second as i32 / 50 + 10;
            assert!(blocking.see(second * 1000, &[session(pid, &[]), session(2, &[pid])]).is_empty());
        }
        // A pause of the samples is not taken for a wait.
        let mut blocking = Blocking::default();
        let some = [session(1, &[]), session(2, &[1])];
        assert!(blocking.see(0, &some).is_empty() && blocking.see(100_000, &some).is_empty());
    }
}
