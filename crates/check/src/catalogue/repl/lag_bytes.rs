use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};
use surus_pg::{Row, RowError, Rows};

pub static CHECK: Check = Check {
    id: "repl.lag_bytes",
    title: "a standby is behind",
    inspects: "pg_stat_replication: WAL not yet sent, flushed and replayed by each receiver; on a standby what it has not replayed",
    why: "What a standby has not received is lost when the primary dies; what it has not replayed makes its answers old and its \
          takeover slow.",
    remedy: "Look where the WAL waits: not sent means the network or a busy primary, not flushed the standby's disk, not replayed \
             a query that blocks the replay or one busy core.",
    source: "check_pgactivity streaming_delta; check_postgres; 50 and 500 MB",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("behind", "bytes", 50e6, 500e6)],
    look: Look::Query(
        &[Sql::all(
            "WITH now AS (SELECT pg_is_in_recovery() AS standby, \
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END AS lsn) \
             SELECT application_name AS name, host(client_addr) AS address, false AS own, \
               pg_wal_lsn_diff(lsn, sent_lsn)::bigint AS unsent, \
               pg_wal_lsn_diff(lsn, coalesce(flush_lsn, sent_lsn))::bigint AS unflushed, \
               pg_wal_lsn_diff(lsn, coalesce(replay_lsn, flush_lsn, write_lsn, sent_lsn))::bigint AS behind \
             FROM pg_stat_replication, now WHERE state <> 'backup' \
             UNION ALL SELECT 'this standby', NULL, true, 0, 0, \
               pg_wal_lsn_diff(lsn, pg_last_wal_replay_lsn())::bigint FROM now WHERE standby \
             ORDER BY 1, 2",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if rows.is_empty() {
        return Ok(Verdict::not_applicable("no standby is connected"));
    }
    let delayed = scene.settings().milliseconds("recovery_min_apply_delay").unwrap_or(0.0) > 0.0;
    let mut findings = Vec::new();
    for row in rows.iter() {
        // A standby that is delayed on purpose is behind on purpose.
        let Some(behind) = row.opt_f64("behind")?.filter(|_| !(delayed && row.bool("own").unwrap_or(false))) else {
            continue;
        };
        if let Some(severity) = scene.grade("behind", behind) {
            let name = receiver(&row)?;
            let title = format!("{name} is {} behind", Bytes(behind.max(0.0) as u64));
            let (where_it_waits, advice) = cause(&row, behind)?;
            findings.push(
                Finding::new(severity, name, title)
                    .detail(where_it_waits)
                    .measured("behind", behind, "bytes")
                    .measured("not sent", row.opt_f64("unsent")?.unwrap_or(0.0), "bytes")
                    .measured("not flushed", row.opt_f64("unflushed")?.unwrap_or(0.0), "bytes")
                    .fix(Plan::advice(advice)),
            );
        }
    }
    Ok(Verdict::of(findings))
}

/// The receiver's name, with its address where it has one, since many call themselves `walreceiver`.
fn receiver(row: &Row<'_>) -> Result<String, RowError> {
    let name = row.str("name")?;
    Ok(match row.opt_str("address")? {
        Some(address) => format!("{name} ({address})"),
        None => name.to_owned(),
    })
}

/// Where most of the missing WAL waits, and what to do there.
fn cause(row: &Row<'_>, behind: f64) -> Result<(&'static str, &'static str), RowError> {
    let half = behind / 2.0;
    Ok(if row.opt_f64("unsent")?.unwrap_or(0.0) > half {
        (
            "Most of it has not been sent: if the primary dies, it is lost.",
            "look at the network between the two servers and at the load of the primary's walsender process",
        )
    } else if row.opt_f64("unflushed")?.unwrap_or(0.0) > half {
        ("Most of it is not on the standby's disk yet.", "look at the disk that holds pg_wal on the standby")
    } else {
        (
            "The standby has it, but has not replayed it: queries there see old data, and a takeover must wait for it.",
            "look on the standby for long queries that block the replay (repl.conflicts), for a paused replay (repl.paused) and \
             for a startup process that is busy with one core or with reads",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_standby_that_does_not_replay() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            standby.wait_caught_up(&on.server);
            on.until("SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE state = 'streaming'");
            standby.sql("SELECT pg_wal_replay_pause()");
            on.sql("CREATE TABLE t AS SELECT generate_series(1, 20000) AS a");
            on.until("SELECT flush_lsn = pg_current_wal_lsn() AS v FROM pg_stat_replication");
            assert_eq!(on.findings(), [], "a few megabytes are no trouble");
            on.limit("behind", 1e6);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.lag_bytes:standby1", "warn"));
            assert!(found[0].detail.contains("not replayed"), "{}", found[0].detail);
            let seen_there = on.report_of(&standby.dsn("postgres")).findings;
            assert_eq!(seen_there[0].key, "repl.lag_bytes:this standby");
            standby.sql("SELECT pg_wal_replay_resume()");
            standby.wait_caught_up(&on.server);
            assert_eq!(on.report_of(&standby.dsn("postgres")).findings, []);
        });
    }
}
