use crate::{
    access::RELIED_ON,
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Lock, Plan, Step},
};
use surus_pg::{Row, RowError, Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.super_count",
    title: "more roles than necessary can do everything",
    inspects: "pg_roles: SUPERUSER, BYPASSRLS, CREATEROLE; members of pg_execute_server_program and the server file roles",
    why: "Nothing that the database forbids holds for these roles, so each of them is a way to lose everything with one stolen \
          password. Roles that run programs or write files on the server are superusers by another name.",
    remedy: "Keep one superuser for administration and give each other role what its work needs.",
    source: "CIS PostgreSQL Benchmark (pgdsat); pgEdge pg-healthcheck; more than two superusers",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("superusers", "roles", 3.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypass_rls, r.rolcreaterole AS create_role, \
               r.rolcanlogin AS login, \
               (SELECT array_agg(g.rolname::text ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid \
                WHERE m.member = r.oid AND g.rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')) \
               AS host_roles \
             FROM pg_roles r WHERE r.rolname NOT LIKE 'pg\\_%' AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR EXISTS \
               (SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid WHERE m.member = r.oid AND g.rolname IN \
               ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files'))) ORDER BY r.rolname",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if let Some(service) = scene.facts.managed {
        return Ok(Verdict::not_applicable(format!("{} keeps the superusers to itself", service.name())));
    }
    let mut findings = Vec::new();
    let mut superusers = Vec::new();
    for row in rows.iter() {
        let name = quote::ident(row.str("name")?);
        if row.bool("superuser")? {
            superusers.push(name);
        } else {
            findings.extend(of_role(&name, &row)?);
        }
    }
    let count = superusers.len();
    if let Some(severity) = scene.grade("superusers", count as f64) {
        let all = superusers.join(", ");
        findings.push(
            Finding::new(severity, "", format!("{count} roles are superusers"))
                .detail("Permissions, row security and most settings do not bind them.")
                .measured("superusers", count, "roles")
                .saw("names", all)
                .fix(Plan::advice("ALTER ROLE … NOSUPERUSER for each but one, after granting it what its work needs")),
        );
    }
    Ok(Verdict::of(findings))
}

fn of_role(name: &str, row: &Row<'_>) -> Result<Vec<Finding>, RowError> {
    let mut findings = Vec::new();
    for group in row.list("host_roles")? {
        let can = match group.as_str() {
            "pg_execute_server_program" => "run programs on the server's host",
            "pg_write_server_files" => "write files on the server's host",
            _ => "read files on the server's host",
        };
        let step = Step::sql(format!("REVOKE {group} FROM {name}"), Lock::None, format!("{name} can no longer {can}"))
            .undo_sql(format!("GRANT {group} TO {name}"))
            .takes(0.1)
            .only_by_name(RELIED_ON);
        findings.push(
            Finding::warn(format!("{name}/{group}"), format!("{name} may {can} ({group})"))
                .detail("It acts there as the server's own account, which owns all data files: that is superuser by another name.")
                .saw("may log in", row.bool("login")?)
                .fix(Plan::one(format!("take {group} from {name}"), step)),
        );
    }
    for (column, attribute, what) in [
        ("bypass_rls", "BYPASSRLS", "row security policies do not bind it"),
        (
            "create_role",
            "CREATEROLE",
            "it can make roles and, before PostgreSQL 16, grant itself any role but superuser",
        ),
    ] {
        if row.bool(column)? {
            let step =
                Step::sql(format!("ALTER ROLE {name} NO{attribute}"), Lock::None, format!("{name} loses {attribute}"))
                    .undo_sql(format!("ALTER ROLE {name} {attribute}"))
                    .takes(0.1)
                    .only_by_name(RELIED_ON);
            findings.push(
                Finding::info(format!("{name}/{attribute}"), format!("{name} has {attribute}"))
                    .detail(format!("Be sure that it is meant so: {what}."))
                    .saw("may log in", row.bool("login")?)
                    .fix(Plan::one(format!("take {attribute} from {name}"), step)),
            );
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_too_many_superusers_and_their_likes() {
        seeded(&CHECK, |on| {
            on.sql("CREATE ROLE s1 SUPERUSER");
            assert_eq!(on.findings(), [], "two superusers are fine");
            on.sql(
                "CREATE ROLE s2 SUPERUSER; CREATE ROLE loader LOGIN IN ROLE pg_execute_server_program; \
                 CREATE ROLE maker CREATEROLE; CREATE ROLE plain LOGIN",
            );
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.key.as_str())).collect();
            assert_eq!(
                seen,
                [
                    ("warn", "sec.super_count"),
                    ("warn", "sec.super_count:loader/pg_execute_server_program"),
                    ("info", "sec.super_count:maker/CREATEROLE"),
                ]
            );
            assert!(found[1].fix.as_ref().unwrap().is_applicable());
        });
    }
}
