use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.rls",
    title: "row security is not in force as its policies suggest",
    inspects: "pg_class.relrowsecurity and relforcerowsecurity, pg_policy, owners that may log in",
    why: "Policies do nothing until row security is enabled on the table, and never bind the table's owner unless it is forced. \
          Whoever wrote them believes that rows of other tenants are safe.",
    remedy: "Enable row security where there are policies, force it where applications log in as the owner, and give writing \
             policies a real condition.",
    source: "splinter 0007 policy_exists_rls_disabled, 0008 rls_enabled_no_policy, 0024 permissive_rls_policy",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        // The policies' expressions are compared as stored: decompiling them would lock the tables.
        &[Sql::all(
            "WITH policy AS (SELECT polrelid, count(*) AS n, array_agg(polname::text ORDER BY polname) FILTER (WHERE polpermissive AND polcmd <> 'r' \
               AND 0 = ANY (polroles) AND (CASE polcmd WHEN 'd' THEN polqual ELSE coalesce(polwithcheck, polqual) END)::text \
               LIKE '{CONST :consttype 16 %:constvalue 1 [ 1 %') AS always FROM pg_policy GROUP BY polrelid) \
             SELECT c.oid::regclass::text AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, r.rolname AS owner, \
               r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolbypassrls AS owner_logs_in, coalesce(p.n, 0) AS policies, p.always \
             FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner LEFT JOIN policy p ON p.polrelid = c.oid \
             WHERE c.relkind IN ('r', 'p') AND (c.relrowsecurity OR p.n > 0) \
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        findings.extend(of_table(&row)?);
    }
    Ok(Verdict::of(findings))
}

fn of_table(row: &Row<'_>) -> Result<Vec<Finding>, RowError> {
    let (name, policies, owner) = (row.str("name")?, row.i64("policies")?, row.str("owner")?);
    let mut findings = Vec::new();
    if !row.bool("enabled")? {
        // Not for surus to carry out: from that moment on the application may see no rows at all.
        let advice = format!(
            "try the policies in a session of each role first, then: ALTER TABLE {name} ENABLE ROW LEVEL SECURITY \
             (takes it back: DISABLE ROW LEVEL SECURITY)"
        );
        return Ok(vec![
            Finding::crit(name, format!("{name} has {policies} policies, but row security is off"))
                .detail("Everybody who may read the table reads all of it; the policies have no effect.")
                .measured("policies", policies, "policies")
                .fix(Plan::advice(advice)),
        ]);
    }
    if policies == 0 {
        findings.push(
            Finding::info(name, format!("row security is on for {name} without any policy"))
                .detail(format!("Only {owner} and superusers see rows; for everybody else the table is empty."))
                .saw("owner", owner)
                .fix(Plan::advice(format!(
                    "CREATE POLICY … ON {name}, or ALTER TABLE {name} DISABLE ROW LEVEL SECURITY if that is not meant"
                ))),
        );
    } else if row.bool("owner_logs_in")? && !row.bool("forced")? {
        findings.push(
            Finding::warn(format!("{name}/owner"), format!("no policy of {name} binds its owner {owner}, which may log in"))
                .detail("An application that logs in as the owner sees and changes every tenant's rows.")
                .saw("owner", owner)
                .measured("policies", policies, "policies")
                .fix(Plan::advice(format!(
                    "let applications log in as another role, or ALTER TABLE {name} FORCE ROW LEVEL SECURITY (dumps as {owner} then hold only visible rows)"
                ))),
        );
    }
    for policy in row.list("always")? {
        let policy = quote::ident(&policy);
        findings.push(
            Finding::warn(
                format!("{name}/{policy}"),
                format!("policy {policy} lets everybody write any row of {name}"),
            )
            .detail("Its condition is always true and it is for PUBLIC, so it allows what the other policies forbid.")
            .saw("policy", policy.as_str())
            .fix(Plan::advice(format!("ALTER POLICY {policy} ON {name} WITH CHECK (<a condition>), or drop it"))),
        );
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_policies_without_force() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE ROLE app LOGIN; CREATE ROLE admin; \
                 CREATE TABLE asleep(a int); CREATE POLICY p ON asleep USING (a > 0); \
                 CREATE TABLE empty(a int); ALTER TABLE empty ENABLE ROW LEVEL SECURITY; \
                 CREATE TABLE owned(a int); ALTER TABLE owned OWNER TO app; ALTER TABLE owned ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY p ON owned USING (a > 0); \
                 CREATE TABLE wide(a int); ALTER TABLE wide ENABLE ROW LEVEL SECURITY; \
                 CREATE POLICY anyone ON wide FOR INSERT WITH CHECK (true); CREATE POLICY admins ON wide TO admin USING (true); \
                 CREATE POLICY readers ON wide FOR SELECT USING (true); CREATE POLICY narrow ON wide FOR UPDATE USING (a = 1); \
                 CREATE TABLE good(a int); ALTER TABLE good OWNER TO app; ALTER TABLE good ENABLE ROW LEVEL SECURITY; \
                 ALTER TABLE good FORCE ROW LEVEL SECURITY; CREATE POLICY p ON good USING (a > 0)",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
            let expected = [
                ("crit", "public.asleep"),
                ("warn", "public.owned/owner"),
                ("warn", "public.wide/anyone"),
                ("info", "public.empty"),
            ];
            assert_eq!(seen, expected);
            assert!(found.iter().all(|finding| !finding.fix.as_ref().is_some_and(|plan| plan.is_applicable())));
        });
    }
}
