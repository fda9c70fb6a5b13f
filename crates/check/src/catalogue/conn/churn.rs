use crate::{
    rule::{Access, Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Trouble, Verdict},
};
use std::time::Duration;
use surus_core::{clock::Stopwatch, finding::Finding, finding::Reason, plan::Plan};
use surus_pg::Session;

pub static CHECK: Check = Check {
    id: "conn.churn",
    title: "connections are opened and closed all the time",
    inspects: "pg_stat_database: sessions and session_time, read twice two seconds apart when sessions are short",
    why: "Each new connection starts a process, checks a password and loads catalog caches, which costs milliseconds of a \
          processor. Clients that connect for every request can keep a server busy with nothing else.",
    remedy: "Let the application keep connections open in a pool, or put a pooler such as PgBouncer in front.",
    source: "check_pgactivity session_stats; 10 sessions a second for each core, sessions shorter than a second on average",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Major(14)],
    thresholds: &[
        Threshold::warn_above("rate", "sessions/s per core", 10.0),
        Threshold::warn_below("length", "s", 1.0),
    ],
    look: Look::Pausing(|scene, access| Box::pin(look(scene, access))),
};

const SQL: &str = "SELECT sum(sessions)::bigint AS sessions, sum(session_time) / 1000 AS seconds FROM pg_stat_database";
/// Fewer sessions than this say nothing about how long they are.
const ENOUGH: f64 = 20.0;
const PAUSE: Duration = Duration::from_secs(2);

/// The counters of all databases together.
struct Counters {
    sessions: f64,
    seconds: f64,
}

async fn read(session: &Session) -> Result<Counters, Trouble> {
    let rows = session.ask(SQL).await?;
    let row = rows.first()?;
    Ok(Counters {
        sessions: row.opt_f64("sessions")?.unwrap_or_default(),
        seconds: row.opt_f64("seconds")?.unwrap_or_default(),
    })
}

async fn look(scene: &Scene<'_>, access: Access<'_>) -> Judged {
    let before = read(access.session).await?;
    let length = before.seconds / before.sessions.max(1.0);
    if before.sessions < ENOUGH || scene.grade("length", length).is_none() {
        return Ok(Verdict::ok());
    }
    // Sessions are short; only now is it worth two seconds to see how many there are.
    let watch = Stopwatch::start();
    tokio::time::sleep(PAUSE).await;
    let after = read(access.session).await?;
    let rate = (after.sessions - before.sessions) / watch.elapsed().as_secs_f64();
    let cores = match scene.host() {
        Ok(host) => f64::from(host.cores.max(1)),
        Err(_) if scene.grade("rate", rate).is_none() => 1.0,
        Err(reason) => {
            let seen =
                format!("{rate:.0} sessions a second are opened, but how many cores the server has is not known");
            return Err(Trouble::Unknown(Reason::Host(format!("{seen}: {reason}"))));
        }
    };
    let Some(severity) = scene.grade("rate", rate / cores) else { return Ok(Verdict::ok()) };
    Ok(Verdict::one(
        Finding::new(severity, "", format!("{rate:.0} sessions a second are opened, for {length:.2} s on average"))
            .detail("Starting and ending processes takes processor time and memory that queries could use.")
            .measured("rate", rate, "sessions/s")
            .measured("average length since the counters were reset", length, "s")
            .saw("cores", cores)
            .fix(Plan::advice(
                "keep connections open in the application's pool, or put a pooler in transaction mode in front of the server",
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    check_tests!(CHECK);

    #[test]
    fn sees_clients_that_connect_for_every_request() {
        seeded(&CHECK, |on| {
            (0..25).for_each(|_| on.sql("SELECT 1"));
            // 14 hands counters to its collector twice a second at most.
            std::thread::sleep(std::time::Duration::from_millis(600));
            on.limit("rate", 0.5);
            on.limit("length", 60.0);
            let done = AtomicBool::new(false);
            let found = std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        on.sql("SELECT 1");
                    }
                });
                let found = on.findings();
                done.store(true, Ordering::Relaxed);
                found
            });
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.churn", "warn"));
            on.limit("length", -1.0);
            assert_eq!(on.findings(), [], "long sessions are no churn");
        });
    }
}
