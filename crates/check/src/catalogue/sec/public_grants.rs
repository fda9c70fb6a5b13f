use crate::{
    access::RELIED_ON,
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "sec.public_grants",
    title: "every role may write a table, or use a system function that is not for everybody",
    inspects: "privileges of PUBLIC on tables, on the database, and on system objects beyond what initdb grants (pg_init_privs)",
    why: "PUBLIC is every role, also those that are made tomorrow. A report user or a forgotten account can then change data, or \
          read what the server keeps to superusers.",
    remedy: "Revoke from PUBLIC and grant to a role that stands for the application.",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT 'TABLE' AS kind, c.oid::regclass::text AS name, array_agg(a.privilege_type ORDER BY a.privilege_type) AS privileges \
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a \
             WHERE c.relacl IS NOT NULL AND a.grantee = 0 AND c.relkind IN ('r', 'p', 'v', 'f') \
             AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER') \
             AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
             GROUP BY c.oid \
             UNION ALL \
             SELECT 'TABLE', 'pg_catalog.' || quote_ident(c.relname), array_agg(a.privilege_type ORDER BY a.privilege_type) \
             FROM pg_init_privs i JOIN pg_class c ON c.oid = i.objoid CROSS JOIN LATERAL aclexplode(c.relacl) a \
             WHERE i.classoid = 'pg_class'::regclass AND i.objsubid = 0 AND i.privtype = 'i' AND c.relacl <> i.initprivs \
             AND c.relnamespace = 'pg_catalog'::regnamespace AND a.grantee = 0 AND NOT EXISTS \
               (SELECT FROM aclexplode(i.initprivs) b WHERE b.grantee = 0 AND b.privilege_type = a.privilege_type) GROUP BY c.oid, c.relname \
             UNION ALL \
             SELECT 'FUNCTION', 'pg_catalog.' || p.oid::regprocedure::text, array_agg(a.privilege_type) \
             FROM pg_init_privs i JOIN pg_proc p ON p.oid = i.objoid CROSS JOIN LATERAL aclexplode(p.proacl) a \
             WHERE i.classoid = 'pg_proc'::regclass AND i.privtype = 'i' AND p.proacl <> i.initprivs \
             AND p.pronamespace = 'pg_catalog'::regnamespace AND a.grantee = 0 AND NOT EXISTS \
               (SELECT FROM aclexplode(i.initprivs) b WHERE b.grantee = 0 AND b.privilege_type = a.privilege_type) GROUP BY p.oid \
             UNION ALL \
             SELECT 'DATABASE', quote_ident(d.datname), array_agg(a.privilege_type) FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a \
             WHERE d.datname = current_database() AND a.grantee = 0 AND a.privilege_type = 'CREATE' GROUP BY d.datname \
             ORDER BY 1, 2",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (kind, name, privileges) = (row.str("kind")?, row.str("name")?, row.list("privileges")?.join(", "));
        let (title, detail) = match kind {
            "FUNCTION" => (format!("every role may call {name}"), "PostgreSQL keeps this function to administrators."),
            "DATABASE" => (
                format!("every role may create schemas in database {name}"),
                "Any role can fill it with objects of its own.",
            ),
            _ => (
                format!("every role may {} on {name}", privileges.to_lowercase()),
                "Also roles that are made tomorrow.",
            ),
        };
        let step = Step::sql(
            format!("REVOKE {privileges} ON {kind} {name} FROM PUBLIC"),
            Lock::None,
            format!("roles without a grant of their own lose {privileges} on {name}"),
        )
        .undo_sql(format!("GRANT {privileges} ON {kind} {name} TO PUBLIC"))
        .takes(0.1)
        .only_by_name(RELIED_ON);
        findings.push(
            Finding::warn(name, title)
                .detail(detail)
                .saw("privileges of PUBLIC", privileges.as_str())
                .fix(Plan::one(format!("revoke {privileges} on {name} from PUBLIC"), step)),
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
    fn sees_what_everybody_may_do() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE TABLE shared(a int); GRANT INSERT, UPDATE, SELECT ON shared TO PUBLIC; \
                 CREATE TABLE readable(a int); GRANT SELECT ON readable TO PUBLIC; CREATE TABLE own(a int); \
                 CREATE ROLE app; GRANT INSERT ON own TO app; GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC; \
                 GRANT EXECUTE ON FUNCTION pg_read_binary_file(text) TO app; GRANT CREATE ON DATABASE postgres TO PUBLIC; \
                 GRANT SELECT ON pg_authid TO PUBLIC",
            );
            let found = on.findings();
            let mut seen: Vec<_> = found.iter().map(|f| f.object.as_str()).collect();
            seen.sort_unstable();
            assert_eq!(seen, ["pg_catalog.pg_authid", "pg_catalog.pg_read_file(text)", "postgres", "public.shared"]);
            let undo = "REVOKE INSERT, UPDATE ON TABLE public.shared FROM PUBLIC";
            let plan = found.iter().find(|f| f.object == "public.shared").unwrap().fix.as_ref().unwrap();
            assert!(format!("{plan:?}").contains(undo), "{plan:?}");
            on.sql(
                "REVOKE INSERT, UPDATE ON TABLE public.shared FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) FROM PUBLIC; \
                 REVOKE CREATE ON DATABASE postgres FROM PUBLIC; REVOKE SELECT ON TABLE pg_catalog.pg_authid FROM PUBLIC",
            );
            assert_eq!(on.findings(), []);
        });
    }
}
