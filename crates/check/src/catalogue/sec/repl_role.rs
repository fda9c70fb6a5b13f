use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "sec.repl_role",
    title: "a standby or subscriber connects as a superuser",
    inspects: "pg_stat_replication.usename against pg_roles",
    why: "The credentials lie in a file on the other machine. Whoever reads that file is superuser on the primary, although \
          replication needs no more than the REPLICATION attribute.",
    remedy: "Make a role with LOGIN REPLICATION for each standby and let its primary_conninfo name it.",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT s.usename AS role, count(*) AS connections, array_agg(DISTINCT s.application_name) AS names \
             FROM pg_stat_replication s JOIN pg_roles r ON r.oid = s.usesysid WHERE r.rolsuper AND s.state IS DISTINCT FROM 'backup' \
             GROUP BY 1 ORDER BY 1",
        )],
        judge,
    ),
};

fn judge(_: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (role, names) = (quote::ident(row.str("role")?), row.list("names")?.join(", "));
        findings.push(
            Finding::warn(role.as_str(), format!("replication runs as the superuser {role}"))
                .detail(format!("The machine of {names} holds a superuser's credentials."))
                .measured("connections", row.i64("connections")?, "connections")
                .saw("application names", names)
                .fix(Plan::advice(
                    "CREATE ROLE replicator LOGIN REPLICATION with a password, a replication line for it in pg_hba.conf, then \
                     primary_conninfo of each standby with user=replicator and a reload",
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
    fn sees_a_standby_that_is_superuser() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            let standby = on.server.standby();
            standby.wait_caught_up(&on.server);
            // It can have caught up by what the base backup holds, before it streams.
            on.until("SELECT count(*) > 0 AS v FROM pg_stat_replication WHERE state <> 'backup'");
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["sec.repl_role:postgres"]);
        });
    }
}
