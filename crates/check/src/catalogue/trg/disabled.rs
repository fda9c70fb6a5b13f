use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Lock, Plan, Step},
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "trg.disabled",
    title: "a trigger is disabled",
    inspects: "pg_trigger.tgenabled, pg_event_trigger.evtenabled",
    why: "A trigger that somebody disabled for a bulk load and forgot does not write its audit row or keep its rule any more. \
          ALTER TABLE … DISABLE TRIGGER ALL also switches foreign keys off, and then rows without a parent get in unnoticed.",
    remedy: "Enable it again, and check the rows that came in meanwhile; or drop the trigger if nobody needs it.",
    source: "check_postgres disabled_triggers",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all(SQL)], judge),
};

/// A clone on a partition is told only where its parent trigger is enabled.
const SQL: &str = concat!(
    "SELECT n.nspname AS schema, c.relname AS name, t.tgname, t.tgisinternal AS internal, k.conname, \
       k.conrelid = t.tgrelid AS referencing \
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_constraint k ON k.oid = t.tgconstraint AND k.contype = 'f' LEFT JOIN pg_trigger up ON up.oid = t.tgparentid \
     WHERE t.tgenabled = 'D' AND up.tgenabled IS DISTINCT FROM 'D' AND (NOT t.tgisinternal OR k.oid IS NOT NULL) AND ",
    user_schema!("n"),
    " UNION ALL SELECT NULL, NULL, evtname, false, NULL, NULL FROM pg_event_trigger WHERE evtenabled = 'D' ORDER BY 1, 2, 5, 3"
);

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings: Vec<Finding> = Vec::new();
    for row in rows.iter() {
        let found = finding(row)?;
        // A foreign key has several triggers on each of its tables; they belong together.
        match findings.iter_mut().find(|one| one.object == found.object) {
            Some(same) => {
                if let (Some(plan), Some(more)) = (&mut same.fix, found.fix) {
                    plan.steps.extend(more.steps);
                }
            }
            None => findings.push(found),
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(row: Row<'_>) -> Result<Finding, RowError> {
    let trigger = quote::ident(row.str("tgname")?);
    let Some(schema) = row.opt_str("schema")? else {
        let sql = |what: &str| format!("ALTER EVENT TRIGGER {trigger} {what}");
        let step = Step::sql(sql("ENABLE"), Lock::None, "it fires again").takes(0.1).undo_sql(sql("DISABLE"));
        return Ok(Finding::warn(trigger.as_str(), format!("the event trigger {trigger} is disabled"))
            .detail("Schema changes pass it by.")
            .saw("evtenabled", "D")
            .fix(Plan::one(format!("enable {trigger}"), step)));
    };
    let table = quote::qualified(schema, row.str("name")?);
    let sql = |what: &str| format!("ALTER TABLE {table} {what} TRIGGER {trigger}");
    let step = Step::sql(sql("ENABLE"), Lock::ShareRowExclusive, format!("{trigger} fires again on {table}"))
        .takes(0.1)
        .undo_sql(sql("DISABLE"));
    let plan = Plan::one(format!("enable the triggers of {table}"), step);
    if !row.bool("internal")? {
        return Ok(Finding::warn(
            format!("{table}.{trigger}"),
            format!("the trigger {trigger} of {table} is disabled"),
        )
        .detail("What it should do has not happened for the rows that came in since.")
        .saw("tgenabled", "D")
        .fix(plan));
    }
    let constraint = quote::ident(row.str("conname")?);
    let missed = match row.bool("referencing")? {
        true => "new rows are not checked for a parent",
        false => "parents can be deleted while rows still reference them",
    };
    Ok(Finding::new(
        Severity::Crit,
        format!("{table}.{constraint}"),
        format!("the foreign key {constraint} is not enforced on {table}: its triggers are disabled"),
    )
    .detail(format!(
        "PostgreSQL shows the constraint as valid although {missed}. Look for such rows after enabling it."
    ))
    .saw("tgenabled", "D")
    .saw("trigger", row.str("tgname")?)
    .fix(plan))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_core::plan::Action;

    check_tests!(CHECK);

    #[test]
    fn sees_user_event_and_foreign_key_triggers() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
                 CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; \
                 CREATE TABLE p(id int PRIMARY KEY); CREATE TABLE t(id int REFERENCES p); \
                 CREATE TRIGGER audit BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f(); ALTER TABLE p DISABLE TRIGGER audit; \
                 CREATE TRIGGER enabled BEFORE INSERT ON p FOR EACH ROW EXECUTE FUNCTION f(); \
                 ALTER TABLE t DISABLE TRIGGER ALL; CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION e(); \
                 ALTER EVENT TRIGGER ddl DISABLE",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [
                    ("trg.disabled:postgres/public.t.t_id_fkey", "crit"),
                    ("trg.disabled:postgres/ddl", "warn"),
                    ("trg.disabled:postgres/public.p.audit", "warn")
                ]
            );
            for step in found.iter().flat_map(|f| &f.fix.as_ref().unwrap().steps) {
                let Action::Sql { sql, .. } = &step.action else { panic!("{step:?}") };
                on.sql(sql);
            }
            assert_eq!(on.findings(), []);
        });
    }
}
