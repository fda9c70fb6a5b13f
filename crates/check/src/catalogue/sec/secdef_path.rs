use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Lock, Plan, Step},
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.secdef_path",
    title: "a SECURITY DEFINER function uses the caller's search_path",
    inspects: "pg_proc.prosecdef, proconfig, proacl and the owner's rights",
    why: "Such a function runs with its owner's rights but looks names up where the caller says. The caller can put a function or \
          table of his own in front, and the owner's rights run it.",
    remedy: "Let the function set its own search_path, with pg_temp last, and revoke EXECUTE from PUBLIC.",
    source: "splinter 0011 function_search_path_mutable; PostgreSQL documentation, CREATE FUNCTION, on writing SECURITY DEFINER functions safely",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        // From 14 on, a body in SQL-standard form has its names resolved when the function is made.
        &[Sql::since(14, SQL_14), Sql::until(13, SQL_13)],
        judge,
    ),
};

macro_rules! sql {
    ($early_bound:literal) => {
        concat!(
            "SELECT p.oid::regprocedure::text AS name, n.nspname AS schema, r.rolname AS owner, r.rolsuper AS owner_superuser, \
             has_function_privilege('public', p.oid, 'EXECUTE') AS public \
             FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner \
             JOIN pg_language l ON l.oid = p.prolang \
             WHERE p.prosecdef AND l.lanname NOT IN ('internal', 'c') AND ",
            $early_bound,
            " AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s WHERE s LIKE 'search\\_path=%') \
             AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e') \
             ORDER BY 1"
        )
    };
}
const SQL_14: &str = sql!("p.prosqlbody IS NULL");
const SQL_13: &str = sql!("true");

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (name, schema, owner) = (row.str("name")?, row.str("schema")?, row.str("owner")?);
        let (superuser, public) = (row.bool("owner_superuser")?, row.bool("public")?);
        let severity = if superuser && public { Severity::Crit } else { Severity::Warn };
        let callers = if public { "everybody" } else { "those who may call it" };
        let detail = if superuser {
            "Its owner is a superuser, so it can be made to do anything."
        } else {
            "It can be made to do all that its owner may."
        };
        findings.push(
            Finding::new(
                severity,
                name,
                format!("{name} lends the rights of {owner} to {callers} and trusts their search_path"),
            )
            .detail(detail)
            .saw("owner", owner)
            .saw("owner is superuser", superuser)
            .saw("executable by PUBLIC", public)
            .fix(fixed_path(name, schema)),
        );
    }
    Ok(Verdict::of(findings))
}

/// In public, the path that names are found by today is that of its author, as a rule; elsewhere only he knows it.
fn fixed_path(name: &str, schema: &str) -> Plan {
    let path = quote::ident(schema);
    if schema != "public" {
        return Plan::advice(format!(
            "ALTER ROUTINE {name} SET search_path = {path}, pg_temp, with the other schemas that its body names without qualifying; \
             REVOKE EXECUTE ON ROUTINE {name} FROM PUBLIC if not everybody is meant"
        ));
    }
    let step = Step::sql(
        format!("ALTER ROUTINE {name} SET search_path = {path}, pg_temp"),
        Lock::None,
        format!("{name} finds unqualified names in {path} and pg_catalog only, whoever calls it"),
    )
    .undo_sql(format!("ALTER ROUTINE {name} RESET search_path"))
    .takes(0.1);
    Plan::one(format!("fix the search_path of {name}"), step)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_functions_that_trust_their_caller() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE FUNCTION open(a int) RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT a'; \
                 CREATE FUNCTION pinned() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT 1'; \
                 CREATE FUNCTION invoker() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE ROLE app; CREATE SCHEMA app AUTHORIZATION app; \
                 CREATE PROCEDURE app.work() LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER PROCEDURE app.work() OWNER TO app",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
            assert_eq!(seen, [("crit", "public.open(integer)"), ("warn", "app.work()")]);
            assert!(found[0].fix.as_ref().unwrap().is_applicable() && !found[1].fix.as_ref().unwrap().is_applicable());
            on.sql("ALTER ROUTINE public.open(integer) SET search_path = public, pg_temp; REVOKE EXECUTE ON ROUTINE app.work() FROM PUBLIC");
            assert_eq!(on.findings().len(), 1);
        });
    }
}
