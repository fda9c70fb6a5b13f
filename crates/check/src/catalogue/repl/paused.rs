use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::Bytes};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.paused",
    title: "the replay is paused while WAL waits",
    inspects: "pg_is_wal_replay_paused() and what was received but not replayed",
    why: "A paused standby shows the past and collects WAL until its disk is full. A pause is easily forgotten, and some happen \
          by themselves: a setting lower than the primary's stops the replay too.",
    remedy: "Resume with SELECT pg_wal_replay_resume() when the reason for the pause is gone.",
    source: "check_pgactivity is_replay_paused",
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT pg_is_wal_replay_paused() AS paused, \
             coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0)::bigint AS waiting, \
             extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS replayed_s",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let waiting = row.i64("waiting")?;
    if !row.bool("paused")? || waiting <= 0 {
        return Ok(Verdict::ok());
    }
    let title = format!("the replay is paused, and {} of WAL wait", Bytes(waiting.unsigned_abs()));
    let mut finding = Finding::warn("", title)
        .detail("Queries see the moment of the pause, and the WAL that arrives fills the disk.")
        .measured("waiting", waiting, "bytes");
    if let Some(seconds) = row.opt_f64("replayed_s")? {
        finding = finding.measured("last replayed commit", seconds, "s ago");
    }
    Ok(Verdict::one(finding.fix(Plan::advice(
        "SELECT pg_wal_replay_resume(), after a look into the log: where it says that a setting is lower than on the primary, \
         raise that first, since resuming shuts such a standby down",
    ))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_pause_with_wal_waiting() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            standby.wait_caught_up(&on.server);
            let dsn = standby.dsn("postgres");
            standby.sql("SELECT pg_wal_replay_pause()");
            on.sql("CREATE TABLE t(a int)");
            let found = on.soon_finds_on(&dsn);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.paused", "warn"));
            standby.sql("SELECT pg_wal_replay_resume()");
            standby.wait_caught_up(&on.server);
            assert_eq!(on.report_of(&dsn).findings, []);
        });
    }
}
