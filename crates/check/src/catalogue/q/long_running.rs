use crate::{
    backend::{Backend, backend},
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "q.long_running",
    title: "a statement has been running for long",
    inspects: "pg_stat_activity: active client sessions; maintenance commands, COPY and dumps are left out",
    why: "A statement that never ends takes a core and a connection, holds its locks, and keeps VACUUM from cleaning any table. \
          Often its client has long given up.",
    remedy: "Ask whose it is; cancel it if nobody waits for it. Give its role a statement_timeout.",
    source: "check_pgactivity longest_query; pganalyze (30 and 60 minutes); shorter here, as for short transactions",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("age", "s", 300.0, 1800.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

const SQL: &str = concat!(
    "SELECT ",
    backend!("a"),
    ", a.wait_event_type, a.wait_event, age(a.backend_xmin) AS holds_back FROM pg_stat_activity a \
     WHERE a.state = 'active' AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() \
     AND a.application_name NOT IN ('pg_dump', 'pg_dumpall', 'pg_restore', 'vacuumdb', 'reindexdb') \
     AND a.query !~* '^\\s*(vacuum|analyze|reindex|cluster|create\\s+(unique\\s+)?index|refresh|copy|alter|start_replication|listen)\\M' \
     ORDER BY a.query_start LIMIT 50"
);

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let backend = Backend::read(row)?;
        let age = backend.query_s.unwrap_or(0.0);
        let Some(severity) = scene.grade("age", age) else { continue };
        let mut finding = backend
            .describe(Finding::new(severity, backend.object(), format!("{} is {}", backend.who(), backend.doing())))
            .detail(backend.query.as_str());
        if let (Some(kind), Some(event)) = (row.opt_str("wait_event_type")?, row.opt_str("wait_event")?) {
            finding = finding.saw("waits for", format!("{kind}: {event}"));
        }
        if let Some(transactions) = row.opt_i64("holds_back")? {
            finding = finding.measured("holds back VACUUM by", transactions, "transactions");
        }
        let advice = format!("if nobody waits for its result: {}", backend.cancel());
        findings.push(finding.fix(Plan::advice(advice)));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_an_old_statement_but_no_idle_session() {
        seeded(&CHECK, |on| {
            let _idle = on.session("postgres");
            on.start_in_background("SELECT pg_sleep(600)");
            on.until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep') AS v");
            assert_eq!(on.findings(), []);
            on.limit("age", 0.01);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.detail.as_str()).collect::<Vec<_>>(), ["SELECT pg_sleep(600)"]);
            assert!(found[0].title.contains("application app) is running one statement for"), "{}", found[0].title);
        });
    }
}
