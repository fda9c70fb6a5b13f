use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    vacuum::horizon_holders,
    verdict::{Judged, Verdict},
};
use std::collections::BTreeSet;
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    size::{human_count, human_seconds},
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "vac.horizon",
    title: "VACUUM is held back",
    inspects: "the oldest snapshot of each class: pg_stat_activity, pg_prepared_xacts, pg_replication_slots, pg_stat_replication",
    why: "VACUUM may not remove a dead row while somebody could still look at it. One old snapshot anywhere makes dead rows pile \
          up in every table, and queries slow down without any change of their own.",
    remedy: "End the session, decide about the prepared transaction, drop or catch up the slot, or shorten queries on the \
             standby, whichever holds.",
    source: "check_pgactivity oldest_xmin and issue 201; postgres_ai checkup; surus",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[
        Threshold::above("held", "s", 600.0, 3600.0),
        Threshold::above("transactions", "transactions", 10e6, 200e6),
    ],
    look: Look::Query(
        &[Sql::all(concat!(
            "SELECT class, name, pid, who, app, database, query, since_s, xids FROM (",
            horizon_holders!(),
            ") holders ORDER BY since_s DESC NULLS LAST, xids DESC"
        ))],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut seen = BTreeSet::new();
    let mut findings = Vec::new();
    for row in rows.iter() {
        let since_s = row.opt_f64("since_s")?;
        // Where no time is known, the number of transactions since has to do.
        let severity = match since_s {
            Some(seconds) => scene.grade("held", seconds),
            None => scene.grade("transactions", row.opt_f64("xids")?.unwrap_or(0.0)),
        };
        let (class, name) = (row.str("class")?, row.opt_str("name")?);
        let object = name.map_or_else(|| class.to_owned(), |name| format!("{class} {name}"));
        if let Some(severity) = severity
            && seen.insert(object.clone())
        {
            findings.push(finding(severity, object, row)?);
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(severity: Severity, object: String, row: Row<'_>) -> Result<Finding, RowError> {
    let class = row.str("class")?;
    let xids = row.opt_i64("xids")?.unwrap_or(0);
    let pid = row.opt_i64("pid")?;
    let article = match class {
        "query" => "a running query".to_owned(),
        "idle in transaction" => "a session that is idle in a transaction".to_owned(),
        "standby feedback" => format!("feedback of the standby {}", row.text("name")?),
        other => format!("the {other} {}", row.text("name")?),
    };
    let how_long = match row.opt_f64("since_s")? {
        Some(seconds) => format!("for {}", human_seconds(seconds)),
        None => format!("for {} transactions", human_count(xids)),
    };
    let mut finding = Finding::new(severity, object, format!("{article} has held back VACUUM {how_long}"))
        .detail("Rows that died since then stay in all tables, and indexes keep pointing to them.")
        .measured("transactions since", xids, "transactions");
    if let Some(seconds) = row.opt_f64("since_s")? {
        finding = finding.measured("held", seconds, "s");
    }
    for (name, column) in [("role", "who"), ("application", "app"), ("database", "database"), ("query", "query")] {
        if let Some(value) = row.opt_str(column)?.filter(|value| !value.is_empty()) {
            finding = finding.saw(name, value);
        }
    }
    if let Some(pid) = pid {
        finding = finding.saw("process id", pid);
    }
    Ok(finding.fix(advice(class, row.opt_str("name")?.unwrap_or_default(), pid.unwrap_or(0))))
}

fn advice(class: &str, name: &str, pid: i64) -> Plan {
    let quoted = quote::literal(name);
    Plan::advice(match class {
        "query" => format!(
            "if it may be ended: SELECT pg_cancel_backend({pid}); long reports do better on a standby without hot_standby_feedback"
        ),
        "idle in transaction" => format!(
            "SELECT pg_terminate_backend({pid}), and set idle_in_transaction_session_timeout for the application's role"
        ),
        "prepared transaction" => format!("ask its transaction coordinator, then COMMIT PREPARED {quoted} or ROLLBACK PREPARED {quoted}"),
        "slot" => format!(
            "let its consumer catch up; if there is none any more: SELECT pg_drop_replication_slot({quoted})"
        ),
        _ => "end long queries on the standby, or set hot_standby_feedback = off there and accept that they may be cancelled".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_each_class_of_holder() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("max_prepared_transactions", "5").setting("wal_level", "logical"),
            |on| {
                on.sql("CREATE TABLE t(a int)");
                on.sql("SELECT pg_create_logical_replication_slot('behind', 'pgoutput')");
                on.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'stuck'");
                let idle = on.session("postgres");
                on.run_in(&idle, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM public.t");
                on.start_in_background("SELECT pg_sleep(60)");
                on.until("SELECT count(*) = 1 AS v FROM pg_stat_activity WHERE wait_event = 'PgSleep'");
                assert!(on.findings().is_empty(), "all of them are young");
                on.limit("held", 0.0);
                on.limit("transactions", 0.0);
                let found = on.findings();
                let mut keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
                keys.sort_unstable();
                let expected = ["idle in transaction", "prepared transaction stuck", "query", "slot behind"]
                    .map(|c| format!("vac.horizon:{c}"));
                assert_eq!(keys, expected);
                assert!(found.iter().all(|f| !f.fix.as_ref().unwrap().is_applicable()));
            },
        );
    }

    #[test]
    fn sees_the_feedback_of_a_standby() {
        seeded(&CHECK, |on| {
            if on.major() != 15 {
                return;
            }
            on.sql("CREATE TABLE t(a int)");
            let standby = on
                .server
                .standby_named("reports", &[("hot_standby_feedback", "on"), ("wal_receiver_status_interval", "1")]);
            standby.wait_caught_up(&on.server);
            on.until("SELECT count(xmin) = 1 AS v FROM pg_replication_slots");
            on.limit("transactions", 0.0);
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["vac.horizon:standby feedback reports"]
            );
        });
    }
}
