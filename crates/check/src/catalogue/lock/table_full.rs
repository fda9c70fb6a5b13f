use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Interruption, Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "lock.table_full",
    title: "the shared lock table fills up",
    inspects: "pg_locks outside the fast path against max_locks_per_transaction and the number of possible backends",
    why: "All sessions share one table of locks. When it is full any statement can fail with \"out of shared memory\", and those \
          that fail are rarely those that filled it.",
    remedy: "Lock fewer objects in one transaction: queries that prune partitions, dumps in pieces. Or raise \
             max_locks_per_transaction, which takes a restart.",
    source: "PostgreSQL documentation, max_locks_per_transaction; size of the table as in the server's NLOCKENTS",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("used", "%", 50.0, 80.0)],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// One entry for each object, however many hold it. Predicate locks have a table of their own.
const SQL: &str = "WITH l AS MATERIALIZED (SELECT * FROM pg_locks WHERE NOT fastpath AND mode <> 'SIReadLock'), \
    most AS (SELECT pid, count(*) AS locks FROM l GROUP BY pid ORDER BY 2 DESC LIMIT 1) \
    SELECT (SELECT count(*) FROM (SELECT DISTINCT locktype, database, relation, page, tuple, virtualxid, transactionid::text, \
        classid, objid, objsubid FROM l) o) AS entries, \
      (SELECT count(*) FROM l WHERE locktype = 'relation' AND mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')) AS missed, \
      most.pid, most.locks, a.usename AS role FROM (SELECT 1) one LEFT JOIN most ON true LEFT JOIN pg_stat_activity a ON a.pid = most.pid";

/// The entries that the server reserves. A standby applies locks within the same table.
fn capacity(scene: &Scene<'_>) -> Result<f64, Reason> {
    let workers = if scene.major() >= 18 { "autovacuum_worker_slots" } else { "autovacuum_max_workers" };
    let backends = scene.number("max_connections")?
        + scene.number(workers)?
        + 1.0
        + scene.number("max_worker_processes")?
        + scene.number("max_wal_senders")?;
    Ok(scene.number("max_locks_per_transaction")? * (backends + scene.number("max_prepared_transactions")?))
}

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (entries, capacity) = (row.i64("entries")?, capacity(scene)?);
    let percent = 100.0 * entries as f64 / capacity;
    let Some(severity) = scene.grade("used", percent) else { return Ok(Verdict::ok()) };
    let setting = "max_locks_per_transaction";
    let now = scene.number(setting)?;
    let step =
        Step::setting(setting, format!("{:.0}", now * 2.0), "the lock table is twice as large after the next restart")
            .interrupts(Interruption::Restart);
    let mut finding = Finding::new(
        severity,
        "",
        format!("{entries} of about {capacity:.0} entries of the lock table are taken ({percent:.0} %)"),
    )
    .detail("When none is left, statements of any session fail with \"out of shared memory\".")
    .measured("used", percent, "%")
    .measured("entries", entries, "entries")
    .measured("weak relation locks outside the fast path", row.i64("missed")?, "locks")
    .saw(format!("setting {setting}"), now);
    if let Some(pid) = row.opt_i64("pid")? {
        finding = finding.saw("process that holds most", pid).saw("its role", row.text("role")?).measured(
            "its locks",
            row.i64("locks")?,
            "locks",
        );
    }
    Ok(Verdict::one(finding.fix(Plan::one(format!("double {setting}"), step))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_one_transaction_that_locks_hundreds_of_tables() {
        seeded(&CHECK, |on| {
            on.configure(&[
                ("max_connections", "10"),
                ("max_wal_senders", "0"),
                ("max_locks_per_transaction", "10"),
                ("superuser_reserved_connections", "1"),
            ]);
            on.sql("DO $$ BEGIN FOR i IN 1..150 LOOP EXECUTE 'CREATE TABLE t' || i || '()'; IF i % 50 = 0 THEN COMMIT; END IF; END LOOP; END $$");
            let holder = on.session("postgres");
            assert_eq!(on.findings(), []);
            let tables: Vec<_> = (1..=150).map(|i| format!("public.t{i}")).collect();
            on.run_in(&holder, &format!("BEGIN; LOCK {}", tables.join(", ")));
            // The number of autovacuum workers that a major allows for decides how large the table is.
            on.limit("used", 40.0);
            let found = on.findings();
            assert_eq!(found.len(), 1);
            let holds_most = found[0].evidence.iter().find(|e| e.name == "process that holds most").unwrap();
            assert_eq!(holds_most.value, holder.backend_pid().unwrap());
            assert!(found[0].fix.as_ref().unwrap().is_applicable());
        });
    }
}
