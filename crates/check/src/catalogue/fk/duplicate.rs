use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "fk.duplicate",
    title: "two foreign keys say the same",
    inspects: "pg_constraint: foreign keys of one table with the same columns and the same referenced columns",
    why: "Every write to either table checks both constraints, so the work is done twice. If their ON DELETE or ON UPDATE \
          actions differ, which one wins depends on their names.",
    remedy: "Drop one of them; keep the validated one with the action that is meant.",
    source: "pg-index-health duplicated foreign keys",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all(PAIRS)], judge),
};

/// Pairs of a constraint and the one it repeats. The order of the columns does not matter, the pairing does; the
/// validated and older one is the one to keep.
const PAIRS: &str = concat!(
    "WITH fk AS (SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.convalidated, \
       k.confupdtype::text || k.confdeltype::text || k.confmatchtype::text || k.condeferrable::text || k.condeferred::text AS actions, \
       (SELECT array_agg(a || '>' || b ORDER BY a, b) FROM unnest(k.conkey, k.confkey) AS pair(a, b)) AS pairs \
       FROM pg_constraint k JOIN (SELECT conrelid, confrelid FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 \
         GROUP BY conrelid, confrelid HAVING count(*) > 1) several USING (conrelid, confrelid) \
       WHERE k.contype = 'f' AND k.conparentid = 0), \
     ranked AS (SELECT *, first_value(oid) OVER same AS kept, first_value(conname) OVER same AS kept_name, \
       first_value(actions) OVER same AS kept_actions FROM fk \
       WINDOW same AS (PARTITION BY conrelid, confrelid, pairs ORDER BY NOT convalidated, oid)) \
     SELECT n.nspname AS schema, c.relname AS name, r.conname, r.kept_name, r.actions = r.kept_actions AS same_actions, \
       pg_get_constraintdef(r.oid) AS def, pg_get_constraintdef(r.kept) AS kept_def \
     FROM ranked r JOIN pg_class c ON c.oid = r.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE r.oid <> r.kept AND ",
    user_schema!("n"),
    " ORDER BY n.nspname, c.relname, r.conname"
);

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let table = quote::qualified(row.str("schema")?, row.str("name")?);
        let (name, kept) = (quote::ident(row.str("conname")?), quote::ident(row.str("kept_name")?));
        let drop = format!("ALTER TABLE {table} DROP CONSTRAINT {name}");
        let def = row.str("def")?;
        let (detail, plan) = if row.bool("same_actions")? {
            let step = Step::sql(&drop, Lock::AccessExclusive, format!("{kept} goes on enforcing the same rule alone"))
                .takes(0.1)
                .undo_sql(format!("ALTER TABLE {table} ADD CONSTRAINT {name} {def}"));
            ("Each write checks the same rule twice.", Plan::one(format!("drop the foreign key {name}"), step))
        } else {
            let advice = format!("decide which action is meant, then drop the other, e.g. {drop}");
            ("They act differently on DELETE or UPDATE, and their names decide which goes first.", Plan::advice(advice))
        };
        findings.push(
            Finding::warn(format!("{table}.{name}"), format!("the foreign key {name} of {table} repeats {kept}"))
                .detail(detail)
                .saw(name.as_str(), def)
                .saw(kept.as_str(), row.str("kept_def")?)
                .fix(plan),
        );
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_core::plan::{Action, Undo};

    check_tests!(CHECK);

    #[test]
    fn sees_the_repeated_one_and_drops_it_only_when_the_actions_agree() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE p(a int, b int, c int UNIQUE, PRIMARY KEY (a, b), UNIQUE (b, a)); \
                 CREATE TABLE t(x int, y int, z int, CONSTRAINT one FOREIGN KEY (x, y) REFERENCES p(a, b), \
                   CONSTRAINT two FOREIGN KEY (y, x) REFERENCES p(b, a), CONSTRAINT other FOREIGN KEY (y, x) REFERENCES p(a, b), \
                   CONSTRAINT z1 FOREIGN KEY (z) REFERENCES p(c), CONSTRAINT z2 FOREIGN KEY (z) REFERENCES p(c) ON DELETE CASCADE, \
                   CONSTRAINT y1 FOREIGN KEY (y) REFERENCES p(c))",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["fk.duplicate:postgres/public.t.two", "fk.duplicate:postgres/public.t.z2"]
            );
            let plan = |at: usize| found[at].fix.as_ref().unwrap();
            assert!(!plan(1).is_applicable());
            let step = &plan(0).steps[0];
            let (Action::Sql { sql, .. }, Undo::Sql { sql: undo }) = (&step.action, &step.undo) else {
                panic!("{step:?}")
            };
            on.sql(sql);
            assert_eq!(on.findings().len(), 1);
            on.sql(undo);
            assert_eq!(on.findings().len(), 2);
        });
    }
}
