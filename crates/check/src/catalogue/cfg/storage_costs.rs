use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::{Plan, Step},
};
use surus_pg::host;

pub static CHECK: Check = Check {
    id: "cfg.storage_costs",
    title: "the planner believes in a rotating disk",
    inspects: "random_page_cost and effective_io_concurrency, against the kind of disk under the data directory",
    why: "The built-in costs say that reading a page out of order is four times as dear as reading it in order. On flash it \
          is not, so the planner avoids indexes that would be faster.",
    remedy: "Set random_page_cost to 1.1 on flash or network storage; a tablespace on another kind of disk can have its own: \
             ALTER TABLESPACE … SET (random_page_cost = …).",
    source: "pgEdge pg-healthcheck random_page_cost; PostgreSQL documentation of random_page_cost",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

/// The built-in values for rotating disks. From 18 on effective_io_concurrency is 16, which is fine for both.
const ROTATING: [(&str, f64); 2] = [("random_page_cost", 4.0), ("effective_io_concurrency", 1.0)];

fn judge(scene: &Scene<'_>) -> Judged {
    let mut suspicious = Vec::new();
    for (name, built_in) in ROTATING {
        if scene.number(name)? == built_in && scene.setting(name)?.is_server_wide() {
            suspicious.push(name);
        }
    }
    if suspicious.is_empty() {
        return Ok(Verdict::ok());
    }
    match host::is_rotational(&scene.data_directory()?) {
        Some(rotating) => Ok(Verdict::of(misjudged(rotating, &suspicious))),
        None => Err(Reason::Host("the kernel does not say what kind of disk the data directory is on".into()).into()),
    }
}

/// What is wrong with built-in values on such a disk.
fn misjudged(rotating: bool, names: &[&'static str]) -> Vec<Finding> {
    let advice = |name: &'static str| match name {
        "random_page_cost" => ("1.1", "plans use indexes where a page out of order costs little; plans can change"),
        _ => ("200", "bitmap scans ask for many pages ahead"),
    };
    let finding = |name: &'static str| {
        let (value, effect) = advice(name);
        Finding::info(name, format!("{name} is that of a rotating disk, but the data is on flash"))
            .detail("The planner avoids reads out of order, or asks for too few pages ahead.")
            .saw("disk under the data directory", "not rotating")
            .fix(Plan::one(format!("set {name} to {value}"), Step::setting(name, value, effect)))
    };
    if rotating { Vec::new() } else { names.iter().copied().map(finding).collect() }
}

#[cfg(test)]
mod tests {
    use super::{CHECK, misjudged};
    use crate::testing::*;
    use surus_pg::host;

    check_tests!(CHECK);

    #[test]
    fn sees_built_in_costs_on_flash() {
        seeded(&CHECK, |on| {
            // What the disk of this machine is, is not in this test's hand.
            let report = on.report();
            let keys: Vec<_> = report.findings.iter().map(|f| f.key.as_str()).collect();
            let both = ["cfg.storage_costs:effective_io_concurrency", "cfg.storage_costs:random_page_cost"];
            match host::is_rotational(on.server.data_dir()) {
                Some(true) => assert_eq!(report.ok, [CHECK.id]),
                Some(false) => assert_eq!(keys, if on.major() < 18 { &both[..] } else { &both[1..] }),
                None => assert_eq!(report.unknown[0].reason.kind(), "host"),
            }
            on.reload(&[("random_page_cost", "1.1"), ("effective_io_concurrency", "100")]);
            assert_eq!(on.findings(), []);
        });
    }

    #[test]
    fn judges_both_kinds_of_disks() {
        assert_eq!(misjudged(true, &["random_page_cost"]), []);
        let found = misjudged(false, &["random_page_cost"]);
        assert_eq!((found.len(), found[0].severity.word()), (1, "info"));
        assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
    }
}
