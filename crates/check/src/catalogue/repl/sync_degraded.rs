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
    id: "repl.sync_degraded",
    title: "fewer synchronous standbys are there than every commit waits for",
    inspects: "synchronous_standby_names against sync_state in pg_stat_replication",
    why: "With synchronous replication every commit waits until the required number of standbys has confirmed it. When one is \
          missing, all writing sessions hang.",
    remedy: "Bring a standby back or add one. Only if the data may live on one server for a while: shorten \
             synchronous_standby_names and reload.",
    source: "PostgreSQL documentation, synchronous_standby_names; our own rule",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS synchronous, count(*) AS connected, \
             coalesce(string_agg(application_name || ' ' || sync_state, ', ' ORDER BY application_name), '') AS standbys, \
             (SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep') AS waiting \
             FROM pg_stat_replication WHERE state = 'streaming'",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let names = scene.setting("synchronous_standby_names")?.value.clone();
    if names.trim().is_empty() {
        return Ok(Verdict::not_applicable("no commit waits for a standby (synchronous_standby_names is empty)"));
    }
    let Some(required) = required(&names) else {
        return Err(Reason::Unexpected(format!("synchronous_standby_names is not understood: {names}")).into());
    };
    let row = rows.first()?;
    let (there, waiting) = (row.i64("synchronous")?, row.i64("waiting")?);
    if there >= required {
        return Ok(Verdict::ok());
    }
    let title = format!("{there} of {required} required synchronous standbys are there: commits wait for ever");
    Ok(Verdict::one(
        Finding::crit("synchronous_standby_names", title)
            .detail(format!("{waiting} sessions wait for a confirmation now; every writing session will."))
            .saw("synchronous_standby_names", names)
            .saw("streaming", row.text("standbys")?)
            .saw("sessions waiting for SyncRep", waiting)
            .fix(Plan::advice(
                "bring the standby back; to let writers go on with fewer copies meanwhile: ALTER SYSTEM SET \
                 synchronous_standby_names = '…' with the standbys that are there, then SELECT pg_reload_conf()",
            )),
    ))
}

/// How many standbys a commit waits for: `FIRST n (…)`, `ANY n (…)`, `n (…)`, or one for a plain list.
fn required(names: &str) -> Option<i64> {
    let Some((head, _)) = names.split_once('(') else { return Some(1) };
    let head = head.trim();
    let method = head.split_whitespace().next()?.to_ascii_lowercase();
    let number = if matches!(method.as_str(), "first" | "any") { head[method.len()..].trim() } else { head };
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{CHECK, required};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn the_number_is_read_from_every_form() {
        for (text, number) in [("a, b", 1), ("*", 1), ("2 (a, b)", 2), ("FIRST 3 (a,b,c)", 3), ("any 2(a, b, c)", 2)] {
            assert_eq!(required(text), Some(number), "{text}");
        }
        assert_eq!(required("some (a)"), None);
    }

    #[test]
    fn sees_that_a_synchronous_standby_is_missing() {
        seeded(&CHECK, |on| {
            let _standby = on.server.standby_named("here", &[]);
            let require = |names: &str| {
                on.server.local().write_settings(&[("synchronous_standby_names", names)]).unwrap();
                on.server.local().reload();
                let shown = names.replace('\'', "''");
                on.until(&format!("SELECT current_setting('synchronous_standby_names') = '{shown}' AS v"));
            };
            require("here, away");
            on.until("SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE sync_state = 'sync'");
            assert_eq!(on.findings(), []);
            require("2 (here, away)");
            let found = on.findings();
            let key = "repl.sync_degraded:synchronous_standby_names";
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), (key, "crit"));
            assert!(found[0].title.starts_with("1 of 2"), "{}", found[0].title);
        });
    }
}
