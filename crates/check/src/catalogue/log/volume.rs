use crate::{
    rule::{Access, Check, Look, Looking, RunsOn, Scope, Threshold},
    scene::Scene,
    server_log,
    verdict::Verdict,
};
use std::path::Path;
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::Bytes,
};
use surus_pg::{
    host::{self, Room},
    log_tail::LogTail,
};

pub static CHECK: Check = Check {
    id: "log.volume",
    title: "the log is written too fast or takes too much of its disk",
    inspects: "the current log file's growth, the size of the log directory and its filesystem",
    why: "Writing the log costs time in every session that logs, and a log on the same filesystem as the data can fill it and stop \
          the server.",
    remedy: "Log fewer statements (log_min_duration_statement, sampling), rotate and remove old files.",
    source: "1 MB/s is 86 GB a day; a fifth of a filesystem",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("rate", "bytes/s", 1e6), Threshold::warn_above("share", "%", 20.0)],
    look: Look::Custom(look),
};

/// A shorter stretch of log says nothing about its usual rate.
const LEAST_SECONDS: f64 = 60.0;

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let tail = server_log::tail(scene, access).await?;
        let own_directory = scene.settings().on("logging_collector") == Some(true);
        let size = if own_directory {
            host::files_bytes(tail.path.parent().unwrap_or(Path::new("/")))
        } else {
            tail.file_bytes
        };
        Ok(judge(scene, &tail, size, host::room(&tail.path)))
    })
}

fn judge(scene: &Scene<'_>, tail: &LogTail, size: u64, room: Option<Room>) -> Verdict {
    let mut findings = Vec::new();
    let seconds = tail.span().map_or(0.0, |(from, to)| (to.as_millisecond() - from.as_millisecond()) as f64 / 1000.0);
    // A short stretch that fills the whole part that was read is a fast log, not a young one.
    let enough = seconds >= LEAST_SECONDS || tail.file_bytes > tail.bytes;
    let rate = tail.bytes as f64 / seconds.max(1.0);
    if enough && let Some(severity) = scene.grade("rate", rate) {
        let day = Bytes((rate * 86_400.0) as u64);
        findings.push(
            Finding::new(severity, "rate", format!("the log grows by {} a second, {day} a day", Bytes(rate as u64)))
                .detail("Sessions wait for their log lines to be written.")
                .measured("rate", rate, "bytes/s")
                .measured("over", seconds, "s")
                .fix(Plan::advice(
                    "raise log_min_duration_statement, or sample with log_min_duration_sample and log_statement_sample_rate; \
                     log_statement = none or ddl",
                )),
        );
    }
    let Some(room) = room else {
        let why = format!("the filesystem of {} cannot be looked at", tail.path.display());
        return Verdict::of(findings).but_unknown("share of the filesystem", Reason::Host(why));
    };
    let share = 100.0 * size as f64 / room.total_bytes.max(1) as f64;
    if let Some(severity) = scene.grade("share", share) {
        findings.push(
            Finding::new(severity, "share", format!("the log takes {} ({share:.0} % of its filesystem)", Bytes(size)))
                .detail("When the filesystem is full, the server may stop too.")
                .measured("log", size, "bytes")
                .measured("share", share, "%")
                .measured("filesystem", room.total_bytes, "bytes")
                .fix(Plan::advice(
                    "rotate daily (log_rotation_age, log_truncate_on_rotation or logrotate) and remove old files",
                )),
        );
    }
    Verdict::of(findings.into_iter().map(|finding| server_log::from_log(finding, tail)).collect())
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_fast_and_a_large_log() {
        seeded(&CHECK, |on| {
            on.server.expect_log("played by the test");
            let old = "2020-01-01 00:00:00.000 UTC [1] LOG:  played by the test\n";
            let file = on.server.local().log_file();
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, format!("{old}{text}")).unwrap();
            assert_eq!(on.findings(), []);
            on.limit("rate", 1e-9);
            on.limit("share", 0.0);
            let found = on.findings();
            assert_eq!(
                found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
                ["log.volume:rate", "log.volume:share"]
            );
        });
    }
}
