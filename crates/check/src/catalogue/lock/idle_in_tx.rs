use crate::{
    backend::{Backend, backend},
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "lock.idle_in_tx",
    title: "a session sits idle in an open transaction",
    inspects: "pg_stat_activity: state idle in transaction; pg_locks for what it holds",
    why: "An open transaction keeps its locks, so schema changes and sometimes other sessions wait for it. It also keeps VACUUM \
          from removing any row version that it might still see, in every table.",
    remedy: "Find why the application neither commits nor rolls back; end the session; set idle_in_transaction_session_timeout \
             for its role.",
    source: "check_pgactivity oldest_idlexact; check_postgres txn_idle; pganalyze",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("age", "s", 30.0, 300.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// The longest idle are enough.
const SQL: &str = concat!(
    "WITH idle AS MATERIALIZED (SELECT ",
    backend!("a"),
    ", age(a.backend_xmin) AS holds_back, a.backend_xid IS NOT NULL AS wrote FROM pg_stat_activity a \
       WHERE a.state LIKE 'idle in transaction%' AND a.pid <> pg_backend_pid() ORDER BY a.state_change LIMIT 50), \
     held AS (SELECT l.pid, count(*) AS locks FROM pg_locks l WHERE l.granted AND l.locktype IN ('relation', 'tuple', 'advisory') \
       AND l.pid IN (SELECT pid FROM idle) GROUP BY l.pid) \
     SELECT idle.*, coalesce(held.locks, 0) AS locks FROM idle LEFT JOIN held USING (pid)"
);

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let backend = Backend::read(row)?;
        let age = backend.state_s.unwrap_or(0.0);
        let Some(severity) = scene.grade("age", age) else { continue };
        let mut finding = backend
            .describe(Finding::new(severity, backend.object(), format!("{} is {}", backend.who(), backend.doing())))
            .detail("Its locks stay, and no VACUUM can remove what it might still see.")
            .measured("idle for", age, "s")
            .measured("locks held", row.i64("locks")?, "locks")
            .saw("has written", row.bool("wrote")?);
        if let Some(transactions) = row.opt_i64("holds_back")? {
            finding = finding.measured("holds back VACUUM by", transactions, "transactions");
        }
        let advice = format!(
            "{} ends it and rolls it back; ALTER ROLE {} SET idle_in_transaction_session_timeout = '5min' ends the next one by itself",
            backend.terminate(),
            quote::ident(&backend.role)
        );
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
    fn sees_an_idle_transaction_once_it_is_old() {
        seeded(&CHECK, |on| {
            on.sql("CREATE TABLE t(id int)");
            let (idle, _quiet) = (on.session("postgres"), on.session("postgres"));
            on.run_in(&idle, "BEGIN; INSERT INTO public.t VALUES (1)");
            assert_eq!(on.findings(), [], "half a minute is not over");
            on.limit("age", 0.01);
            let found = on.soon_finds();
            assert_eq!(found.len(), 1, "{found:#?}");
            assert_eq!(found[0].key, format!("lock.idle_in_tx:process {}", idle.backend_pid().unwrap()));
            assert!(found[0].evidence.iter().any(|e| e.name == "locks held" && e.value == 1), "{found:#?}");
            on.run_in(&idle, "COMMIT");
            assert_eq!(on.findings(), []);
        });
    }
}
