use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.public_schema",
    title: "every role may create objects in a schema",
    inspects: "pg_namespace.nspacl: CREATE for PUBLIC",
    why: "Whoever may create a function or table in a schema that others search can put a trap there: the next superuser who \
          calls the name runs the attacker's code.",
    remedy: "REVOKE CREATE ON SCHEMA public FROM PUBLIC, as PostgreSQL 15 does in new databases, and grant it to the roles that own objects.",
    source: "CVE-2018-1058; CIS PostgreSQL Benchmark (pgdsat); pgEdge pg-healthcheck",
    scope: Scope::Database,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT n.nspname AS name, r.rolname AS owner FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner \
             WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
             AND EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE') ORDER BY n.nspname",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let schema = quote::ident(row.str("name")?);
        let step = Step::sql(
            format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC"),
            Lock::None,
            format!("roles without a grant of their own can no longer create tables or functions in {schema}; what exists stays"),
        )
        .undo_sql(format!("GRANT CREATE ON SCHEMA {schema} TO PUBLIC"))
        .takes(0.1);
        findings.push(
            Finding::warn(schema.as_str(), format!("every role may create objects in schema {schema}"))
                .detail("Any role can plant a function there that others call by mistake, with their rights.")
                .saw("owner", row.str("owner")?)
                .fix(Plan::one(format!("revoke CREATE on schema {schema} from PUBLIC"), step)),
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
    fn sees_schemas_open_to_everybody() {
        seeded(&CHECK, |on| {
            on.sql(
                "CREATE SCHEMA \"Open\"; GRANT CREATE ON SCHEMA \"Open\" TO PUBLIC; CREATE SCHEMA closed; \
                 GRANT USAGE ON SCHEMA closed TO PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
            );
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["sec.public_schema:postgres/\"Open\""]
            );
            on.sql("REVOKE CREATE ON SCHEMA \"Open\" FROM PUBLIC");
            assert_eq!(on.findings(), []);
        });
    }
}
