use crate::{
    backend::{Backend, backend},
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "lock.blocked",
    title: "a session blocks others",
    inspects: "pg_locks, pg_stat_activity and pg_blocking_pids of at most 500 waiting sessions; only the root of a queue is told",
    why: "Sessions that wait for a lock hold their connection and often locks of their own, so a queue grows and in the end the \
          application stands still. Only the session at its head matters: when it is gone the others go on by themselves.",
    remedy: "End the head's transaction if nobody is working in it; otherwise wait or cancel its statement. Never end the waiting ones.",
    source: "pganalyze blocked queries; check_pgactivity. Half a minute and three sessions is when users notice",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[
        Threshold::above("victims", "sessions", 3.0, 10.0),
        Threshold::above("wait", "s", 30.0, 120.0),
        // So long a wait is bad for a single session too.
        Threshold::above("long_wait", "s", 300.0, 600.0),
    ],
    look: Look::Query(
        &[
            Sql::since(14, concat!(waiting!("min(waitstart)"), sessions!())),
            Sql::until(13, concat!(waiting!("NULL::timestamptz"), sessions!())),
        ],
        judge,
    ),
};

/// PostgreSQL 13 does not say since when a lock is waited for; the statement's start is the earliest it can be.
macro_rules! waiting {
    ($since:literal) => {
        concat!(
            "WITH lk AS MATERIALIZED (SELECT pid, ",
            $since,
            " AS since FROM pg_locks WHERE NOT granted AND pid IS NOT NULL GROUP BY pid ORDER BY 2 LIMIT 500), \
             waiting AS MATERIALIZED (SELECT lk.pid, extract(epoch FROM clock_timestamp() - coalesce(lk.since, a.query_start)) AS wait_s, \
               pg_blocking_pids(lk.pid) AS blockers FROM lk JOIN pg_stat_activity a ON a.pid = lk.pid) "
        )
    };
}
use waiting;

macro_rules! sessions {
    () => {
        concat!(
            "SELECT ",
            backend!("a"),
            ", w.wait_s, w.blockers FROM pg_stat_activity a LEFT JOIN waiting w ON w.pid = a.pid \
             WHERE w.pid IS NOT NULL OR a.pid IN (SELECT unnest(blockers) FROM waiting)"
        )
    };
}
use sessions;

/// A waiting session, and who stands in its way.
struct Wait {
    seconds: f64,
    blockers: Vec<i64>,
}

/// Who waits at the end because of one session.
#[derive(Debug, Default, PartialEq)]
struct Queue {
    victims: Vec<i64>,
    longest_s: f64,
}

/// The heads of the queues: sessions that block and do not wait themselves; 0 stands for prepared transactions.
fn queues(waits: &BTreeMap<i64, Wait>) -> BTreeMap<i64, Queue> {
    let mut queues: BTreeMap<i64, Queue> = BTreeMap::new();
    for (victim, wait) in waits {
        let (mut seen, mut open) = (BTreeSet::new(), wait.blockers.clone());
        while let Some(pid) = open.pop() {
            if !seen.insert(pid) {
                continue;
            }
            match waits.get(&pid) {
                Some(further) => open.extend(&further.blockers),
                None => {
                    let queue = queues.entry(pid).or_default();
                    queue.victims.push(*victim);
                    queue.longest_s = queue.longest_s.max(wait.seconds);
                }
            }
        }
    }
    queues
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let (mut backends, mut waits) = (BTreeMap::new(), BTreeMap::new());
    for row in rows.iter() {
        let backend = Backend::read(row)?;
        if let Some(seconds) = row.opt_f64("wait_s")? {
            let blockers = row.list("blockers")?.iter().filter_map(|pid| pid.parse().ok()).collect();
            waits.insert(backend.pid, Wait { seconds, blockers });
        }
        backends.insert(backend.pid, backend);
    }
    let mut findings = Vec::new();
    for (root, queue) in queues(&waits) {
        let many = scene.grade("victims", queue.victims.len() as f64).min(scene.grade("wait", queue.longest_s));
        if let Some(severity) = many.max(scene.grade("long_wait", queue.longest_s)) {
            findings.push(finding(severity, root, backends.get(&root), &queue, &backends));
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(
    severity: Severity,
    root: i64,
    backend: Option<&Backend>,
    queue: &Queue,
    backends: &BTreeMap<i64, Backend>,
) -> Finding {
    let sessions = if queue.victims.len() == 1 { "session" } else { "sessions" };
    let blocks = format!("{} {sessions}, the longest for {}", queue.victims.len(), human_seconds(queue.longest_s));
    let finding = match backend {
        Some(backend) => {
            let title = format!("{}, {}, blocks {blocks}", backend.who(), backend.doing());
            let advice = match backend.state.as_str() {
                "active" => format!("let it finish, or cancel its statement: {}", backend.cancel()),
                _ => format!("end its transaction, which is rolled back: {}", backend.terminate()),
            };
            backend.describe(Finding::new(severity, backend.object(), title)).fix(Plan::advice(advice))
        }
        None if root == 0 => Finding::new(
            severity,
            "prepared transaction",
            format!("a prepared transaction blocks {blocks}"),
        )
        .fix(Plan::advice("look into pg_prepared_xacts, then COMMIT PREPARED or ROLLBACK PREPARED by whoever owns it")),
        None => Finding::new(severity, format!("process {root}"), format!("process {root} blocks {blocks}"))
            .fix(Plan::advice("look again: the process is not in pg_stat_activity")),
    };
    let waiting: Vec<String> = queue.victims.iter().filter_map(|pid| backends.get(pid)).take(5).map(victim).collect();
    finding
        .detail("It is the head of the queue: when its transaction ends, the others go on.")
        .measured("waiting sessions", queue.victims.len(), "sessions")
        .measured("longest wait", queue.longest_s, "s")
        .saw("some that wait", waiting)
}

fn victim(backend: &Backend) -> String {
    format!("{}: {}", backend.who(), backend.query)
}

#[cfg(test)]
mod tests {
    use super::{CHECK, Wait, queues};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn a_queue_is_counted_at_its_root() {
        let wait = |seconds, blockers: &[i64]| Wait { seconds, blockers: blockers.to_vec() };
        let waits = [(2, wait(9.0, &[1])), (3, wait(5.0, &[2])), (4, wait(3.0, &[2, 3])), (6, wait(1.0, &[0]))].into();
        let found = queues(&waits);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!((found[&1].victims.as_slice(), found[&1].longest_s), ([2, 3, 4].as_slice(), 9.0));
        let circle = [(1, wait(1.0, &[2])), (2, wait(1.0, &[1]))].into();
        assert!(queues(&circle).is_empty(), "a deadlock has no root; the server breaks it");
    }

    #[test]
    fn names_the_root_of_a_chain_and_only_it() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2)");
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; UPDATE public.t SET n = 0 WHERE id = 1");
            on.start_in_background(
                "BEGIN; UPDATE public.t SET n = 0 WHERE id = 2; UPDATE public.t SET n = 0 WHERE id = 1",
            );
            on.until("SELECT count(*) = 1 AS v FROM pg_locks WHERE NOT granted");
            assert_eq!(on.findings(), [], "a short wait is no trouble");
            on.start_in_background("UPDATE public.t SET n = 9 WHERE id = 2");
            on.start_in_background("UPDATE public.t SET n = 9 WHERE id = 1");
            on.until("SELECT count(*) >= 3 AS v FROM pg_locks WHERE NOT granted");
            on.limit("wait", 0.01);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert_eq!(found[0].key, format!("lock.blocked:process {}", holder.backend_pid().unwrap()));
            assert!(found[0].title.contains("application app), idle in transaction"), "{}", found[0].title);
            assert!(found[0].title.contains("blocks 3 sessions"), "{}", found[0].title);
            on.run_in(&holder, "ROLLBACK");
        });
    }
}
