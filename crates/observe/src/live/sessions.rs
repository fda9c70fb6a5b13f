//! Sessions, what they wait for, and who blocks whom.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use surus_core::secret::masked;
use surus_pg::{Row, RowError, Rows, Sql};

/// Sessions that one look shows.
const SESSIONS_AT_MOST: usize = 1000;
/// Sessions whose blockers are looked up: each takes all partitions of the lock table for a moment.
const WAITERS_AT_MOST: usize = 100;

const QUERY_ID: [Sql; 2] = [Sql::since(14, "query_id"), Sql::until(13, "NULL::bigint AS query_id")];

/// The query: everybody who is not idle, and those who are but hold a transaction.
pub fn sql(major: u16) -> String {
    let query_id = Sql::of_major(&QUERY_ID, major).unwrap_or("query_id");
    format!(
        "WITH seen AS MATERIALIZED (SELECT pid, leader_pid, datname, usename, application_name, client_addr, backend_type, \
           state, wait_event_type, wait_event, {query_id}, backend_start, xact_start, query_start, state_change, query \
           FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type IS NOT NULL AND \
           CASE WHEN backend_type = 'client backend' THEN state <> 'idle' ELSE wait_event_type IS DISTINCT FROM 'Activity' END \
           ORDER BY xact_start NULLS LAST LIMIT {limit}), \
         waiting AS MATERIALIZED (SELECT pid FROM seen WHERE wait_event_type = 'Lock' LIMIT {WAITERS_AT_MOST}) \
         SELECT pid, leader_pid, datname, usename, application_name, host(client_addr) AS client, backend_type, state, \
           wait_event_type, wait_event, query_id, backend_start::text AS backend_start, left(query, 10000) AS query, \
           extract(epoch FROM clock_timestamp() - xact_start) AS transaction_s, \
           extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN query_start ELSE state_change END) AS state_s, \
           CASE WHEN pid IN (SELECT pid FROM waiting) THEN pg_blocking_pids(pid) END AS blocked_by FROM seen",
        limit = SESSIONS_AT_MOST + 1,
    )
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LiveSession {
    pub pid: i64,
    /// The leader of a parallel worker.
    pub leader_pid: Option<i64>,
    pub database: String,
    pub user: String,
    pub application: String,
    /// Where it comes from; empty over a Unix socket.
    pub client: String,
    pub backend_type: String,
    pub state: String,
    pub wait_event_type: String,
    pub wait_event: String,
    pub query_id: Option<i64>,
    pub backend_start: String,
    /// How long its transaction has been open, in seconds.
    pub transaction_s: Option<f64>,
    /// How long its statement has run or, when none runs, how long it has been in its state, in seconds.
    pub state_s: f64,
    /// Who blocks it; 0 stands for a prepared transaction, which has no process.
    pub blocked_by: Vec<i64>,
    /// Its statement, or its last one.
    pub query: String,
}

impl LiveSession {
    fn read(row: Row<'_>) -> Result<Self, RowError> {
        let mut blocked_by: Vec<i64> = row.list("blocked_by")?.iter().filter_map(|pid| pid.parse().ok()).collect();
        blocked_by.sort_unstable();
        blocked_by.dedup();
        Ok(Self {
            pid: row.i64("pid")?,
            leader_pid: row.opt_i64("leader_pid")?,
            database: row.text("datname")?,
            user: row.text("usename")?,
            application: row.text("application_name")?,
            client: row.text("client")?,
            backend_type: row.text("backend_type")?,
            state: row.text("state")?,
            wait_event_type: row.text("wait_event_type")?,
            wait_event: row.text("wait_event")?,
            query_id: row.opt_i64("query_id")?.filter(|id| *id != 0),
            backend_start: row.text("backend_start")?,
            transaction_s: row.opt_f64("transaction_s")?.map(|age| age.max(0.0)),
            state_s: row.opt_f64("state_s")?.unwrap_or_default().max(0.0),
            blocked_by,
            query: masked(&row.text("query")?),
        })
    }

    /// Does it run a statement?
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }

    /// Does it hold a transaction open without running anything?
    pub fn is_idle_in_transaction(&self) -> bool {
        self.state.starts_with("idle in transaction")
    }

    /// Does it wait for a lock?
    pub fn waits_for_lock(&self) -> bool {
        self.wait_event_type == "Lock"
    }

    /// A client's, and not one of the server's own?
    pub fn is_client(&self) -> bool {
        self.backend_type == "client backend"
    }
}

/// The sessions of one look.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sessions {
    pub all: Vec<LiveSession>,
    /// There were more than are shown.
    pub truncated: bool,
}

/// A session in the tree of who blocks whom.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch<'a> {
    pub depth: usize,
    /// How many wait behind it, however far.
    pub behind: usize,
    /// None: a prepared transaction, or a session that ended or hides.
    pub session: Option<&'a LiveSession>,
    pub pid: i64,
}

impl Sessions {
    /// Reads the answer.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read(rows: &Rows) -> Result<Self, RowError> {
        let all: Result<Vec<_>, _> = rows.iter().take(SESSIONS_AT_MOST).map(LiveSession::read).collect();
        Ok(Self { all: all?, truncated: rows.len() > SESSIONS_AT_MOST })
    }

    /// Active sessions by what they wait for (`CPU`: nothing), most first.
    pub fn active_by_wait(&self) -> Vec<(&str, usize)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for session in self.all.iter().filter(|session| session.is_active() && session.backend_type != "walsender") {
            let what = if session.wait_event_type.is_empty() { "CPU" } else { &session.wait_event_type };
            *counts.entry(what).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(what, count)| (std::cmp::Reverse(*count), *what));
        counts
    }

    /// Who blocks whom: roots first, the one with most behind it at the top. A session that is blocked by several
    /// stands under each; a circle (a deadlock that is not yet resolved) is entered once.
    pub fn blocking_tree(&self) -> Vec<Branch<'_>> {
        let by_pid: BTreeMap<i64, &LiveSession> = self.all.iter().map(|session| (session.pid, session)).collect();
        let mut waiters: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for session in &self.all {
            for blocker in &session.blocked_by {
                waiters.entry(*blocker).or_default().push(session.pid);
            }
        }
        let is_blocked = |pid: &i64| by_pid.get(pid).is_some_and(|session| !session.blocked_by.is_empty());
        let mut roots: Vec<i64> = waiters.keys().copied().filter(|pid| !is_blocked(pid)).collect();
        // Circles have no root: their smallest number stands for one.
        let mut reached = BTreeSet::new();
        roots.iter().for_each(|root| reach(*root, &waiters, &mut reached));
        for pid in waiters.keys() {
            if !reached.contains(pid) {
                roots.push(*pid);
                reach(*pid, &waiters, &mut reached);
            }
        }
        let behind = |pid: i64| {
            let mut all = BTreeSet::new();
            reach(pid, &waiters, &mut all);
            all.len() - 1
        };
        roots.sort_by_key(|pid| (std::cmp::Reverse(behind(*pid)), *pid));
        let mut tree = Vec::new();
        for root in roots {
            let mut stack = vec![(root, 0, vec![root])];
            while let Some((pid, depth, path)) = stack.pop() {
                tree.push(Branch { depth, behind: behind(pid), session: by_pid.get(&pid).copied(), pid });
                for waiter in waiters.get(&pid).into_iter().flatten().rev() {
                    if !path.contains(waiter) && tree.len() + stack.len() < SESSIONS_AT_MOST {
                        stack.push((*waiter, depth + 1, [path.as_slice(), &[*waiter]].concat()));
                    }
                }
            }
        }
        tree
    }
}

fn reach(pid: i64, waiters: &BTreeMap<i64, Vec<i64>>, reached: &mut BTreeSet<i64>) {
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        if reached.insert(pid) {
            open.extend(waiters.get(&pid).into_iter().flatten());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(blocked: &[(i64, &[i64])]) -> Sessions {
        let session = |(pid, blocked_by): &(i64, &[i64])| LiveSession {
            pid: *pid,
            state: "active".into(),
            backend_type: "client backend".into(),
            wait_event_type: if blocked_by.is_empty() { String::new() } else { "Lock".into() },
            blocked_by: blocked_by.to_vec(),
            ..LiveSession::default()
        };
        Sessions { all: blocked.iter().map(session).collect(), truncated: false }
    }

    fn tree(blocked: &[(i64, &[i64])]) -> Vec<(i64, usize, usize)> {
        let sessions = sessions(blocked);
        sessions.blocking_tree().iter().map(|branch| (branch.pid, branch.depth, branch.behind)).collect()
    }

    #[test]
    fn the_worst_blocker_is_at_the_top() {
        let blocked: &[(i64, &[i64])] = &[(1, &[]), (2, &[1]), (5, &[]), (6, &[5]), (7, &[6]), (9, &[])];
        assert_eq!(tree(blocked), [(5, 0, 2), (6, 1, 1), (7, 2, 0), (1, 0, 1), (2, 1, 0)]);
    }

    #[test]
    fn several_blockers_hidden_ones_and_circles() {
        assert_eq!(tree(&[(1, &[]), (2, &[]), (3, &[1, 2])]), [(1, 0, 1), (3, 1, 0), (2, 0, 1), (3, 1, 0)]);
        assert_eq!(tree(&[(3, &[0])]), [(0, 0, 1), (3, 1, 0)]);
        assert_eq!(tree(&[(1, &[2]), (2, &[1])]), [(1, 0, 1), (2, 1, 1)]);
        assert_eq!(tree(&[(1, &[])]), []);
    }

    #[test]
    fn active_sessions_are_counted_by_what_they_wait_for() {
        assert_eq!(sessions(&[(1, &[]), (2, &[1]), (3, &[1])]).active_by_wait(), [("Lock", 2), ("CPU", 1)]);
    }
}
