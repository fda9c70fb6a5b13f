use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    vacuum::vacuum_step,
    verdict::Verdict,
};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Plan, Step},
    size::{human_count, human_seconds},
};
use surus_pg::{AskError, AskErrorKind, Manners, Rows, Session, quote};

pub static CHECK: Check = Check {
    id: "vac.xid",
    title: "transaction numbers run out",
    inspects: "age of pg_database.datfrozenxid, and how fast transaction numbers were used since the last checkpoint",
    why: "PostgreSQL has about two thousand million transaction numbers before it must stop accepting writes. VACUUM gives \
          used ones back; a database where it cannot keep up comes to a standstill.",
    remedy: "End what holds VACUUM back (see vac.horizon), then vacuum the oldest tables with FREEZE.",
    source: "PostgreSQL documentation, Preventing Transaction ID Wraparound Failures; check_pgactivity max_freeze_age; pgEdge",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[Threshold::above("age", "transactions", 500e6, 1.2e9), Threshold::below("left", "days", 14.0, 3.0)],
    look: Look::Custom(look),
};

/// Writes are refused this many transactions before the end. Source: SetTransactionIdLimit in varsup.c.
const LAST_USABLE_AGE: f64 = 2_147_483_648.0 - 3_000_000.0;

const AGES: &str = "SELECT datname AS name, age(datfrozenxid) AS age, datallowconn AND has_database_privilege(oid, 'CONNECT') AS open \
     FROM pg_database ORDER BY age(datfrozenxid) DESC";

/// Transaction numbers used since the last checkpoint, and how long that is ago.
const RATE: &str = "SELECT extract(epoch FROM clock_timestamp() - checkpoint_time) AS seconds, \
     pg_snapshot_xmax(pg_current_snapshot())::text::numeric - (split_part(next_xid, ':', 1)::numeric * 4294967296 \
     + split_part(next_xid, ':', 2)::numeric) AS used FROM pg_control_checkpoint()";

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let ages = access.session.ask(AGES).await?;
        let rate = match access.session.ask(RATE).await {
            Ok(rows) => rate(&rows),
            Err(error) if error.kind == AskErrorKind::Closed => return Err(error.into()),
            Err(_) => None,
        };
        let freezes_at = scene.number("autovacuum_freeze_max_age")?;
        let mut findings = Vec::new();
        for row in ages.iter() {
            let (name, age) = (row.str("name")?, row.f64("age")?);
            let Some((severity, days)) = grade(scene, age, freezes_at, rate) else { continue };
            let plan = match row.bool("open")? {
                true => plan(&freeze_steps(access, scene, name).await?, name),
                false => closed_plan(name),
            };
            findings.push(finding(severity, name, age, days, rate).fix(plan));
        }
        Ok(Verdict::of(findings))
    })
}

/// Transactions per second, when the time since the last checkpoint is long enough to tell.
fn rate(rows: &Rows) -> Option<f64> {
    let row = rows.first().ok()?;
    let (seconds, used) = (row.f64("seconds").ok()?, row.f64("used").ok()?);
    (seconds >= 30.0 && used > 0.0).then(|| used / seconds)
}

/// How bad an age is, and the days left at the present rate. While autovacuum is not yet late (it starts to freeze at
/// `freezes_at`), neither a configured high limit nor a short burst is trouble.
fn grade(scene: &Scene<'_>, age: f64, freezes_at: f64, rate: Option<f64>) -> Option<(Severity, Option<f64>)> {
    let late = age > 1.1 * freezes_at;
    let days = rate.map(|rate| (LAST_USABLE_AGE - age).max(0.0) / rate / 86_400.0).filter(|_| late);
    let by_age = scene.grade("age", age).filter(|severity| late || *severity == Severity::Crit);
    let by_time = days.and_then(|days| scene.grade("left", days));
    by_age.max(by_time).map(|severity| (severity, days))
}

fn finding(severity: Severity, name: &str, age: f64, days: Option<f64>, rate: Option<f64>) -> Finding {
    let left = human_count((LAST_USABLE_AGE - age).max(0.0) as i64);
    let mut title = format!("{name} has {left} transactions left before writes stop");
    if let Some(days) = days {
        title.push_str(&format!(", {} at the present rate", human_seconds(days * 86_400.0)));
    }
    let mut finding = Finding::new(severity, name, title)
        .detail("When none is left, PostgreSQL refuses every write until an administrator has vacuumed the database.")
        .measured("age of the oldest row", age, "transactions")
        .measured("used", 100.0 * age / LAST_USABLE_AGE, "%");
    if let Some(rate) = rate {
        finding = finding.measured("transaction numbers used since the last checkpoint", rate, "per s");
    }
    finding
}

const OLDEST: &str = "SELECT n.nspname AS schema, c.relname AS name, greatest(age(c.relfrozenxid), age(t.relfrozenxid)) AS age, \
     (c.relpages::bigint + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint AS bytes \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid \
     WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' ORDER BY 3 DESC LIMIT 10";

/// Freezes the oldest tables of a database.
async fn freeze_steps(access: Access<'_>, scene: &Scene<'_>, database: &str) -> Result<Vec<Step>, AskError> {
    let rows = if database == scene.facts.database {
        access.session.ask(OLDEST).await?
    } else {
        match other_session(access, database).await {
            Some(session) => session.ask(OLDEST).await?,
            None => return Ok(Vec::new()),
        }
    };
    let steps = rows.iter().filter_map(|row| {
        let table = quote::qualified(row.str("schema").ok()?, row.str("name").ok()?);
        let mut step = vacuum_step(&table, "(FREEZE) ", row.f64("bytes").ok()?);
        step.effect = "the table's rows no longer need their transaction numbers".into();
        if let surus_core::plan::Action::Sql { database: place, .. } = &mut step.action {
            *place = Some(database.to_owned());
        }
        Some(step)
    });
    Ok(steps.collect())
}

async fn other_session(access: Access<'_>, database: &str) -> Option<Session> {
    let manners = Manners { application_name: "surus check".into(), ..Manners::looking() };
    access.target?.with_database(database).connect(&manners).await.ok()
}

fn plan(steps: &[Step], name: &str) -> Plan {
    if steps.is_empty() {
        return Plan::advice(format!("vacuumdb --freeze --jobs=4 {}", quote::ident(name)));
    }
    let first = Step::manual("end what holds VACUUM back first: surus check vac.horizon");
    Plan::new(
        format!("freeze the oldest tables of {name}"),
        std::iter::once(first).chain(steps.iter().cloned()).collect(),
    )
}

fn closed_plan(name: &str) -> Plan {
    let name = quote::ident(name);
    Plan::advice(format!(
        "autovacuum should freeze it, although nobody may connect; see its log. By hand: ALTER DATABASE {name} \
         ALLOW_CONNECTIONS true; vacuumdb --freeze {name}; ALTER DATABASE {name} ALLOW_CONNECTIONS false"
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    /// The catalog row is what PostgreSQL itself goes by; a real age of this size would take a day to make.
    fn make_old(on: &Stage, database: &str, age: i64) {
        on.sql(&format!(
            "UPDATE pg_database SET datfrozenxid = ((pg_snapshot_xmax(pg_current_snapshot())::text::bigint - {age} + 4294967296) % 4294967296)::text::xid \
             WHERE datname = '{database}'"
        ));
    }

    #[test]
    fn sees_an_old_database_and_names_its_oldest_tables() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false),
            |on| {
                on.server.create_database("shop");
                on.server.sql_in("shop", "CREATE TABLE first(a int)");
                make_old(on, "shop", 600_000_000);
                make_old(on, "template0", 1_300_000_000);
                make_old(on, "template1", 400_000_000);
                let found = on.findings();
                let seen: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
                assert_eq!(seen, [("vac.xid:template0", "crit"), ("vac.xid:shop", "warn")]);
                let steps = &found[1].fix.as_ref().unwrap().steps;
                let database = |step: &surus_core::plan::Step| match &step.action {
                    surus_core::plan::Action::Sql { database, sql, .. } => {
                        Some((database.clone().unwrap(), sql.clone()))
                    }
                    _ => None,
                };
                let (database, sql) = database(&steps[1]).unwrap();
                assert_eq!(database, "shop");
                assert!(sql.starts_with("VACUUM (FREEZE) "), "{sql}");
                on.server.sql_in(&database, &sql);
                assert!(!found[0].fix.as_ref().unwrap().is_applicable());
            },
        );
    }

    #[test]
    fn a_limit_that_the_operator_raised_is_no_trouble() {
        seeded_on(
            &CHECK,
            |builder| builder.autovacuum(false).setting("autovacuum_freeze_max_age", "1000000000"),
            |on| {
                make_old(on, "postgres", 600_000_000);
                assert!(on.findings().is_empty());
            },
        );
    }
}
