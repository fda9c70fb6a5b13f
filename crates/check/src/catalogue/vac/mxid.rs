use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::Verdict,
};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
    size::human_count,
};
use surus_pg::quote;

pub static CHECK: Check = Check {
    id: "vac.mxid",
    title: "multixact numbers run out",
    inspects: "mxid_age of pg_database.datminmxid, and the number of files in pg_multixact/members",
    why: "When several transactions lock the same row, for instance through foreign keys, PostgreSQL notes them under a \
          multixact number. Numbers and the space for their members are limited as transaction numbers are, and only \
          VACUUM gives them back.",
    remedy: "End what holds VACUUM back (see vac.horizon), then vacuum the tables with the oldest relminmxid with FREEZE.",
    source: "PostgreSQL documentation, Multixacts and Wraparound; pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::above("age", "multixacts", 500e6, 1.2e9), Threshold::above("members", "%", 50.0, 75.0)],
    look: Look::Custom(look),
};

const LAST_USABLE_AGE: f64 = 2_147_483_648.0 - 3_000_000.0;

/// Members in one segment file: 32 pages of 409 groups of 4. Source: multixact.c, for blocks of 8 kB.
const MEMBERS_PER_FILE: f64 = 32.0 * 409.0 * 4.0;
const MOST_MEMBERS: f64 = 4_294_967_296.0;

const AGES: &str = "SELECT datname AS name, mxid_age(datminmxid) AS age, has_function_privilege('pg_ls_dir(text)', 'EXECUTE') AS lists \
     FROM pg_database ORDER BY 2 DESC";

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let ages = access.session.ask(AGES).await?;
        let freezes_at = scene.number("autovacuum_multixact_freeze_max_age")?;
        let mut findings = Vec::new();
        for row in ages.iter() {
            let (name, age) = (row.str("name")?, row.f64("age")?);
            let late = age > 1.1 * freezes_at;
            if let Some(severity) = scene.grade("age", age).filter(|severity| late || *severity == Severity::Crit) {
                findings.push(finding(severity, name, age));
            }
        }
        if !ages.first()?.bool("lists")? {
            let role = quote::ident(&scene.facts.role.name);
            let text = format!("the role may not count the files: GRANT EXECUTE ON FUNCTION pg_ls_dir(text) TO {role}");
            return Ok(Verdict::of(findings).but_unknown("space for members", Reason::Privilege(text)));
        }
        let counted = access.session.ask("SELECT count(*) AS files FROM pg_ls_dir('pg_multixact/members')").await?;
        let files = counted.first()?.f64("files")?;
        let used = (100.0 * files * MEMBERS_PER_FILE / MOST_MEMBERS).min(100.0);
        if let Some(severity) = scene.grade("members", used) {
            findings.push(
                Finding::new(severity, "members", format!("{used:.0} % of the space for multixact members is used"))
                    .detail("From half on autovacuum freezes in haste; at the end, locking rows fails with an error.")
                    .measured("used", used, "%")
                    .measured("files in pg_multixact/members", files, "files")
                    .fix(advice("the database whose datminmxid is oldest")),
            );
        }
        Ok(Verdict::of(findings))
    })
}

fn finding(severity: Severity, name: &str, age: f64) -> Finding {
    let left = human_count((LAST_USABLE_AGE - age).max(0.0) as i64);
    Finding::new(severity, name, format!("{name} has {left} multixact numbers left before locking rows fails"))
        .detail(
            "When none is left, PostgreSQL refuses every statement that would need one until the database is vacuumed.",
        )
        .measured("age of the oldest multixact", age, "multixacts")
        .measured("used", 100.0 * age / LAST_USABLE_AGE, "%")
        .fix(advice(&quote::ident(name)))
}

fn advice(database: &str) -> Plan {
    Plan::advice(format!(
        "in {database}: SELECT oid::regclass, mxid_age(relminmxid) FROM pg_class WHERE relkind IN ('r', 'm', 't') ORDER BY 2 DESC \
         LIMIT 10, then VACUUM (FREEZE) the first of them; end long transactions before that"
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_old_multixacts_and_full_member_space() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.sql("UPDATE pg_database SET datminmxid = '3694967296' WHERE datname = 'postgres'");
                on.limit("members", 0.0001);
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
                assert_eq!(seen, [("vac.mxid:members", "warn"), ("vac.mxid:postgres", "warn")]);
            },
        );
    }
}
