use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Interruption, Plan, Step},
};

pub static CHECK: Check = Check {
    id: "log.settings",
    title: "the log would not tell what went wrong",
    inspects: "log_destination, logging_collector, log_line_prefix, log_min_messages, log_checkpoints, log_lock_waits, \
               log_temp_files, log_autovacuum_min_duration",
    why: "After an incident the log is all there is. Without time and process lines cannot be put in order; lock waits, temporary \
          files, checkpoints and slow autovacuums leave no other trace.",
    remedy: "Turn the settings on; each costs a few lines a minute at most on a healthy server.",
    source: "CIS PostgreSQL Benchmark (pgdsat); pgBadger's recommended settings",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let mut findings = Vec::new();
    let settings = scene.settings();
    let text = |name: &str| settings.text(name).unwrap_or_default();
    let destinations = settings.list("log_destination").unwrap_or_default();
    let collector = settings.on("logging_collector") == Some(true);
    if destinations.iter().any(|one| matches!(*one, "csvlog" | "jsonlog")) && !collector {
        findings.push(
            Finding::warn(
                "logging_collector",
                format!("log_destination is {} but nothing collects it", destinations.join(", ")),
            )
            .detail("These formats are written only by the logging collector, which is off.")
            .saw("setting logging_collector", "off")
            .fix(Plan::one(
                "let the server collect its log",
                Step::setting("logging_collector", "on", "the log goes to files in log_directory")
                    .interrupts(Interruption::Restart),
            )),
        );
    }
    let prefix = text("log_line_prefix");
    let has = |escapes: &[&str]| escapes.iter().any(|escape| prefix.contains(escape));
    let uses_prefix = destinations.contains(&"stderr");
    if uses_prefix && !(has(&["%t", "%m", "%n"]) && has(&["%p", "%c"])) {
        findings.push(
            Finding::warn("log_line_prefix", "lines of the log carry no time or no process")
                .detail("Entries of one session cannot be put together, nor set against what happened elsewhere.")
                .saw("setting log_line_prefix", prefix)
                .fix(Plan::one(
                    "let each line begin with time, process, role, database and client",
                    Step::setting(
                        "log_line_prefix",
                        "%m [%p] %q%u@%d %h ",
                        "programs that parse the old prefix must be told",
                    ),
                )),
        );
    }
    if matches!(text("log_min_messages"), "fatal" | "panic") {
        findings.push(
            Finding::warn("log_min_messages", "errors are not logged")
                .detail("Failed statements of the server and of its clients leave no line.")
                .saw("setting log_min_messages", text("log_min_messages"))
                .fix(Plan::one(
                    "log warnings and errors",
                    Step::setting("log_min_messages", "warning", "warnings and errors are logged"),
                )),
        );
    }
    findings.extend(TRACES.iter().filter(|trace| trace.off == text(trace.name)).map(Trace::finding));
    Ok(Verdict::of(findings))
}

/// A setting that leaves a trace of something slow.
struct Trace {
    name: &'static str,
    off: &'static str,
    on: &'static str,
    title: &'static str,
    detail: &'static str,
}

const TRACES: &[Trace] = &[
    Trace {
        name: "log_checkpoints",
        off: "off",
        on: "on",
        title: "checkpoints are not logged",
        detail: "When writes stall, the log does not say whether a checkpoint was the cause.",
    },
    Trace {
        name: "log_lock_waits",
        off: "off",
        on: "on",
        title: "long lock waits are not logged",
        detail: "Who waited for whom is gone once the wait is over.",
    },
    Trace {
        name: "log_temp_files",
        off: "-1",
        on: "10MB",
        title: "large temporary files are not logged",
        detail: "Queries that spill sorts and hashes to disk cannot be named later.",
    },
    Trace {
        name: "log_autovacuum_min_duration",
        off: "-1",
        on: "10min",
        title: "slow autovacuums are not logged",
        detail: "Whether and how long autovacuum worked on a table cannot be told later.",
    },
];

impl Trace {
    fn finding(&self) -> Finding {
        let effect = format!("{} = {}; a few lines where it applies", self.name, self.on);
        Finding::info(self.name, self.title)
            .detail(self.detail)
            .saw(format!("setting {}", self.name), self.off)
            .fix(Plan::one(format!("set {} to {}", self.name, self.on), Step::setting(self.name, self.on, effect)))
    }
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_log_that_tells_nothing() {
        let build = |builder: surus_testkit::Builder| {
            builder
                .setting("log_line_prefix", "%u ")
                .setting("log_checkpoints", "on")
                .setting("log_autovacuum_min_duration", "1s")
                .setting("log_lock_waits", "off")
        };
        seeded_on(&CHECK, build, |on| {
            let found = on.findings();
            let seen: Vec<_> = found.iter().map(|f| (f.severity.word(), f.object.as_str())).collect();
            assert_eq!(seen, [("warn", "log_line_prefix"), ("info", "log_lock_waits"), ("info", "log_temp_files")]);
            assert!(found.iter().all(|f| f.fix.as_ref().unwrap().is_applicable()));
            on.sql("ALTER SYSTEM SET log_destination = 'csvlog'");
            on.sql("SELECT pg_reload_conf()");
            on.until("SELECT current_setting('log_destination') = 'csvlog' AS v");
            let found = on.findings();
            assert_eq!(found[0].object, "logging_collector");
        });
    }
}
