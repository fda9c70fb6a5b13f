use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Interruption, Plan, Step},
    size::{human_count, human_seconds},
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "wal.buffers_full",
    title: "the WAL buffers run full",
    inspects: "pg_stat_wal.wal_buffers_full per second since the reset",
    why: "When the WAL buffers are full, a session in the middle of a statement must write them out itself while others \
          wait for the same lock.",
    remedy: "Raise wal_buffers to 64 MB; the default is capped at one WAL segment.",
    source: "PostgreSQL documentation, wal_buffers and pg_stat_wal; one a second as the limit is our own",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Major(14)],
    thresholds: &[Threshold::warn_above("rate", "a second", 1.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT wal_buffers_full AS times, extract(epoch FROM clock_timestamp() - stats_reset) AS age_s FROM pg_stat_wal",
        )],
        judge,
    ),
};

/// A burst just after a reset is not a rate: at least this long is averaged over.
const LEAST_S: f64 = 600.0;
const WANTED_BYTES: u64 = 64 << 20;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    let row = rows.first()?;
    let (times, age) = (row.f64("times")?, row.opt_f64("age_s")?.unwrap_or(0.0));
    let rate = times / age.max(LEAST_S);
    let Some(severity) = scene.grade("rate", rate) else {
        return match age < LEAST_S {
            true => Err(Reason::Statistics(format!("pg_stat_wal was reset {} ago", human_seconds(age))).into()),
            false => Ok(Verdict::ok()),
        };
    };
    let title = format!(
        "the WAL buffers were full {} times in {} ({rate:.1} a second)",
        human_count(times as i64),
        human_seconds(age)
    );
    let plan = match scene.bytes("wal_buffers")? {
        Some(bytes) if bytes >= WANTED_BYTES => {
            Plan::advice("wal_buffers is large already: move pg_wal to faster storage, or write less WAL at once")
        }
        _ => Plan::one(
            "make the WAL buffers 64 MB",
            Step::setting("wal_buffers", "64MB", "after a restart sessions find room in the WAL buffers")
                .interrupts(Interruption::Restart),
        ),
    };
    Ok(Verdict::one(
        Finding::new(severity, "", title)
            .detail("Sessions had to write WAL in the middle of their statements and held up others meanwhile.")
            .measured("rate", rate, "/s")
            .saw("times full", times)
            .measured("since reset", age, "s")
            .saw("wal_buffers", scene.setting("wal_buffers")?.shown())
            .fix(plan),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use surus_core::plan::Interruption;

    check_tests!(CHECK);

    #[test]
    fn sees_full_buffers() {
        seeded(&CHECK, |on| {
            on.configure(&[("wal_buffers", "32kB")]);
            on.sql("SELECT pg_stat_reset_shared('wal')");
            assert_eq!(on.report().unknown[0].reason.kind(), "statistics");
            on.sql("CREATE TABLE t AS SELECT g, repeat('x', 200) AS pad FROM generate_series(1, 30000) g");
            on.until("SELECT wal_buffers_full > 10 AS v FROM pg_stat_wal");
            on.limit("rate", 0.01);
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("wal.buffers_full", "warn"));
            let plan = found[0].fix.as_ref().unwrap();
            assert_eq!(plan.worst_interruption(), Interruption::Restart);
        });
    }
}
