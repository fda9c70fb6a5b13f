use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::{Rows, quote};

/// What all majors have.
macro_rules! sync_columns {
    () => {
        "s.subname AS subscription, n.nspname AS schema, c.relname AS name, r.srsubstate AS state, \
         extract(epoch FROM clock_timestamp() - ca.backend_start) AS copying_s, \
         extract(epoch FROM clock_timestamp() - aa.backend_start) AS applying_s \
         FROM pg_subscription_rel r JOIN pg_subscription s ON s.oid = r.srsubid \
         JOIN pg_class c ON c.oid = r.srrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_stat_subscription cw ON cw.subid = s.oid AND cw.relid = r.srrelid \
         LEFT JOIN pg_stat_activity ca ON ca.pid = cw.pid \
         LEFT JOIN (SELECT subid, min(pid) AS pid FROM pg_stat_subscription WHERE relid IS NULL GROUP BY subid) aw \
           ON aw.subid = s.oid \
         LEFT JOIN pg_stat_activity aa ON aa.pid = aw.pid"
    };
}

/// Tables of enabled subscriptions that are not ready.
macro_rules! sync_where {
    () => {
        " WHERE r.srsubstate <> 'r' AND s.subenabled ORDER BY 3, 4"
    };
}

pub static CHECK: Check = Check {
    id: "lrepl.sync",
    title: "a subscribed table is not copied yet",
    inspects: "pg_subscription_rel, the workers that copy tables, and from 15 on their errors",
    why: "Until the first copy of a table is through, the subscriber has only part of it, and no change of it is applied. A copy \
          that fails starts again from nothing each time.",
    remedy: "Read in the subscriber's log why the copy fails or what it waits for; then let it run, or drop the table from the \
             publication and add it again.",
    source: "pgEdge pg-healthcheck; one hour",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[Threshold::warn_above("waiting", "s", 3600.0)],
    look: Look::Query(
        &[
            Sql::since(
                15,
                concat!(
                    "SELECT e.sync_error_count AS errors, ",
                    sync_columns!(),
                    " \
                LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid ",
                    sync_where!()
                ),
            ),
            Sql::until(14, concat!("SELECT NULL AS errors, ", sync_columns!(), sync_where!())),
        ],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut verdict = Verdict::ok();
    for row in rows.iter() {
        let (table, subscription) = (quote::qualified(row.str("schema")?, row.str("name")?), row.str("subscription")?);
        let (copying, applying) = (row.opt_f64("copying_s")?, row.opt_f64("applying_s")?);
        let errors = row.opt_i64("errors")?.unwrap_or(0);
        let Some(waiting) = copying.or(applying) else {
            let why = format!("the worker of subscription {subscription} is not running; see lrepl.worker");
            verdict = verdict.but_unknown(table, Reason::Statistics(why));
            continue;
        };
        // The errors are the subscription's; a copy that has run for a minute is not the one that fails.
        let failing = errors > 0 && copying.is_none_or(|copying| copying < 60.0);
        let severity = if failing { Some(Severity::Warn) } else { scene.grade("waiting", waiting) };
        let Some(severity) = severity else { continue };
        let title = match (failing, copying) {
            (true, _) => {
                format!("{table} is not copied yet; subscription {subscription} has failed to copy {errors} times")
            }
            (false, Some(_)) => format!("{table} is being copied by {subscription} for {}", human_seconds(waiting)),
            (false, None) => {
                format!("{table} has waited for its copy by {subscription} for {}", human_seconds(waiting))
            }
        };
        verdict.findings.push(
            Finding::new(severity, table.as_str(), title)
                .detail("The table is incomplete here, and its changes are not applied.")
                .saw("state", row.str("state")?)
                .saw("errors", errors)
                .measured("waiting", waiting, "s")
                .fix(Plan::advice(
                    "look in this server's log for the error of the table synchronization worker; rows that are here already \
                     are the usual one (TRUNCATE the copy), too few max_sync_workers_per_subscription the next",
                )),
        );
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::{catalogue::lrepl::worker::subscribe, testing::*};

    check_tests!(CHECK);

    #[test]
    fn sees_a_table_that_cannot_be_copied() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("wal_level", "logical"),
            |on| {
                on.server.expect_log("duplicate key value");
                subscribe(on, "INSERT INTO t VALUES (1)", true);
                if on.major() < 15 {
                    on.limit("waiting", 0.0);
                }
                let found = on.soon_finds();
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("lrepl.sync:target/public.t", "warn"));
                on.server.sql_in("target", "TRUNCATE t");
                let copied = "SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE state = 'streaming'";
                on.until(copied);
                on.soon_quiet();
            },
        );
    }
}
