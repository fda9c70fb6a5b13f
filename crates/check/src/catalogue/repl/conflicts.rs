use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "repl.conflicts",
    title: "the replay cancels queries on a standby",
    inspects: "pg_stat_database_conflicts on a standby, by kind, since the statistics were reset",
    why: "Replaying a change may collide with a query that still needs the old state. After max_standby_streaming_delay the query \
          is cancelled, and users of the standby see errors that never happen on the primary.",
    remedy: "For row versions: hot_standby_feedback, which makes the primary keep them. For locks: run DDL when no reports run. \
             Or allow a longer max_standby_streaming_delay.",
    source: "pgEdge pg-healthcheck; one cancelled query a day as the limit is our own",
    scope: Scope::Instance,
    runs_on: RunsOn::Standby,
    needs: &[],
    thresholds: &[Threshold::warn_above("rate", "cancelled queries a day", 1.0)],
    look: Look::Query(
        &[
            Sql::since(
                16,
                "SELECT sum(confl_snapshot) AS snapshot, sum(confl_lock) AS lock, sum(confl_bufferpin) AS pin, \
                 sum(confl_deadlock) AS deadlock, sum(confl_tablespace) AS tablespace, sum(confl_active_logicalslot) AS slot, \
                 extract(epoch FROM clock_timestamp() - min(d.stats_reset)) AS age_s \
                 FROM pg_stat_database_conflicts c JOIN pg_stat_database d USING (datid)",
            ),
            Sql::until(
                15,
                "SELECT sum(confl_snapshot) AS snapshot, sum(confl_lock) AS lock, sum(confl_bufferpin) AS pin, \
                 sum(confl_deadlock) AS deadlock, sum(confl_tablespace) AS tablespace, 0 AS slot, \
                 extract(epoch FROM clock_timestamp() - min(d.stats_reset)) AS age_s \
                 FROM pg_stat_database_conflicts c JOIN pg_stat_database d USING (datid)",
            ),
        ],
        judge,
    ),
};

/// Kinds of conflict: column and words.
const KINDS: &[(&str, &str)] = &[
    ("snapshot", "old row versions"),
    ("lock", "locks"),
    ("pin", "pinned pages"),
    ("deadlock", "deadlocks"),
    ("tablespace", "dropped tablespaces"),
    ("slot", "logical slots"),
];

const DAY_S: f64 = 86_400.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let mut counted = Vec::new();
    for (column, words) in KINDS {
        counted.push((*words, row.opt_f64(column)?.unwrap_or(0.0)));
    }
    let total: f64 = counted.iter().map(|(_, count)| count).sum();
    let age = row.opt_f64("age_s")?.unwrap_or(scene.facts.uptime_s);
    let rate = total / (age / DAY_S).max(1.0);
    let Some(severity) = scene.grade("rate", rate) else { return Ok(Verdict::ok()) };
    let most = counted.iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or("", |(words, _)| words);
    let title = format!("the replay has cancelled {total} queries in {}, most for {most}", human_seconds(age));
    let mut finding = Finding::new(severity, "", title)
        .detail("Users of this standby get \"canceling statement due to conflict with recovery\".")
        .measured("since", age, "s")
        .saw("hot_standby_feedback", scene.setting("hot_standby_feedback")?.value.as_str())
        .saw("max_standby_streaming_delay", scene.setting("max_standby_streaming_delay")?.shown());
    for (words, count) in counted.iter().filter(|(_, count)| *count > 0.0) {
        finding = finding.measured(*words, *count, "cancelled queries");
    }
    let advice = match most {
        "old row versions" => {
            "ALTER SYSTEM SET hot_standby_feedback = on here (the primary then keeps row versions for this standby's queries and \
             may bloat), or a longer max_standby_streaming_delay (this standby then lags while a query runs)"
        }
        _ => {
            "ALTER SYSTEM SET max_standby_streaming_delay to what the longest query here needs (the standby lags while it runs), \
             or run what takes such locks on the primary (DDL, VACUUM that truncates) when no long queries run here"
        }
    };
    Ok(Verdict::one(finding.fix(Plan::advice(advice))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_cancelled_query() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t AS SELECT 1 AS a");
            let standby = on.server.standby_named("reader", &[("max_standby_streaming_delay", "0")]);
            standby.wait_caught_up(&on.server);
            standby.expect_log("due to conflict with recovery");
            // The test closes its connection as soon as it has the error.
            standby.expect_log("connection to client lost");
            let dsn = standby.dsn("postgres");
            assert_eq!(on.report_of(&dsn).findings, []);
            std::thread::scope(|scope| {
                let query = "BEGIN; SELECT * FROM t; SELECT pg_sleep(20)";
                let reader = scope.spawn(|| standby.try_query_in("postgres", query).is_err());
                let reading = "SELECT count(*) = 1 AS v FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                while standby.value(reading) != "t" {}
                on.sql("DROP TABLE t");
                assert!(reader.join().unwrap(), "the query was not cancelled");
            });
            let found = on.soon_finds_on(&dsn);
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("repl.conflicts", "warn"));
            assert!(found[0].title.contains("locks"), "{}", found[0].title);
        });
    }
}
