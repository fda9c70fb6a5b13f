use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use std::collections::BTreeMap;
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "conn.idle_share",
    title: "most sessions have been idle for long",
    inspects: "pg_stat_activity: state and state_change of client sessions",
    why: "An idle session does nothing but still takes a slot and memory, and every snapshot has to look at it. When most \
          slots are held that way, the server runs out of them while it has hardly any work.",
    remedy: "Give each application a smaller pool, or put a transaction pooler in front so that many clients share few \
             sessions.",
    source: "pgEdge pg-healthcheck idle connections; half of the used slots idle for 10 minutes, and at least 10 sessions",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[
        Threshold::warn_above("share", "%", 50.0),
        Threshold::warn_above("idle", "s", 600.0),
        Threshold::warn_above("sessions", "sessions", 10.0),
    ],
    look: Look::Query(
        &[Sql::all(
            "SELECT usename AS role, application_name AS application, state, \
             CASE WHEN state = 'idle' THEN extract(epoch FROM clock_timestamp() - state_change) END AS idle_s \
             FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut holders: BTreeMap<String, u32> = BTreeMap::new();
    let (mut long, mut longest) = (0_u32, 0.0_f64);
    for row in rows.iter() {
        let Some(idle) = row.opt_f64("idle_s")? else { continue };
        if scene.grade("idle", idle).is_none() {
            continue;
        }
        long += 1;
        longest = longest.max(idle);
        let holder = match (row.text("role")?, row.text("application")?) {
            (role, application) if application.is_empty() => role,
            (role, application) => format!("{role} ({application})"),
        };
        *holders.entry(holder).or_default() += 1;
    }
    let share = 100.0 * f64::from(long) / (rows.len().max(1)) as f64;
    if scene.grade("sessions", f64::from(long)).is_none() {
        return Ok(Verdict::ok());
    }
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    let minutes = scene.threshold("idle").warn.unwrap_or_default() / 60.0;
    let worst = holders.iter().max_by_key(|(_, count)| **count);
    let mut finding = Finding::new(
        severity,
        "",
        format!("{long} of {} sessions have been idle for more than {minutes:.0} minutes", rows.len()),
    )
    .detail("They hold connection slots and memory, and do nothing with them.")
    .measured("share", share, "%")
    .measured("idle for longest", longest, "s");
    if let Some((holder, count)) = worst {
        finding = finding.saw("most of them by", format!("{holder}: {count}"));
    }
    Ok(Verdict::one(finding.fix(Plan::advice(
        "lower the applications' pool sizes, or let a pooler in transaction mode share sessions; idle_session_timeout (14 and \
         newer) ends forgotten ones, but breaks clients that do not reconnect",
    ))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_slots_held_by_idle_sessions() {
        seeded(&CHECK, |on| {
            let _held: Vec<_> = (0..6).map(|_| on.session("postgres")).collect();
            on.limit("idle", 0.0);
            assert_eq!(on.findings(), [], "six sessions are few");
            on.limit("sessions", 5.0);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.idle_share", "warn"));
            on.limit("idle", 600.0);
            assert_eq!(on.findings(), [], "none is idle for long");
        });
    }
}
