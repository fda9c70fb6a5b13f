//! The 14 production items and the score over them. Configured is not proven.

use serde::Serialize;

/// How far an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A fresh proof exists.
    Proven,
    /// The settings say so; nothing has shown it.
    Configured,
    /// It is not there.
    Missing,
    /// surus could not look.
    Unknown,
}

impl State {
    /// What an item in this state contributes: proven 1, configured one half, else 0.
    pub fn share(self) -> f64 {
        match self {
            State::Proven => 1.0,
            State::Configured => 0.5,
            State::Missing | State::Unknown => 0.0,
        }
    }

    /// The word used in reports and JSON.
    pub fn word(self) -> &'static str {
        match self {
            State::Proven => "proven",
            State::Configured => "configured",
            State::Missing => "missing",
            State::Unknown => "unknown",
        }
    }
}

/// One of the 14 items as defined, before anybody looked.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// 1 to 14, in the order of the production checklist.
    pub id: u8,
    pub title: &'static str,
    /// Its share of the score, weighted towards data loss.
    pub weight: u8,
    /// What proves it.
    pub proven_by: &'static str,
    /// How long a proof counts, in days.
    pub life_days: u16,
}

/// The production checklist.
pub const ITEMS: [Item; 14] = [
    item(
        1,
        "strong passwords on all accounts",
        2,
        7,
        "every login role with a password rule has a SCRAM verifier and no common password verifies against it",
    ),
    item(2, "TLS enabled", 2, 7, "a TLS connection was made with verify-full and a plaintext one was refused"),
    item(3, "network access restricted", 2, 7, "connection attempts from outside the allowed ranges were refused"),
    item(
        4,
        "automated backups running",
        4,
        1,
        "a complete backup younger than its schedule, and every WAL segment since",
    ),
    item(
        5,
        "restores tested",
        4,
        7,
        "a drill restored, recovered, verified pages and invariants, and measured RPO and RTO",
    ),
    item(6, "monitoring and alerting", 3, 30, "a test alert went from rule to receiver and was acknowledged"),
    item(7, "connection pooling", 1, 30, "clients beyond the server's limit were served through the pooler"),
    item(8, "replication", 3, 1, "a marker row written on the primary was read on each standby"),
    item(9, "autovacuum", 2, 1, "it ran where it was due, and nothing held the horizon back"),
    item(10, "pg_stat_statements", 1, 1, "two snapshots gave deltas"),
    item(11, "runbooks", 1, 90, "each runbook's commands were run in a drill"),
    item(12, "staging environment", 1, 30, "a clone was restored and answered the rehearsal queries"),
    item(13, "upgrade procedure tested", 2, 180, "an upgrade was rehearsed on a clone and its downtime measured"),
    item(14, "disaster recovery", 3, 90, "a failover or a restore from the off-site repository was drilled"),
];

const fn item(id: u8, title: &'static str, weight: u8, life_days: u16, proven_by: &'static str) -> Item {
    Item { id, title, weight, proven_by, life_days }
}

/// An item after looking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ItemState {
    pub id: u8,
    pub title: &'static str,
    pub state: State,
    /// Why it is in this state, and what would move it.
    pub why: String,
    /// Ledger numbers of the proofs that count.
    pub proofs: Vec<i64>,
}

/// The score and its items.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Readiness {
    /// 0 to 100.
    pub score: u8,
    pub items: Vec<ItemState>,
}

impl Readiness {
    /// Scores the items: the weighted share, rounded down, so that 100 means all proven.
    pub fn of(items: Vec<ItemState>) -> Self {
        let weight = |id: u8| ITEMS.iter().find(|item| item.id == id).map_or(0.0, |item| f64::from(item.weight));
        let total: f64 = ITEMS.iter().map(|item| f64::from(item.weight)).sum();
        let got: f64 = items.iter().map(|item| weight(item.id) * item.state.share()).sum();
        Self { score: (100.0 * got / total) as u8, items }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(state: State) -> Readiness {
        let items =
            ITEMS.iter().map(|i| ItemState { id: i.id, title: i.title, state, why: String::new(), proofs: vec![] });
        Readiness::of(items.collect())
    }

    #[test]
    fn the_score_spans_zero_to_hundred() {
        assert_eq!(all(State::Proven).score, 100);
        assert_eq!(all(State::Configured).score, 50);
        assert_eq!(all(State::Missing).score, 0);
        assert_eq!(all(State::Unknown).score, 0);
    }

    #[test]
    fn the_ids_are_in_order() {
        assert!(ITEMS.iter().enumerate().all(|(at, item)| usize::from(item.id) == at + 1));
    }
}
