use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_count};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "q.rollback",
    title: "many transactions are rolled back",
    inspects: "pg_stat_database: xact_rollback against all transactions since its statistics were reset",
    why: "A rollback is work that was thrown away: an error, a conflict, or an application that uses errors as answers. Each leaves \
          dead rows behind, and a rising share is often the first sign of a broken release.",
    remedy: "Look in the server's log for the errors; replace INSERT and catch by ON CONFLICT; do not roll back after plain reads.",
    source: "check_pgactivity commit_ratio; check_postgres; 10 and 30 per cent",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[
        Threshold::above("share", "%", 10.0, 30.0),
        Threshold::warn_above("transactions", "transactions", 10_000.0),
    ],
    look: Look::Query(
        &[Sql::all(
            "SELECT datname AS database, xact_commit AS committed, xact_rollback AS rolled_back, \
             extract(epoch FROM now() - stats_reset) AS age_s FROM pg_stat_database \
             WHERE datname IS NOT NULL AND xact_rollback > 0 ORDER BY datname",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (committed, rolled_back) = (row.i64("committed")?, row.i64("rolled_back")?);
        let all = committed + rolled_back;
        let percent = 100.0 * rolled_back as f64 / all.max(1) as f64;
        let (Some(severity), Some(_)) = (scene.grade("share", percent), scene.grade("transactions", all as f64)) else {
            continue;
        };
        let database = row.str("database")?;
        let title = format!(
            "{percent:.0} % of the transactions in database {} are rolled back: {}",
            quote::ident(database),
            human_count(rolled_back)
        );
        let mut finding = Finding::new(severity, database, title)
            .detail("Each of them is work that was done and thrown away.")
            .measured("share", percent, "%")
            .measured("rolled back", rolled_back, "transactions")
            .measured("committed", committed, "transactions");
        finding = match row.opt_f64("age_s")? {
            Some(age) => finding.measured("counted for", age, "s"),
            None => finding.saw("counted since", "the database's statistics began; they were never reset"),
        };
        findings.push(finding.fix(Plan::advice(
            "find the errors in the server's log (log_min_error_statement = error), worst first, and mend them in the application",
        )));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_rollbacks_where_there_are_enough_transactions() {
        seeded(&CHECK, |on| {
            on.server.create_database("shop");
            let session = on.session("shop");
            for _ in 0..60 {
                on.run_in(&session, "BEGIN; SELECT 1; ROLLBACK");
                on.run_in(&session, "SELECT 1");
            }
            drop(session);
            on.until("SELECT xact_rollback >= 60 AS v FROM pg_stat_database WHERE datname = 'shop'");
            assert_eq!(on.findings(), [], "ten thousand transactions were not made");
            on.limit("transactions", 100.0);
            let found: Vec<_> = on.findings().into_iter().map(|f| f.key).collect();
            assert_eq!(found, ["q.rollback:shop"]);
        });
    }
}
