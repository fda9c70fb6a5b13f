use crate::{
    index::estimated_bytes,
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
    size::human_count,
};
use surus_pg::{Row, RowError, Rows, quote};

/// `$moved` is how many updates had to go to another page, where the major counts them.
macro_rules! updated_tables {
    ($moved:literal) => {
        concat!(
            "SELECT n.nspname AS schema, c.relname AS name, q.updated, pg_stat_get_tuples_hot_updated(c.oid) AS hot, ",
            $moved,
            " AS moved, greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 1) AS rows, c.reloptions AS options, ",
            estimated_bytes!("c"),
            " AS bytes, (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid) AS indexes \
             FROM (SELECT oid, pg_stat_get_tuples_updated(oid) AS updated FROM pg_class WHERE relkind = 'r' AND relhasindex AND relpersistence <> 't' OFFSET 0) q \
             JOIN pg_class c ON c.oid = q.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE q.updated >= 1000 AND ",
            user_schema!("n"),
            " ORDER BY q.updated DESC"
        )
    };
}

pub static CHECK: Check = Check {
    id: "hot.low",
    title: "updates write all indexes",
    inspects: "heap-only updates against all updates of each table; from PostgreSQL 16 on also updates that had to go to another page",
    why: "An update that changes no indexed column and finds room on the same page leaves the indexes alone (HOT). Every other update \
          adds an entry to each index, writes more WAL, and leaves more for VACUUM.",
    remedy: "Leave room on each page with a lower fillfactor, or drop an index on a column that is updated all the time.",
    source: "PostgreSQL documentation, Heap-Only Tuples; pganalyze HOT updates",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[
        Threshold::warn_below("hot", "%", 50.0),
        Threshold::warn_above("updates", "rows", 100_000.0),
        Threshold::warn_above("updates_per_row", "updates", 0.5),
    ],
    look: Look::Query(
        &[
            Sql::since(16, updated_tables!("pg_stat_get_tuples_newpage_updated(c.oid)")),
            Sql::until(15, updated_tables!("NULL")),
        ],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (updated, hot) = (row.f64("updated")?, row.f64("hot")?);
        let percent = 100.0 * hot / updated.max(1.0);
        let per_row = updated / row.f64("rows")?.max(1.0);
        let heavy = scene.grade("updates", updated).is_some() && scene.grade("updates_per_row", per_row).is_some();
        let Some(severity) = scene.grade("hot", percent).filter(|_| heavy) else { continue };
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let title =
            format!("only {percent:.0} % of {} updates of {table} left its indexes alone", human_count(updated as i64));
        let mut finding = Finding::new(severity, &table, title)
            .detail(format!("The others wrote to all {} of its indexes.", row.i64("indexes")?))
            .measured("updates", updated, "rows")
            .measured("heap-only updates", hot, "rows")
            .measured("indexes", row.i64("indexes")?, "indexes")
            .measured("fillfactor", fillfactor(row)?, "%");
        if let Some(moved) = row.opt_f64("moved")? {
            finding = finding.measured("updates that went to another page", moved, "rows");
        }
        findings.push(finding.fix(fix(&table, row, updated - hot)?));
    }
    Ok(Verdict::of(findings))
}

fn fillfactor(row: Row<'_>) -> Result<i64, RowError> {
    let options = row.list("options")?;
    Ok(options.iter().find_map(|option| option.strip_prefix("fillfactor=")?.parse().ok()).unwrap_or(100))
}

/// Room on the page helps where updates had to leave it; else an indexed column changes.
fn fix(table: &str, row: Row<'_>, written: f64) -> Result<Plan, RowError> {
    let now = fillfactor(row)?;
    let lower = if now > 90 { 90 } else { 80 };
    let indexed = format!(
        "see which indexed column of {table} the updates change (pg_stat_statements), and whether that index is worth it"
    );
    let room = match row.opt_f64("moved")? {
        Some(moved) => moved >= 0.5 * written,
        None => true,
    };
    if !room || now <= lower {
        return Ok(Plan::advice(indexed));
    }
    let undo = match now {
        100 => format!("ALTER TABLE {table} RESET (fillfactor)"),
        now => format!("ALTER TABLE {table} SET (fillfactor = {now})"),
    };
    let step = Step::sql(
        format!("ALTER TABLE {table} SET (fillfactor = {lower})"),
        Lock::ShareUpdateExclusive,
        format!("pages written from now on keep {} % free for updates", 100 - lower),
    );
    Ok(Plan::new(
        format!("leave room for updates on the pages of {table}"),
        vec![step.takes(0.1).undo_sql(undo), Step::manual(format!("if that does not help, {indexed}"))],
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_updates_that_write_all_indexes() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql(
                    "CREATE TABLE cold(id int PRIMARY KEY, a int); CREATE INDEX ON cold(a); CREATE TABLE warm(id int PRIMARY KEY, a int) WITH (fillfactor = 40); \
                     INSERT INTO cold SELECT g, g FROM generate_series(1, 3000) g; INSERT INTO warm SELECT g, g FROM generate_series(1, 3000) g",
                );
                on.sql("UPDATE cold SET a = a + 1; UPDATE warm SET a = a + 1");
                on.until("SELECT pg_stat_get_tuples_updated('cold'::regclass) = 3000 AND pg_stat_get_tuples_updated('warm'::regclass) = 3000 AS v");
                assert!(on.findings().is_empty(), "too few updates to matter");
                on.limit("updates", 1000.0);
                let found = on.findings();
                assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["hot.low:postgres/public.cold"]);
                let surus_core::plan::Action::Sql { sql, .. } = &found[0].fix.as_ref().unwrap().steps[0].action else {
                    panic!()
                };
                assert_eq!(sql, "ALTER TABLE public.cold SET (fillfactor = 90)");
                on.sql(sql);
            },
        );
    }
}
