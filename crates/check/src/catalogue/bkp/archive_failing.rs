use crate::{
    archiving::Archiving,
    rule::{Check, Look, RunsOn, Scope, Sql, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, size::human_seconds};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "bkp.archive_failing",
    title: "WAL archiving fails",
    inspects: "pg_stat_archiver: the last failure against the last success",
    why: "While archiving fails, nothing new can be restored, and WAL piles up in pg_wal until the disk is full.",
    remedy: "Read in the server's log what the archive command said, mend it, and watch that the failures stop. Never set the \
             command to something that only says done: that loses the WAL.",
    source: "CloudNativePG and pgEdge alert rules; 24 h and 1 h since the last failure",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::below("last_failure", "s ago", 86_400.0, 3600.0)],
    look: Look::Query(
        &[Sql::all(
            "SELECT failed_count, archived_count, last_failed_wal, last_archived_wal, \
             extract(epoch FROM clock_timestamp() - last_failed_time) AS failed_s, \
             extract(epoch FROM clock_timestamp() - last_archived_time) AS archived_s FROM pg_stat_archiver",
        )],
        judge,
    ),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if !Archiving::of(scene)?.is_on() {
        return Ok(Verdict::not_applicable("WAL is not archived; see bkp.archive_off"));
    }
    let row = rows.first()?;
    let (failed, archived) = (row.opt_f64("failed_s")?, row.opt_f64("archived_s")?);
    let Some(failed) = failed.filter(|failed| archived.is_none_or(|archived| *failed < archived)) else {
        return Ok(Verdict::ok());
    };
    let Some(severity) = scene.grade("last_failure", failed) else { return Ok(Verdict::ok()) };
    let success = match archived {
        Some(archived) => format!("the last success was {} ago", human_seconds(archived)),
        None => "nothing was archived since the statistics were reset".to_owned(),
    };
    let title = format!("WAL archiving failed {} ago, and {success}", human_seconds(failed));
    let mut finding = Finding::new(severity, "", title)
        .detail("What is written now cannot be restored from the archive, and pg_wal grows.")
        .measured("last failure", failed, "s")
        .saw("segment", row.text("last_failed_wal")?)
        .saw("failures", row.i64("failed_count")?)
        .saw("successes", row.i64("archived_count")?);
    if let Some(archived) = archived {
        finding = finding.measured("last success", archived, "s");
    }
    Ok(Verdict::one(finding.fix(Plan::advice(
        "look for \"archive command failed\" in the server's log, run the command by hand as the server's user, and mend it; the \
         server tries again by itself",
    ))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_command_that_fails() {
        let build =
            |builder: surus_testkit::Builder| builder.setting("archive_mode", "on").setting("archive_command", "false");
        seeded_on(&CHECK, build, |on| {
            on.sql("CREATE TABLE t(a int); SELECT pg_switch_wal()");
            let found = on.soon_finds();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bkp.archive_failing", "crit"));
            on.server.local().write_settings(&[("archive_command", "cp %p ../%f")]).unwrap();
            on.server.local().reload();
            on.sql("CREATE TABLE u(a int); SELECT pg_switch_wal()");
            on.until("SELECT archived_count > 0 AND last_archived_time > last_failed_time AS v FROM pg_stat_archiver");
            assert_eq!(on.findings(), []);
        });
    }
}
