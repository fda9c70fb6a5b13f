use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
    size::human_count,
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "vac.disabled_table",
    title: "autovacuum is off for a table",
    inspects: "storage parameters autovacuum_enabled and toast.autovacuum_enabled",
    why: "Often somebody turned it off for a bulk load and forgot to turn it on again. The table then grows with every update \
          and the planner works with old statistics.",
    remedy: "Reset the parameter, unless a job of your own vacuums and analyzes the table.",
    source: "check_pgactivity table_bloat notes; surus",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::warn_above("rows", "rows", 1000.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT coalesce(mn.nspname, n.nspname) AS schema, coalesce(m.relname, c.relname) AS name, c.relkind = 't' AS toast, \
             greatest(c.reltuples, pg_stat_get_live_tuples(c.oid), 0) AS rows, pg_stat_get_dead_tuples(c.oid) AS dead, o.option_value AS value \
             FROM pg_class c CROSS JOIN LATERAL pg_options_to_table(c.reloptions) o JOIN pg_namespace n ON n.oid = c.relnamespace \
             LEFT JOIN pg_class m ON m.reltoastrelid = c.oid AND c.relkind = 't' LEFT JOIN pg_namespace mn ON mn.oid = m.relnamespace \
             WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't' AND c.reloptions IS NOT NULL \
             AND o.option_name = 'autovacuum_enabled' AND lower(o.option_value) ~ '^(f|of|n|0)' ORDER BY 4 DESC",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (count, toast) = (row.f64("rows")?, row.bool("toast")?);
        if scene.grade("rows", count).is_none() {
            continue;
        }
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let (object, option) = match toast {
            true => (format!("{table} (TOAST)"), "toast.autovacuum_enabled"),
            false => (table.clone(), "autovacuum_enabled"),
        };
        let step = Step::sql(
            format!("ALTER TABLE {table} RESET ({option})"),
            Lock::ShareUpdateExclusive,
            "autovacuum looks after the table again",
        );
        let undo = format!("ALTER TABLE {table} SET ({option} = {})", row.str("value")?);
        findings.push(
            Finding::warn(&object, format!("autovacuum is off for {object}"))
                .detail("Unless somebody vacuums and analyzes it by hand, it grows and its statistics grow old.")
                .measured("rows", count, "rows")
                .measured("dead rows", row.i64("dead")?, "rows")
                .saw(option, row.str("value")?)
                .fix(Plan::one(
                    format!("turn autovacuum on for {object} ({} rows)", human_count(count as i64)),
                    step.takes(0.1).undo_sql(undo),
                )),
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
    fn sees_tables_without_autovacuum_and_turns_it_on() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE loaded(a int) WITH (autovacuum_enabled = off, fillfactor = 90); CREATE TABLE small(a int) WITH (autovacuum_enabled = false); \
                 CREATE TABLE fine(a int) WITH (autovacuum_enabled = on); CREATE TABLE texts(a text) WITH (toast.autovacuum_enabled = false); \
                 UPDATE pg_class SET reltuples = 5000 WHERE relname IN ('loaded', 'fine', 'texts') \
                   OR oid = (SELECT reltoastrelid FROM pg_class WHERE relname = 'texts')",
            );
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| f.key.as_str()).collect();
            let expected =
                ["public.loaded", "public.texts (TOAST)"].map(|name| format!("vac.disabled_table:postgres/{name}"));
            assert_eq!(keys, expected);
            for one in &found {
                let surus_core::plan::Action::Sql { sql, .. } = &one.fix.as_ref().unwrap().steps[0].action else {
                    panic!()
                };
                on.sql(sql);
            }
            assert!(on.findings().is_empty());
        });
    }
}
