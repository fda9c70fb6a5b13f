use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.receiver",
    title: "a standby receives nothing from its primary",
    inspects: "pg_stat_wal_receiver on a standby, and primary_conninfo",
    why: "A standby without a connection looks alive and answers queries, but its data stand still. It is no protection any \
          more.",
    remedy: "Read in the standby's log why it cannot connect or what the primary refuses; rebuild it when the WAL that it needs \
             is gone.",
    source: "pgEdge pg-healthcheck; silence for 5 minutes, since a primary speaks every half wal_sender_timeout",
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[Need::Stats, Need::Settings],
    thresholds: &[Threshold::warn_above("silent", "s", 300.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT r.pid, r.status, extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time) AS silent_s, \
             extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS replayed_s \
             FROM (SELECT 1) AS one LEFT JOIN pg_stat_wal_receiver r ON true",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if scene.setting("primary_conninfo")?.value.trim().is_empty() {
        return Ok(Verdict::not_applicable("this standby restores from an archive only (primary_conninfo is empty)"));
    }
    let row = rows.first()?;
    let silent = row.opt_f64("silent_s")?;
    let streaming = row.opt_str("status")? == Some("streaming");
    let advice = "read the standby's log: it says why it cannot connect, or that the WAL it asks for \"has already been removed\"; \
                  then mend primary_conninfo, pg_hba.conf of the primary or the slot, or rebuild with pg_basebackup";
    let finding = if row.opt_i64("pid")?.is_none() {
        // A standby that also reads an archive is without a receiver while it does.
        let archive = !scene.setting("restore_command")?.value.trim().is_empty();
        let severity = if archive { Severity::Warn } else { Severity::Crit };
        let detail = match archive {
            true => "It can still restore from the archive (restore_command), but only what has got there.",
            false => "Its data stand still since then.",
        };
        Finding::new(severity, "", "this standby is not connected to its primary").detail(detail)
    } else {
        let Some(seconds) = silent else { return Ok(Verdict::ok()) };
        let Some(severity) = scene.grade("silent", seconds) else { return Ok(Verdict::ok()) };
        let title = format!("this standby has heard nothing from its primary for {}", human_seconds(seconds));
        Finding::new(severity, "", title)
            .detail(
                "The connection may be dead without anybody having noticed; wal_receiver_timeout should have ended it.",
            )
            .measured("silent", seconds, "s")
            .saw("streaming", streaming)
    };
    let finding = match row.opt_f64("replayed_s")? {
        Some(seconds) => finding.measured("last replayed commit", seconds, "s ago"),
        None => finding,
    };
    Ok(Verdict::one(finding.fix(Plan::advice(advice))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_pg::server::Mode;

    check_tests!(CHECK);

    #[test]
    fn sees_a_standby_that_lost_its_primary() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            standby.wait_caught_up(&on.server);
            on.until("SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE state = 'streaming'");
            let dsn = standby.dsn("postgres");
            assert_eq!(on.report_of(&dsn).findings, []);
            assert_eq!(on.report().not_applicable.len(), 1);
            on.server.local_mut().stop(Mode::Immediate).unwrap();
            let found = on.soon_finds_on(&dsn);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.receiver", "crit"));
        });
    }
}
