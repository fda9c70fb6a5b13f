use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "conn.saturation",
    title: "few connection slots are left",
    inspects: "pg_stat_activity against max_connections less the reserved slots",
    why: "When the last slot is taken, every further client is refused, and the application is down although the \
          database is well.",
    remedy: "Put a transaction pooler in front, end sessions that are idle, and only then raise max_connections: every slot \
             costs memory and slows down snapshots.",
    source: "check_pgactivity backends; check_postgres backends; pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("used", "%", 75.0, 90.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT count(*) AS used, count(*) FILTER (WHERE state = 'idle') AS idle, \
             count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction \
             FROM pg_stat_activity WHERE backend_type = 'client backend'",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let used = row.i64("used")?;
    let reserved = scene.number("superuser_reserved_connections")?
        + scene.settings().number("reserved_connections").unwrap_or(0.0);
    let slots = (scene.number("max_connections")? - reserved).max(1.0);
    let percent = 100.0 * used as f64 / slots;
    let Some(severity) = scene.grade("used", percent) else { return Ok(Verdict::ok()) };
    let advice = "put a transaction pooler in front of the server, or end the sessions that are idle";
    Ok(Verdict::one(
        Finding::new(severity, "", format!("{used} of {slots:.0} connection slots are taken ({percent:.0} %)"))
            .detail("When the last one is taken, new clients are refused with \"sorry, too many clients already\".")
            .measured("used", percent, "%")
            .saw("sessions", used)
            .saw("idle", row.i64("idle")?)
            .saw("idle in transaction", row.i64("idle_in_transaction")?)
            .saw("slots without the reserved ones", slots)
            .fix(Plan::advice(advice)),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_slots_running_out() {
        seeded(&CHECK, |on| {
            on.configure(&[
                ("max_connections", "10"),
                ("max_wal_senders", "0"),
                ("superuser_reserved_connections", "2"),
            ]);
            let _held: Vec<_> = (0..6).map(|_| on.session("postgres")).collect();
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].severity.word(), "warn");
        });
    }
}
