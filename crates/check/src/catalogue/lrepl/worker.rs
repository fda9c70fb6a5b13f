use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "lrepl.worker",
    title: "a subscription receives nothing",
    inspects: "pg_subscription and its workers in pg_stat_subscription; from 15 on errors in pg_stat_subscription_stats",
    why: "One row that cannot be applied stops the whole subscription; it tries again for ever. Meanwhile the publisher keeps all \
          WAL for it until its disk is full.",
    remedy: "Read the error in the subscriber's log; change or remove the row that is in the way, or skip the transaction \
             (ALTER SUBSCRIPTION … SKIP, 15 and newer).",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, Logical Replication, Conflicts",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[
            Sql::since(
                16,
                "SELECT s.subname AS name, d.datname AS database, s.subenabled AS enabled, s.subdisableonerr AS disables, \
                 w.pid, extract(epoch FROM clock_timestamp() - a.backend_start) AS up_s, \
                 e.apply_error_count AS errors, e.sync_error_count AS copy_errors \
                 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                 LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL AND w.leader_pid IS NULL \
                 LEFT JOIN pg_stat_activity a ON a.pid = w.pid \
                 LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid ORDER BY 2, 1",
            ),
            Sql {
                from: 15,
                to: 15,
                text: "SELECT s.subname AS name, d.datname AS database, s.subenabled AS enabled, s.subdisableonerr AS disables, \
                 w.pid, extract(epoch FROM clock_timestamp() - a.backend_start) AS up_s, \
                 e.apply_error_count AS errors, e.sync_error_count AS copy_errors \
                 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                 LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL \
                 LEFT JOIN pg_stat_activity a ON a.pid = w.pid \
                 LEFT JOIN pg_stat_subscription_stats e ON e.subid = s.oid ORDER BY 2, 1",
            },
            Sql::until(
                14,
                "SELECT s.subname AS name, d.datname AS database, s.subenabled AS enabled, false AS disables, \
                 w.pid, extract(epoch FROM clock_timestamp() - a.backend_start) AS up_s, NULL AS errors, NULL AS copy_errors \
                 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                 LEFT JOIN pg_stat_subscription w ON w.subid = s.oid AND w.relid IS NULL \
                 LEFT JOIN pg_stat_activity a ON a.pid = w.pid ORDER BY 2, 1",
            ),
        ],
        judge,
    ),
};

/// A worker that has lived longer than this is not one that fails, is restarted after 5 s and fails again.
const SETTLED_S: f64 = 60.0;

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    if rows.is_empty() {
        return Ok(Verdict::not_applicable("there are no subscriptions"));
    }
    let mut findings = Vec::new();
    for row in rows.iter() {
        findings.extend(subscription(&row)?);
    }
    Ok(Verdict::of(findings))
}

fn subscription(row: &Row<'_>) -> Result<Option<Finding>, RowError> {
    let (name, database) = (row.str("name")?, row.str("database")?);
    let errors = row.opt_i64("errors")?.unwrap_or(0);
    let up = row.opt_f64("up_s")?;
    let object = format!("{database}/{name}");
    let quoted = quote::ident(name);
    let failing = format!(
        "look for the error in this server's log; mend the row or the table, or in the database {database}: ALTER SUBSCRIPTION \
         {quoted} SKIP (lsn = '…') with the LSN from the log (15 and newer)"
    );
    let (finding, advice) = match (row.bool("enabled")?, up) {
        (false, _) if row.bool("disables")? && errors > 0 => (
            Finding::crit(object, format!("subscription {name} was disabled by an error")),
            format!("{failing}; then ALTER SUBSCRIPTION {quoted} ENABLE"),
        ),
        (false, _) => (
            Finding::warn(object, format!("subscription {name} is disabled")),
            format!(
                "ALTER SUBSCRIPTION {quoted} ENABLE in the database {database}, or drop it with its slot on the publisher"
            ),
        ),
        (true, None) => (Finding::crit(object, format!("the worker of subscription {name} is not running")), failing),
        (true, Some(up)) if errors > 0 && up < SETTLED_S => {
            let title = format!(
                "the worker of subscription {name} fails again and again; it started {} ago",
                human_seconds(up)
            );
            (Finding::crit(object, title), failing)
        }
        (true, Some(_)) => return Ok(None),
    };
    let mut finding = finding
        .detail("It applies nothing, and the publisher keeps all WAL for it meanwhile.")
        .saw("database", database)
        .saw("enabled", row.bool("enabled")?);
    if let Some(errors) = row.opt_i64("errors")? {
        finding = finding.saw("apply errors", errors).saw("copy errors", row.opt_i64("copy_errors")?.unwrap_or(0));
    }
    Ok(Some(finding.fix(Plan::advice(advice))))
}

/// Two databases of one server, `source` with a table `t(a int PRIMARY KEY)` that `target` subscribes to.
#[cfg(test)]
pub(crate) fn subscribe(on: &crate::testing::Stage, rows_there: &str, copy: bool) {
    on.server.create_database("source");
    on.server.create_database("target");
    on.server.sql_in(
        "source",
        "CREATE TABLE t(a int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION pub FOR TABLE t",
    );
    on.server.sql_in("source", "SELECT pg_create_logical_replication_slot('sub', 'pgoutput')");
    on.server.sql_in("target", &format!("CREATE TABLE t(a int PRIMARY KEY); {rows_there}"));
    let source = on.server.dsn("source").replace('\'', "''");
    on.server.sql_in(
        "target",
        &format!(
            "CREATE SUBSCRIPTION sub CONNECTION '{source}' PUBLICATION pub \
             WITH (create_slot = false, slot_name = 'sub', copy_data = {copy})"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::{CHECK, subscribe};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_worker_that_cannot_apply() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("wal_level", "logical"),
            |on| {
                subscribe(on, "INSERT INTO t VALUES (2)", false);
                on.until("SELECT count(*) = 1 AS v FROM pg_stat_replication WHERE state = 'streaming'");
                assert_eq!(on.findings(), []);
                on.server.expect_log("duplicate key value");
                on.server.expect_log("conflict detected on relation"); // from 18 on
                on.server.sql_in("source", "INSERT INTO t VALUES (2)");
                let found = on.soon_finds();
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("lrepl.worker:target/sub", "crit"));
                on.server.sql_in("target", "ALTER SUBSCRIPTION sub DISABLE");
                let found = on.findings();
                assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("lrepl.worker:target/sub", "warn"));
            },
        );
    }
}
