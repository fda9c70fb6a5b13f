use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "sec.secdef_view",
    title: "a view shows rows that row security hides from its readers",
    inspects: "pg_class.reloptions of views over tables with row security, and their privileges",
    why: "An ordinary view reads its tables as its owner. The policies of the reader do not count, and for the owner of the table \
          none does: everybody who may read the view sees everything.",
    remedy: "Let the view run with the rights of its reader (security_invoker, PostgreSQL 15), or put the condition into the view.",
    source: "splinter 0010 security_definer_view",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT v.oid::regclass::text AS name, v.relkind = 'm' AS materialized, r.rolname AS owner, \
               array_agg(DISTINCT t.oid::regclass::text) AS tables, \
               bool_or(r.rolsuper OR r.rolbypassrls OR (t.relowner = v.relowner AND NOT t.relforcerowsecurity)) AS bypasses \
             FROM pg_class t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_rewrite'::regclass \
             JOIN pg_rewrite w ON w.oid = d.objid JOIN pg_class v ON v.oid = w.ev_class JOIN pg_roles r ON r.oid = v.relowner \
             WHERE t.relrowsecurity AND v.relkind IN ('v', 'm') AND v.oid <> t.oid \
             AND NOT EXISTS (SELECT FROM unnest(v.reloptions) o WHERE lower(o) IN ('security_invoker=true', 'security_invoker=on', 'security_invoker=1', 'security_invoker=yes')) \
             AND EXISTS (SELECT FROM aclexplode(v.relacl) a WHERE a.grantee <> v.relowner AND a.privilege_type <> 'REFERENCES') \
             GROUP BY v.oid, v.relkind, r.rolname ORDER BY 1",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (name, owner, tables) = (row.str("name")?, row.str("owner")?, row.list("tables")?.join(", "));
        let (kind, advice) = match (row.bool("materialized")?, scene.major() >= 15) {
            (true, _) => (
                "materialized view",
                format!("let only roles that may see all rows of {tables} read {name}: REVOKE SELECT ON {name} FROM …"),
            ),
            (false, true) => (
                "view",
                format!(
                    "ALTER VIEW {name} SET (security_invoker = true), after granting its readers SELECT on {tables}"
                ),
            ),
            (false, false) => (
                "view",
                format!(
                    "repeat the policies' condition in {name}, or read it through a role that no policy spares; 15 has security_invoker"
                ),
            ),
        };
        let detail = match row.bool("bypasses")? {
            true => format!("No policy binds {owner}, so every reader of the {kind} sees all rows of {tables}."),
            false => format!("The policies are applied as for {owner}, not as for the reader."),
        };
        findings.push(
            Finding::warn(name, format!("{kind} {name} reads {tables} past the row security of its readers"))
                .detail(detail)
                .saw("owner", owner)
                .saw("tables with row security", tables)
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
    fn sees_views_that_pass_row_security_by() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE ROLE app; CREATE TABLE t(a int); CREATE TABLE free(a int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
                 CREATE VIEW past AS SELECT * FROM t; CREATE MATERIALIZED VIEW copied AS SELECT * FROM t; CREATE VIEW private AS SELECT * FROM t; \
                 CREATE VIEW over_free AS SELECT * FROM free; GRANT SELECT ON past, copied, over_free TO app",
            );
            if on.major() >= 15 {
                on.sql(
                    "CREATE VIEW good WITH (security_invoker = true) AS SELECT * FROM t; GRANT SELECT ON good TO app",
                );
            }
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), ["public.copied", "public.past"]);
            assert!(found[1].detail.contains("sees all rows"), "{}", found[1].detail);
        });
    }
}
