use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    server_log,
    verdict::{Judged, Verdict},
};
use jiff::Timestamp;
use std::collections::BTreeMap;
use surus_core::{
    clock,
    finding::{Finding, Reason},
    plan::Plan,
    size::human_seconds,
};
use surus_pg::log_tail::{Level, LogTail};

pub static CHECK: Check = Check {
    id: "log.error_rate",
    title: "far more errors than usual in the last hour",
    inspects: "ERROR, FATAL and PANIC entries of the log's end, by SQLSTATE class: the last hour against the hours before",
    why: "A class of errors that grows at once is the first sign of a bad release, a lost dependency or an attack.",
    remedy: "Read the newest errors of the class and what was deployed when they began.",
    source: "three and ten times the usual rate, at least 20 errors",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("growth", "times", 3.0, 10.0), Threshold::warn_above("least", "errors", 20.0)],
    look: Look::Custom(look),
};

const HOUR: i64 = 3600;
/// Fewer hours before the last one are no usual rate.
const LEAST_HOURS: f64 = 6.0;

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let tail = server_log::tail(scene, access).await?;
        judge(scene, &tail, clock::now())
    })
}

fn judge(scene: &Scene<'_>, tail: &LogTail, now: Timestamp) -> Judged {
    let Some((oldest, _)) = tail.span() else {
        return Err(Reason::Log("the log's lines have no time: put %m into log_line_prefix".into()).into());
    };
    let covered = (now.as_second() - oldest.as_second()).min(server_log::DAY);
    let hours = (covered - HOUR) as f64 / HOUR as f64;
    if hours < LEAST_HOURS {
        let seen = human_seconds(covered as f64);
        let why = format!("the end of the log covers only {seen}; the usual rate takes {LEAST_HOURS} hours and more");
        return Err(Reason::History(why).into());
    }
    let mut classes: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
    for entry in tail.since(now, server_log::DAY).filter(|entry| entry.level >= Level::Error) {
        let Some(at) = entry.at else { continue };
        let name = entry.sqlstate.as_deref().and_then(|state| state.get(..2)).unwrap_or("all");
        let slot = classes.entry(name.to_owned()).or_default();
        if now.as_second() - at.as_second() < HOUR {
            slot.0 += 1;
            slot.2 = entry.message.chars().take(200).collect();
        } else {
            slot.1 += 1;
        }
    }
    let mut findings = Vec::new();
    for (class, (recent, before, last)) in classes {
        // A class that was never seen before counts as once an hour, so that the growth is a number.
        let usual = (before as f64 / hours).max(1.0);
        let growth = recent as f64 / usual;
        let Some(severity) = scene.grade("least", recent as f64).and_then(|_| scene.grade("growth", growth)) else {
            continue;
        };
        let what = if class == "all" { "errors".to_owned() } else { format!("errors of SQLSTATE class {class}") };
        findings.push(server_log::from_log(
            Finding::new(
                severity,
                class,
                format!("{recent} {what} in the last hour, {growth:.0} times the usual rate"),
            )
            .detail("Something changed within the last hour.")
            .measured("last hour", recent, "errors")
            .measured("usual rate", usual, "errors/h")
            .measured("hours compared", hours, "h")
            .saw("last message", last)
            .fix(Plan::advice(
                "read the newest errors in the log, and look at what was deployed or changed when they began",
            )),
            tail,
        ));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::{fs::OpenOptions, io::Write};

    check_tests!(CHECK);

    /// A day cannot be waited for, so the test writes what the server would have into the server's own log.
    #[test]
    fn sees_errors_growing() {
        seeded(&CHECK, |on| {
            assert_eq!(on.report().unknown[0].reason.kind(), "history");
            on.server.expect_log("played by the test");
            let file = on.server.local().log_file();
            let write = |minutes_ago: i64, count: usize| {
                let at = surus_core::clock::now().as_second() - minutes_ago * 60;
                let at = jiff::Timestamp::from_second(at).unwrap().strftime("%Y-%m-%d %H:%M:%S.000 UTC");
                let mut log = OpenOptions::new().append(true).open(&file).unwrap();
                for _ in 0..count {
                    writeln!(log, "{at} [1] ERROR:  played by the test").unwrap();
                }
            };
            for hours in 2..12 {
                write(hours * 60, 10);
            }
            write(20, 19);
            assert_eq!(on.findings(), [], "19 errors against 9 an hour");
            write(10, 31);
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect::<Vec<_>>(),
                [("log.error_rate:all", "warn")]
            );
            write(5, 100);
            assert_eq!(on.findings()[0].severity.word(), "crit");
        });
    }
}
