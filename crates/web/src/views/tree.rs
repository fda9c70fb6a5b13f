//! Who holds up whom: the sessions of one look, as a forest whose roots wait for nobody. Pure.

use std::collections::{BTreeMap, BTreeSet};
use surus_store::samples::SessionSample;

/// How deep a chain is followed; a deadlock is a circle.
const DEEPEST: usize = 50;

/// A session in the forest.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub pid: i32,
    /// None for one that was not seen itself: idle, or another user's.
    pub session: Option<SessionSample>,
    /// Those that wait for it, and for nobody nearer to the root.
    pub waiting: Vec<Node>,
}

impl Node {
    /// How many wait for it, directly or not.
    pub fn held_up(&self) -> usize {
        self.waiting.iter().map(|node| 1 + node.held_up()).sum()
    }
}

/// The forest of those that block or are blocked, the root that holds up most first. Each session is in it once: below
/// the first of its blockers.
pub fn forest(sessions: &[SessionSample]) -> Vec<Node> {
    let by_pid: BTreeMap<i32, &SessionSample> = sessions.iter().map(|session| (session.pid, session)).collect();
    let mut below: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for session in sessions {
        // Prepared transactions have no process; PostgreSQL says 0 for them.
        if let Some(first) = session.blocked_by.first() {
            below.entry(*first).or_default().push(session.pid);
        }
    }
    let waits = |pid: &i32| by_pid.get(pid).is_some_and(|session| !session.blocked_by.is_empty());
    let mut placed = BTreeSet::new();
    let mut roots: Vec<Node> =
        below.keys().filter(|pid| !waits(pid)).map(|pid| node(*pid, &by_pid, &below, &mut placed, 0)).collect();
    // What is left waits in a circle: a deadlock that the server has not broken yet.
    for pid in below.keys() {
        if !placed.contains(pid) {
            roots.push(node(*pid, &by_pid, &below, &mut placed, 0));
        }
    }
    roots.sort_by_key(|root| (std::cmp::Reverse(root.held_up()), root.pid));
    roots
}

fn node(
    pid: i32,
    by_pid: &BTreeMap<i32, &SessionSample>,
    below: &BTreeMap<i32, Vec<i32>>,
    placed: &mut BTreeSet<i32>,
    depth: usize,
) -> Node {
    placed.insert(pid);
    let mut waiting = Vec::new();
    if depth < DEEPEST {
        for next in below.get(&pid).into_iter().flatten() {
            if !placed.contains(next) {
                waiting.push(node(*next, by_pid, below, placed, depth + 1));
            }
        }
    }
    Node { pid, session: by_pid.get(&pid).map(|session| (*session).clone()), waiting }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(pid: i32, blocked_by: &[i32]) -> SessionSample {
        SessionSample { pid, blocked_by: blocked_by.to_vec(), ..SessionSample::default() }
    }

    fn shape(nodes: &[Node]) -> String {
        let one = |node: &Node| match node.waiting.as_slice() {
            [] => node.pid.to_string(),
            waiting => format!("{}({})", node.pid, shape(waiting)),
        };
        nodes.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_root_is_who_waits_for_nobody() {
        // 1 is not seen itself, 2 waits for it, 3 and 4 for 2, 6 for 5; 9 is by itself.
        let all = [
            session(2, &[1]),
            session(3, &[2]),
            session(4, &[2, 1]),
            session(5, &[]),
            session(6, &[5]),
            session(9, &[]),
        ];
        let forest = forest(&all);
        assert_eq!(shape(&forest), "1(2(3 4)) 5(6)");
        assert_eq!((forest[0].held_up(), forest[0].session.is_none(), forest[1].session.is_some()), (3, true, true));
    }

    #[test]
    fn a_circle_is_shown_too() {
        assert_eq!(shape(&forest(&[session(1, &[2]), session(2, &[1])])), "1(2)");
        assert_eq!(shape(&forest(&[session(1, &[1])])), "1");
        assert!(forest(&[]).is_empty());
    }
}
