use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::{Rows, quote};

pub static CHECK: Check = Check {
    id: "conn.role_db_limit",
    title: "a role or a database is near its own connection limit",
    inspects: "pg_stat_activity against rolconnlimit and datconnlimit",
    why: "A role or a database may have a limit of its own, below that of the server. When it is reached, its clients are \
          refused although the server has free slots, which is easily taken for another fault.",
    remedy: "Find out whether the sessions are needed; then raise the limit with ALTER ROLE or ALTER DATABASE … CONNECTION \
             LIMIT, or pool the connections.",
    source: "pganalyze connection checks; PostgreSQL: superusers are exempt from both limits",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Stats],
    thresholds: &[Threshold::above("used", "%", 80.0, 95.0)],
    look: Look::Query(
        &[Sql::all(
            "WITH used AS (SELECT usesysid, datid FROM pg_stat_activity WHERE backend_type = 'client backend') \
             SELECT 'role' AS kind, r.rolname AS name, r.rolconnlimit AS allowed, \
             (SELECT count(*) FROM used WHERE usesysid = r.oid) AS used \
             FROM pg_roles r WHERE r.rolconnlimit > 0 AND r.rolcanlogin AND NOT r.rolsuper \
             UNION ALL \
             SELECT 'database', d.datname, d.datconnlimit, (SELECT count(*) FROM used WHERE datid = d.oid) \
             FROM pg_database d WHERE d.datconnlimit > 0 AND d.datallowconn \
             ORDER BY 1, 2",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let mut findings = Vec::new();
    for row in rows.iter() {
        let (kind, name) = (row.str("kind")?, quote::ident(row.str("name")?));
        let (used, allowed) = (row.i64("used")?, row.i64("allowed")?);
        let percent = 100.0 * used as f64 / allowed as f64;
        let Some(severity) = scene.grade("used", percent) else { continue };
        let statement = format!("ALTER {} {name} CONNECTION LIMIT {}", kind.to_uppercase(), allowed * 2);
        let left = if used >= allowed { "none is left".to_owned() } else { format!("{} left", allowed - used) };
        findings.push(
            Finding::new(
                severity,
                format!("{kind} {name}"),
                format!("{kind} {name} uses {used} of the {allowed} connections it may have"),
            )
            .detail(format!("Beyond the limit its clients are refused with \"too many connections for {kind}\"; {left}."))
            .measured("used", percent, "%")
            .saw("sessions", used)
            .saw("limit", allowed)
            .fix(Plan::advice(format!(
                "somebody set the limit on purpose: end sessions that are not needed or pool them, or raise it with {statement}"
            ))),
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
    fn sees_a_role_and_a_database_at_their_limits() {
        seeded(&CHECK, |on| {
            on.sql("CREATE ROLE app LOGIN CONNECTION LIMIT 5; CREATE ROLE quiet LOGIN CONNECTION LIMIT 5");
            on.sql("CREATE DATABASE shop CONNECTION LIMIT 4");
            let _held: Vec<_> = (0..4).map(|_| on.session_as("app", "shop")).collect();
            let found: Vec<_> = on.findings().into_iter().map(|f| (f.key, f.severity.word())).collect();
            let expected = [("conn.role_db_limit:database shop", "crit"), ("conn.role_db_limit:role app", "warn")];
            assert_eq!(found, expected.map(|(key, severity)| (key.to_owned(), severity)));
        });
    }
}
