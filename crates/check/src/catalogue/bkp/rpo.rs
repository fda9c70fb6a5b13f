use crate::{
    archiving::Archiving,
    rule::{Check, Look, Need, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Plan, Step},
    size::human_seconds,
};
use surus_pg::Rows;

pub static CHECK: Check = Check {
    id: "bkp.rpo",
    title: "more could be lost than the recovery point objective allows",
    inspects: "archive_timeout, the age of the oldest segment that waits for the archiver, and the declared objective",
    why: "When the machine is lost, what is not in the archive is lost. A quiet server fills a segment in hours, and until then \
          the archive has none of it.",
    remedy: "Set archive_timeout to what you can afford to lose, and declare that in surus.toml: [check.declared] rpo_seconds.",
    source: "PostgreSQL documentation, archive_timeout; the objective is the operator's",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[Need::Monitor],
    thresholds: &[],
    look: Look::Query(
        &[Sql::all(
            "SELECT extract(epoch FROM clock_timestamp() - min(modification)) AS waiting_s \
             FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}\\.ready$'",
        )],
        judge,
    ),
};

/// What is proposed where nothing is declared; a minute of idle segments costs little, as they compress to nothing.
const USUAL_S: f64 = 300.0;

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if let Some(service) = scene.facts.managed {
        return Ok(Verdict::not_applicable(format!("{} archives WAL by itself", service.name())));
    }
    if !Archiving::of(scene)?.is_on() {
        return Ok(Verdict::not_applicable("WAL is not archived; see bkp.archive_off"));
    }
    let waiting = rows.first()?.opt_f64("waiting_s")?.unwrap_or(0.0);
    let timeout = scene.number("archive_timeout")?;
    let objective = scene.declared.rpo_seconds;
    let mut findings = Vec::new();
    if timeout == 0.0 || objective.is_some_and(|objective| timeout > objective) {
        findings.push(never_in_time(timeout, objective));
    }
    if let Some(objective) = objective.filter(|objective| waiting > *objective) {
        let title = format!(
            "a segment waits for the archiver for {}, longer than the {} that may be lost",
            human_seconds(waiting),
            human_seconds(objective)
        );
        findings.push(
            Finding::crit("waiting", title)
                .detail("If this machine were lost now, more would be gone than was agreed on.")
                .measured("oldest waiting segment", waiting, "s")
                .measured("declared rpo_seconds", objective, "s")
                .fix(Plan::advice("mend or speed up archive_command; see bkp.archive_failing and bkp.archive_queue")),
        );
    }
    let quiet = findings.is_empty() && objective.is_none();
    let verdict = Verdict::of(findings);
    Ok(match quiet {
        true => verdict.but_unknown(
            "objective",
            Reason::Undeclared(
                "how much may be lost is not declared: [check.declared] rpo_seconds = 300 in surus.toml".into(),
            ),
        ),
        false => verdict,
    })
}

/// Segments are not switched in time.
fn never_in_time(timeout: f64, objective: Option<f64>) -> Finding {
    let wanted = objective.unwrap_or(USUAL_S).clamp(1.0, USUAL_S);
    let title = match (timeout, objective) {
        (0.0, _) => "archive_timeout is 0: a segment is archived only when it is full".to_owned(),
        (_, Some(objective)) => format!(
            "archive_timeout ({}) is longer than what may be lost ({})",
            human_seconds(timeout),
            human_seconds(objective)
        ),
        (_, None) => format!("archive_timeout is {}", human_seconds(timeout)),
    };
    let value = format!("{wanted:.0}s");
    let effect =
        "a segment is archived at least that often while there are changes; each is of full size unless compressed";
    let plan = Plan::one(format!("archive at least every {value}"), Step::setting("archive_timeout", value, effect));
    let finding = Finding::warn("archive_timeout", title)
        .detail("On a quiet server hours of changes can be on this machine only.")
        .measured("archive_timeout", timeout, "s");
    match objective {
        Some(objective) => finding.measured("declared rpo_seconds", objective, "s").fix(plan),
        None => finding.fix(plan),
    }
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_that_segments_are_not_switched_in_time() {
        let build = |builder: surus_testkit::Builder| {
            builder.setting("archive_mode", "on").setting("archive_command", "cp %p ../%f")
        };
        seeded_on(&CHECK, build, |on| {
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bkp.rpo:archive_timeout", "warn"));
            assert!(format!("{:?}", found[0].fix).contains("300s"));
            on.server.local().write_settings(&[("archive_timeout", "120")]).unwrap();
            on.server.local().reload();
            on.until("SELECT setting = '120' AS v FROM pg_settings WHERE name = 'archive_timeout'");
            assert_eq!(on.report().unknown[0].reason.kind(), "undeclared");
            on.options.config.declared.rpo_seconds = Some(60.0);
            assert!(on.findings()[0].title.contains("longer than what may be lost"));
            on.options.config.declared.rpo_seconds = Some(600.0);
            assert_eq!(on.findings(), []);
        });
    }

    #[test]
    fn sees_a_segment_that_waits_too_long() {
        let build = |builder: surus_testkit::Builder| {
            builder.setting("archive_mode", "on").setting("archive_command", "false").setting("archive_timeout", "1")
        };
        seeded_on(&CHECK, build, |on| {
            on.options.config.declared.rpo_seconds = Some(1.0);
            on.sql("CREATE TABLE t(a int); SELECT pg_switch_wal()");
            let found = on.soon_finds();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bkp.rpo:waiting", "crit"));
        });
    }
}
