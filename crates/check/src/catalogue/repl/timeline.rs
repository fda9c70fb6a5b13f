use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.timeline",
    title: "a standby is on another timeline than the primary",
    inspects: "the timeline of a standby that does not stream, against that of the primary among the given targets",
    why: "Each promotion begins a new timeline. A standby that stayed on the old one, or went another way, does not follow the \
          primary, although both look healthy.",
    remedy: "Point the standby at the new primary (primary_conninfo, recovery_target_timeline = latest); where it has WAL that the \
             new primary never had, use pg_rewind or rebuild it.",
    source: "PostgreSQL documentation, Timelines; our own rule. A standby that streams is on its sender's timeline",
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all("SELECT count(*) FILTER (WHERE status = 'streaming') AS streaming FROM pg_stat_wal_receiver")],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if rows.first()?.i64("streaming")? > 0 {
        return Ok(Verdict::ok());
    }
    let primaries: Vec<_> = scene.siblings.iter().filter(|(_, facts)| !facts.in_recovery).collect();
    let timelines: Vec<u32> = primaries.iter().filter_map(|(_, facts)| facts.timeline).collect();
    let (Some(own), Some(newest)) = (scene.facts.timeline, timelines.iter().max().copied()) else {
        let why =
            "this standby does not stream, and no primary of its cluster is among the given targets to compare with";
        return Err(Reason::Undeclared(why.into()).into());
    };
    if timelines.contains(&own) {
        return Ok(Verdict::ok());
    }
    let name = primaries.first().map_or("", |(name, _)| name.as_str());
    let title = format!("this standby is on timeline {own}, the primary {name} on timeline {newest}");
    Ok(Verdict::one(
        Finding::crit("", title)
            .detail("It does not follow the primary: its data stand still, and it must not be promoted.")
            .saw("timeline here", own)
            .saw("timeline of the primary", newest)
            .saw("recovery_target_timeline", scene.setting("recovery_target_timeline")?.value.as_str())
            .fix(Plan::advice(
                "let primary_conninfo point at the new primary and reload; where the log says that the timeline \"is not a child\" \
                 or forked off before this point, stop the standby and run pg_rewind against the primary, or rebuild it",
            )),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::time::Duration;
    use surus_pg::server::Mode;

    check_tests!(CHECK);

    #[test]
    fn sees_a_standby_left_behind_by_a_promotion() {
        seeded(&CHECK, |on| {
            let (promoted, left) = (on.server.standby(), on.server.standby());
            promoted.wait_caught_up(&on.server);
            left.wait_caught_up(&on.server);
            let (new, old) = (promoted.dsn("postgres"), left.dsn("postgres"));
            on.until("SELECT count(*) = 2 AS v FROM pg_stat_replication WHERE state = 'streaming'");
            assert_eq!(on.report_of(&old).findings, []);
            on.server.local_mut().stop(Mode::Fast).unwrap();
            promoted.local().promote(Duration::from_secs(60)).unwrap();
            promoted.sql("CHECKPOINT");
            let reports = on.report_of_all(&[("new", &new), ("old", &old)]);
            let found = &reports[1].findings;
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.timeline", "crit"));
            assert_eq!(on.report_of(&old).unknown[0].reason.kind(), "undeclared");
        });
    }
}
