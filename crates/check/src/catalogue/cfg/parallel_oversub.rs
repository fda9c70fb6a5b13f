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
    id: "cfg.parallel_oversub",
    title: "more parallel workers are allowed than can run",
    inspects: "max_parallel_workers against max_worker_processes and the number of cores",
    why: "Parallel workers beyond the number of cores only take time from each other and from other sessions. Beyond \
          max_worker_processes they are never started: queries are planned for help that does not come.",
    remedy: "Set max_parallel_workers to at most the number of cores, and max_worker_processes above it.",
    source: "PostgreSQL documentation of max_parallel_workers; the built-in value is only judged against max_worker_processes",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(scene: &Scene<'_>) -> Judged {
    let workers = scene.number("max_parallel_workers")?;
    let processes = scene.number("max_worker_processes")?;
    let chosen = !scene.setting("max_parallel_workers")?.is_default();
    let fix = |value: f64| {
        Plan::one(
            format!("set max_parallel_workers to {value:.0}"),
            Step::setting(
                "max_parallel_workers",
                format!("{value:.0}"),
                "queries are planned for workers that can run",
            ),
        )
    };
    let mut verdict = Verdict::ok();
    if workers > processes {
        verdict.findings.push(
            Finding::warn(
                "processes",
                format!("max_parallel_workers is {workers:.0}, but only {processes:.0} may be started"),
            )
            .detail("Queries are planned for workers that they do not get, and then run slower than planned.")
            .saw("max_parallel_workers", workers)
            .saw("max_worker_processes", processes)
            .fix(fix(processes)),
        );
    }
    match scene.host() {
        Ok(host) if chosen && workers > f64::from(host.cores.max(1)) => verdict.findings.push(
            Finding::warn("cores", format!("max_parallel_workers is {workers:.0} on {} cores", host.cores))
                .detail("A few large queries can crowd out all others.")
                .saw("max_parallel_workers", workers)
                .saw("cores", host.cores)
                .fix(fix(f64::from(host.cores.max(1)).min(processes))),
        ),
        Err(reason) if chosen => verdict = verdict.but_unknown("cores", reason),
        _ => {}
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_more_workers_than_can_run() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), [], "built-in values");
            on.reload(&[("max_parallel_workers", "1000")]);
            let found = on.findings();
            let keys: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.severity.word())).collect();
            let expected = [("cfg.parallel_oversub:cores", "warn"), ("cfg.parallel_oversub:processes", "warn")];
            assert_eq!(keys, expected);
            assert!(found[1].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.reload(&[("max_parallel_workers", "1")]);
            assert_eq!(on.findings(), []);
        });
    }
}
