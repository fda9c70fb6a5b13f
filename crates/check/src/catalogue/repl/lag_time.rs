use crate::{
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::time::Duration;
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.lag_time",
    title: "a standby shows the past",
    inspects: "pg_stat_replication.replay_lag; on a standby the age of the last replayed commit, only while WAL waits there",
    why: "An application that writes on the primary and reads on a standby does not find what it has just written. After a \
          failover the new primary first has to work off its delay.",
    remedy: "Look on the standby for what holds up the replay: a long query, a pause, a slow disk, one busy core.",
    source: "CloudNativePG and pgEdge alert rules; 30 and 300 s; a quiet primary is no delay, so waiting WAL is required",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("delay", "s", 30.0, 300.0)],
    look: Look::Custom(look),
};

const SENDERS: &str = "SELECT application_name AS name, host(client_addr) AS address, \
    extract(epoch FROM replay_lag) AS delay_s, pg_wal_lsn_diff(sent_lsn, replay_lsn)::bigint AS waiting \
    FROM pg_stat_replication WHERE state <> 'backup' AND replay_lsn < sent_lsn ORDER BY 1, 2";

const OWN: &str = "SELECT pg_last_wal_receive_lsn() IS NULL AS by_archive, \
    pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0') AS received, pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0') AS replayed, \
    extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS delay_s";

/// So much sent and not replayed, and no measurement of the delay, is worth saying.
const NOTABLE: i64 = 16 << 20;

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let senders = access.session.ask(SENDERS).await?;
        let mut verdict = of_senders(scene, &senders)?;
        if !scene.facts.in_recovery {
            return Ok(verdict);
        }
        let first = access.session.ask(OWN).await?;
        let row = first.first()?;
        if row.bool("by_archive")? {
            let why = "the standby restores from an archive, and what waits there cannot be seen from here";
            return Ok(verdict.but_unknown("this standby", Reason::Statistics(why.into())));
        }
        let meant = scene.settings().milliseconds("recovery_min_apply_delay").unwrap_or(0.0) / 1000.0;
        let received = row.f64("received")?;
        let delay = row.opt_f64("delay_s")?.unwrap_or(0.0) - meant;
        let waits = received > row.f64("replayed")?;
        let Some(severity) = scene.grade("delay", delay).filter(|_| waits) else { return Ok(verdict) };
        // The first commit after a quiet night looks like a night's delay: what waited must still wait a moment later.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let second = access.session.ask(OWN).await?;
        if second.first()?.f64("replayed")? >= received {
            return Ok(verdict);
        }
        let title = format!("this standby shows the state of up to {} ago", human_seconds(delay + meant));
        verdict.findings.push(finding(severity, "this standby", title).measured("delay", delay + meant, "s").measured(
            "recovery_min_apply_delay",
            meant,
            "s",
        ));
        Ok(verdict)
    })
}

fn of_senders(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut verdict = Verdict::ok();
    for row in rows.iter() {
        let name = match row.opt_str("address")? {
            Some(address) => format!("{} ({address})", row.str("name")?),
            None => row.text("name")?,
        };
        let Some(delay) = row.opt_f64("delay_s")? else {
            if row.opt_i64("waiting")?.unwrap_or(0) >= NOTABLE {
                let why = "the server has not measured its delay yet";
                verdict = verdict.but_unknown(name, Reason::Statistics(why.into()));
            }
            continue;
        };
        let Some(severity) = scene.grade("delay", delay) else { continue };
        let title = format!("{name} replays WAL {} after it was written", human_seconds(delay));
        verdict.findings.push(finding(severity, &name, title).measured("replay_lag", delay, "s"));
    }
    Ok(verdict)
}

fn finding(severity: surus_core::finding::Severity, object: &str, title: String) -> Finding {
    Finding::new(severity, object, title)
        .detail("Queries there see old data, and a takeover has to wait until the replay is through.")
        .fix(Plan::advice(
            "look on the standby for long queries (pg_stat_activity), a paused replay (repl.paused) and the startup process's \
             waits; max_standby_streaming_delay says how long a query may hold up the replay",
        ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_standby_in_the_past() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            on.sql("CREATE TABLE t(a int)");
            standby.wait_caught_up(&on.server);
            let dsn = standby.dsn("postgres");
            on.limit("delay", 0.3);
            std::thread::sleep(std::time::Duration::from_millis(500));
            assert_eq!(on.report_of(&dsn).findings, [], "a quiet primary is no delay");
            standby.sql("SELECT pg_wal_replay_pause()");
            on.sql("INSERT INTO t VALUES (1)");
            let found = on.soon_finds_on(&dsn);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.lag_time:this standby", "warn"));
            standby.sql("SELECT pg_wal_replay_resume()");
            standby.wait_caught_up(&on.server);
            assert_eq!(on.report_of(&dsn).findings, []);
        });
    }
}
