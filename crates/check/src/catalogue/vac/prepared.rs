use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "vac.prepared",
    title: "a prepared transaction is forgotten",
    inspects: "pg_prepared_xacts",
    why: "A prepared transaction keeps its locks and holds back VACUUM until somebody commits or rolls it back, even across a \
          restart of the server. No session belongs to it, so nobody notices.",
    remedy: "Ask the transaction coordinator what became of it, then commit it or roll it back.",
    source: "check_postgres prepared_txns; check_pgactivity pga_version 2pc",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::above("age", "s", 300.0, 3600.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT gid, database, owner, extract(epoch FROM clock_timestamp() - prepared) AS seconds, age(transaction) AS xids, \
             (SELECT count(*) FROM pg_locks l WHERE l.virtualtransaction IN (SELECT o.virtualtransaction \
               FROM pg_locks o WHERE o.pid IS NULL AND o.locktype = 'transactionid' AND o.transactionid = p.transaction)) AS locks \
             FROM pg_prepared_xacts p ORDER BY prepared",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (gid, seconds) = (row.str("gid")?, row.f64("seconds")?);
        let Some(severity) = scene.grade("age", seconds) else { continue };
        let (literal, database) = (quote::literal(gid), row.str("database")?);
        let advice = format!(
            "after asking its coordinator, in database {}: COMMIT PREPARED {literal} or ROLLBACK PREPARED {literal}",
            quote::ident(database)
        );
        findings.push(
            Finding::new(
                severity,
                gid,
                format!("the transaction {literal} has been prepared for {}", human_seconds(seconds)),
            )
            .detail("It keeps its locks and holds back VACUUM in its database until it is committed or rolled back.")
            .measured("age", seconds, "s")
            .measured("transactions since", row.i64("xids")?, "transactions")
            .measured("locks held", row.i64("locks")?, "locks")
            .saw("database", database)
            .saw("owner", row.str("owner")?)
            .fix(Plan::advice(advice)),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_forgotten_transaction() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("max_prepared_transactions", "5"),
            |on| {
                on.sql("CREATE TABLE t(a int)");
                on.sql("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'it''s'");
                assert!(on.findings().is_empty(), "it is young");
                on.limit("age", 0.0);
                let found = on.findings();
                assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["vac.prepared:it's"]);
                let locks = found[0].evidence.iter().find(|e| e.name == "locks held").unwrap();
                assert!(locks.value.as_i64().unwrap() > 0, "{locks:?}");
                on.sql("ROLLBACK PREPARED 'it''s'");
            },
        );
    }
}
