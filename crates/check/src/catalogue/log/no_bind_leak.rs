use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "log.no_bind_leak",
    title: "the log holds what clients send: values, secrets, personal data",
    inspects: "log_statement, log_parameter_max_length, log_parameter_max_length_on_error, log_min_duration_statement, debug_print_*",
    why: "Logs are copied, shipped and kept far more freely than the database. Values that were bound to parameters, or whole \
          statements, take personal data with them.",
    remedy: "Log what is slow, not everything, and without parameter values (log_parameter_max_length = 0).",
    source: "CIS PostgreSQL Benchmark (pgdsat)",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let settings = scene.settings();
    let text = |name: &str| settings.text(name).unwrap_or_default();
    let mut findings = Vec::new();
    let statements = text("log_statement");
    if matches!(statements, "all" | "mod") {
        let what = if statements == "all" { "every statement is" } else { "every INSERT, UPDATE and DELETE is" };
        findings.push(
            Finding::warn("log_statement", format!("{what} logged with its values"))
                .detail("The log becomes a second copy of the data, and it costs every statement time.")
                .saw("setting log_statement", statements)
                .fix(Plan::one(
                    "log schema changes only",
                    Step::setting("log_statement", "ddl", "CREATE, ALTER, DROP and the like are logged, nothing else"),
                )),
        );
    }
    let slow = settings.milliseconds("log_min_duration_statement");
    // 0 logs everything; a threshold logs a few statements whose values may be wanted for finding out why.
    let all_slow = slow.is_some_and(|milliseconds| milliseconds < 100.0);
    if (all_slow || matches!(statements, "all" | "mod")) && text("log_parameter_max_length") != "0" {
        findings.push(
            Finding::warn("log_parameter_max_length", "values of parameters are logged with nearly every statement")
                .detail(
                    "Drivers bind values so that they are not part of the statement; the log writes them down again.",
                )
                .saw("setting log_parameter_max_length", text("log_parameter_max_length"))
                .saw("setting log_min_duration_statement", text("log_min_duration_statement"))
                .fix(Plan::one(
                    "log statements without their parameters' values",
                    Step::setting("log_parameter_max_length", "0", "logged statements show $1, not its value"),
                )),
        );
    }
    if text("log_parameter_max_length_on_error") != "0" {
        findings.push(
            Finding::warn(
                "log_parameter_max_length_on_error",
                "failed statements are logged with the values of their parameters",
            )
            .detail("A failed INSERT takes the row's data into the log.")
            .saw("setting log_parameter_max_length_on_error", text("log_parameter_max_length_on_error"))
            .fix(Plan::one(
                "log failed statements without values",
                Step::setting("log_parameter_max_length_on_error", "0", "errors show $1, not its value"),
            )),
        );
    }
    for name in ["debug_print_parse", "debug_print_rewritten", "debug_print_plan"] {
        if settings.on(name) == Some(true) {
            findings.push(
                Finding::warn(name, format!("{name} writes the inside of every statement into the log"))
                    .detail("It is a tool for developers of PostgreSQL: large, slow, and full of values.")
                    .saw(format!("setting {name}"), "on")
                    .fix(Plan::one(format!("turn {name} off"), Step::setting(name, "off", "the log shrinks"))),
            );
        }
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_values_in_the_log() {
        seeded(&CHECK, |on| {
            on.configure(&[("log_min_duration_statement", "1s"), ("log_statement", "ddl")]);
            assert_eq!(on.findings(), [], "a slow log with ddl is fine");
            on.configure(&[
                ("log_min_duration_statement", "0"),
                ("log_parameter_max_length_on_error", "-1"),
                ("debug_print_plan", "on"),
            ]);
            let mut seen: Vec<_> = on.findings().iter().map(|f| f.object.clone()).collect();
            seen.sort();
            assert_eq!(seen, ["debug_print_plan", "log_parameter_max_length", "log_parameter_max_length_on_error"]);
        });
    }
}
