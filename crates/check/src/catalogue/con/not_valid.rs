use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    user_objects::user_schema,
    verdict::{Judged, Verdict},
    widening::BYTES_PER_SECOND,
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "con.not_valid",
    title: "a constraint was never validated",
    inspects: "pg_constraint.convalidated; its age where track_commit_timestamp is on",
    why: "A NOT VALID constraint is checked for new rows only, so older rows may break the rule. The planner does not trust it \
          either, and a later dump and restore of broken rows fails.",
    remedy: "VALIDATE CONSTRAINT reads the table without blocking writes; rows that break the rule have to be corrected first.",
    source: "pg-index-health not valid constraints; a week is surus' own limit for a migration that is under way",
    scope: Scope::Database,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("age", "s", 7.0 * 86_400.0)],
    look: Look::Query(
        &[
            Sql::since(18, concat!(select!(), " AND k.conenforced", order!())),
            Sql::until(17, concat!(select!(), order!())),
        ],
        judge,
    ),
};

/// Inherited copies come along with their parent. pg_get_constraintdef would open, and so lock, the table.
macro_rules! select {
    () => {
        concat!(
            "SELECT n.nspname AS schema, coalesce(c.relname, t.typname) AS name, k.contypid <> 0 AS domain, k.conname, k.contype::text AS kind, \
               ARRAY(SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey) ORDER BY a.attnum) AS columns, coalesce(c.relpages, 0)::bigint * current_setting('block_size')::bigint AS bytes, \
               CASE WHEN current_setting('track_commit_timestamp') = 'on' \
                 THEN extract(epoch FROM now() - pg_xact_commit_timestamp(k.xmin)) END AS age_s \
             FROM pg_constraint k LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid \
             JOIN pg_namespace n ON n.oid = k.connamespace \
             WHERE NOT k.convalidated AND k.conislocal AND k.conparentid = 0 AND ",
            user_schema!("n")
        )
    };
}
use select;

macro_rules! order {
    () => {
        " ORDER BY n.nspname, 2, k.conname"
    };
}
use order;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        // Without commit timestamps nobody knows how old it is; then it is told, whatever its age.
        match row.opt_f64("age_s")? {
            Some(age) if scene.grade("age", age).is_none() => {}
            age => findings.push(finding(row, age)?),
        }
    }
    Ok(Verdict::of(findings))
}

fn finding(row: Row<'_>, age: Option<f64>) -> Result<Finding, RowError> {
    let object = quote::qualified(row.str("schema")?, row.str("name")?);
    let name = quote::ident(row.str("conname")?);
    let kind = match row.str("kind")? {
        "f" => "foreign key",
        "n" => "not-null constraint",
        _ => "check constraint",
    };
    let bytes = row.i64("bytes")?;
    let statement = if row.bool("domain")? { "DOMAIN" } else { "TABLE" };
    let step = Step::sql(
        format!("ALTER {statement} {object} VALIDATE CONSTRAINT {name}"),
        Lock::ShareUpdateExclusive,
        "every row is checked once; it fails, and changes nothing, if a row breaks the rule",
    )
    .takes((bytes as f64 / BYTES_PER_SECOND).max(0.1))
    .no_undo("it only records what is true");
    let mut finding = Finding::warn(format!("{object}.{name}"), format!("the {kind} {name} of {object} is NOT VALID"))
        .detail("Rows from before it was added may break the rule, and the planner may not rely on it.")
        .saw("columns", row.list("columns")?)
        .measured("estimated size of the table", bytes, "bytes");
    if let Some(age) = age {
        finding = finding.measured("age", age, "s");
    }
    Ok(finding.fix(Plan::one(format!("validate {name}"), step)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_core::plan::Action;

    check_tests!(CHECK);

    const SEED: &str = "CREATE TABLE p(id int PRIMARY KEY); CREATE TABLE t(id int, CONSTRAINT ok CHECK (id > 0)); \
        ALTER TABLE t ADD CONSTRAINT positive CHECK (id >= 0) NOT VALID; \
        ALTER TABLE t ADD CONSTRAINT known FOREIGN KEY (id) REFERENCES p NOT VALID; \
        CREATE DOMAIN d AS int; ALTER DOMAIN d ADD CONSTRAINT small CHECK (VALUE < 10) NOT VALID";

    #[test]
    fn sees_them_and_the_fix_validates() {
        seeded(&CHECK, |on| {
            on.sql(SEED);
            let holder = on.session("postgres");
            on.run_in(&holder, "BEGIN; LOCK public.t, public.p");
            let found = on.findings();
            on.run_in(&holder, "ROLLBACK");
            assert_eq!(
                found.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(),
                ["public.d.small", "public.t.known", "public.t.positive"]
            );
            for finding in &found {
                let Action::Sql { sql, .. } = &finding.fix.as_ref().unwrap().steps[0].action else {
                    panic!("{finding:?}")
                };
                on.sql(sql);
            }
            assert_eq!(on.findings(), []);
            if on.major() >= 18 {
                on.sql("ALTER TABLE t ADD CONSTRAINT loose CHECK (id < 5) NOT ENFORCED; ALTER TABLE t ADD CONSTRAINT nn NOT NULL id NOT VALID");
                assert_eq!(on.findings().iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.t.nn"]);
            }
        });
    }

    #[test]
    fn a_young_one_is_left_alone_where_its_age_is_known() {
        seeded_on(
            &CHECK,
            |builder| builder.setting("track_commit_timestamp", "on"),
            |on| {
                on.sql(SEED);
                assert_eq!(on.findings(), []);
            },
        );
    }
}
