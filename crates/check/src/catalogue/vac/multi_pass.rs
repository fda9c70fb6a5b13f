use crate::{
    index::size,
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    vacuum::{Tended, tended},
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "vac.multi_pass",
    title: "VACUUM reads the indexes several times",
    inspects: "pg_stat_progress_vacuum.index_vacuum_count; before PostgreSQL 17 also dead rows at the trigger of autovacuum against \
               autovacuum_work_mem",
    why: "VACUUM notes dead rows in memory. When the memory is full it reads all indexes of the table, and starts again; with large \
          indexes each further pass can take hours.",
    remedy: "Let autovacuum come to the table earlier, so that fewer rows are dead, or give it more memory.",
    source: "PostgreSQL documentation, autovacuum_work_mem: 6 bytes for each dead row, at most 1 GB before 17",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[
            // From 17 on dead rows are kept in a tree whose size depends on where they lie: only what
            // runs can be judged.
            Sql::since(
                17,
                concat!(
                    "SELECT q.*, p.index_vacuum_count AS passes FROM (",
                    tended!("c.oid, "),
                    "WHERE c.relkind IN ('r', 'm', 't') AND c.oid IN (SELECT relid FROM pg_stat_progress_vacuum)) q \
                     JOIN pg_stat_progress_vacuum p ON p.relid = q.oid AND p.datname = current_database() AND p.index_vacuum_count > 1"
                ),
            ),
            Sql::until(
                16,
                concat!(
                    "SELECT q.*, p.index_vacuum_count AS passes FROM (",
                    tended!("c.oid, "),
                    "WHERE c.relkind IN ('r', 'm', 't') AND c.relhasindex AND (c.reltuples >= 1000000 OR c.oid IN (SELECT relid FROM pg_stat_progress_vacuum))) q \
                     LEFT JOIN pg_stat_progress_vacuum p ON p.relid = q.oid AND p.datname = current_database() \
                     WHERE q.rows >= 1000000 OR p.index_vacuum_count > 1"
                ),
            ),
        ],
        judge,
    ),
};

/// One dead row's place in memory before 17, in bytes, and the most memory that was used for them.
const BYTES_PER_DEAD_ROW: f64 = 6.0;
const MOST_MEMORY: f64 = 1_073_741_823.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let memory = memory(scene)?;
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = Tended::read(row)?;
        let running = row.opt_i64("passes")?.unwrap_or(0);
        let due = table.due_at(scene)?;
        let expected = if scene.major() < 17 { passes(due, memory) } else { 0.0 };
        let object = table.object();
        let title = match running {
            2.. => format!("a vacuum of {object} that runs now has read all its indexes {running} times"),
            _ if expected > 1.0 => format!("autovacuum of {object} will read all its indexes {expected:.0} times"),
            _ => continue,
        };
        findings.push(
            Finding::warn(&object, title)
                .detail(format!("Dead rows do not fit into the {} that a worker has for them.", size(memory)))
                .measured("autovacuum is due at", due, "rows")
                .measured("memory of a worker", memory, "bytes")
                .measured("passes so far", running, "passes")
                .measured("expected passes", expected, "passes")
                .fix(fix(scene, &table, memory)?),
        );
    }
    Ok(Verdict::of(findings))
}

/// What an autovacuum worker has for dead rows, in bytes.
fn memory(scene: &Scene<'_>) -> Result<f64, Reason> {
    let own = scene.bytes("autovacuum_work_mem")?;
    let bytes = own.map_or_else(|| scene.bytes("maintenance_work_mem"), |own| Ok(Some(own)))?;
    let bytes = bytes.unwrap_or(65_536) as f64;
    Ok(if scene.major() < 17 { bytes.min(MOST_MEMORY) } else { bytes })
}

fn passes(dead: f64, memory: f64) -> f64 {
    (dead * BYTES_PER_DEAD_ROW / memory).ceil()
}

fn fix(scene: &Scene<'_>, table: &Tended, memory: f64) -> Result<Plan, Reason> {
    let wanted = size(table.due_at(scene)? * BYTES_PER_DEAD_ROW);
    let more = format!("where memory allows (each worker may use it), raise autovacuum_work_mem, up to {wanted}");
    let factor = (0.9 * memory / BYTES_PER_DEAD_ROW / table.rows.max(1.0) * 1000.0).floor() / 1000.0;
    if scene.major() >= 17 || factor < 0.002 || factor >= table.scale_factor(scene)? {
        return Ok(Plan::advice(more));
    }
    let steps = vec![table.scale_factor_step(factor.min(0.2)), Step::manual(format!("or instead, {more}"))];
    Ok(Plan::new(format!("let autovacuum come to {} while its dead rows still fit", table.table), steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn counts_passes() {
        assert_eq!(passes(11_000_000.0, 64.0 * 1024.0 * 1024.0), 1.0);
        assert_eq!(passes(200_000_000.0, 64.0 * 1024.0 * 1024.0), 18.0);
    }

    /// From 17 on only a running vacuum can be judged, and one that takes two passes takes too much data for a test.
    #[test]
    fn sees_dead_rows_that_will_not_fit() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE large(a int PRIMARY KEY); CREATE TABLE without_index(a int); CREATE TABLE medium(a int PRIMARY KEY); \
                 UPDATE pg_class SET reltuples = 200000000 WHERE relname IN ('large', 'without_index'); \
                 UPDATE pg_class SET reltuples = 10000000 WHERE relname = 'medium'",
            );
            let found = on.findings();
            if on.major() >= 17 {
                assert!(found.is_empty());
                return;
            }
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["vac.multi_pass:postgres/public.large"]
            );
            assert!(found[0].title.contains("4 times"), "{}", found[0].title);
            let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                panic!()
            };
            assert_eq!(sql, "ALTER TABLE public.large SET (autovacuum_vacuum_scale_factor = 0.05)");
            on.sql(sql);
            assert!(on.findings().is_empty());
        });
    }
}
