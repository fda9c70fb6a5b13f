use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    server_log,
    verdict::Verdict,
};
use std::collections::BTreeMap;
use surus_core::{clock, finding::Finding, plan::Plan};
use surus_pg::log_tail::LogEntry;

pub static CHECK: Check = Check {
    id: "vac.cancelled",
    title: "autovacuum of a table is cancelled again and again",
    inspects: "canceling autovacuum task in the last 4 MB of the current log file, up to 24 hours back",
    why: "Autovacuum gives way when a session wants a lock that conflicts with it. A job that takes such locks every few minutes \
          keeps a table from ever being vacuumed.",
    remedy: "Take such locks less often, or vacuum the table by hand at a quiet hour: a manual VACUUM does not give way.",
    source: "pganalyze log insights: autovacuum cancel",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("cancelled", "per day", 3.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let tail = server_log::tail(scene, access).await?;
        let mut tables: BTreeMap<String, Vec<&LogEntry>> = BTreeMap::new();
        for entry in tail.since(clock::now(), server_log::DAY) {
            if let Some(table) = cancelled_table(entry) {
                tables.entry(table).or_default().push(entry);
            }
        }
        let findings = tables.iter().filter_map(|(table, entries)| {
            let severity = scene.grade("cancelled", entries.len() as f64)?;
            let last = entries.last().map(|entry| server_log::when(entry)).unwrap_or_default();
            let finding = Finding::new(severity, table, format!("autovacuum of {table} was cancelled {} times in a day", entries.len()))
                .detail(format!("It was last cancelled {last}; each time it has to start again from the beginning."))
                .measured("cancelled", entries.len(), "times")
                .fix(Plan::advice(format!(
                    "find what locks {table} (ALTER TABLE, CREATE INDEX, LOCK TABLE and TRUNCATE do) and let it run less often; meanwhile VACUUM \
                     the table by hand, which does not give way"
                )));
            Some(server_log::from_log(finding, &tail))
        });
        Ok(Verdict::of(findings.collect()))
    })
}

/// The table, as `database.schema.table`, whose autovacuum an entry says was cancelled.
fn cancelled_table(entry: &LogEntry) -> Option<String> {
    if !entry.message.starts_with("canceling autovacuum task") {
        return None;
    }
    let context = entry.context.as_deref()?;
    // The last line names the table, whatever the worker was doing: automatic vacuum of table "db.schema.t".
    let (_, rest) = context.lines().last()?.split_once('"')?;
    Some(rest.rsplit_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_table_whose_vacuum_gave_way() {
        let slow = [
            ("autovacuum_naptime", "1s"),
            ("autovacuum_vacuum_cost_delay", "100ms"),
            ("autovacuum_vacuum_cost_limit", "1"),
            ("deadlock_timeout", "10ms"),
        ];
        seeded_on(
            &CHECK,
            |builder| slow.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)),
            |on| {
                on.sql("CREATE TABLE t(a int, b text); INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 20000) g");
                on.sql("DELETE FROM t WHERE a % 2 = 0");
                on.server.expect_log("canceling autovacuum task");
                assert!(on.findings().is_empty());
                on.until("SELECT count(*) > 0 AS v FROM pg_locks WHERE relation = 't'::regclass AND mode = 'ShareUpdateExclusiveLock'");
                on.sql("BEGIN; LOCK TABLE t IN SHARE MODE; COMMIT");
                assert!(on.findings().is_empty(), "once is nothing");
                on.limit("cancelled", 1.0);
                let found = on.soon_finds();
                assert_eq!(
                    found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                    ["vac.cancelled:postgres.public.t"]
                );
            },
        );
    }
}
