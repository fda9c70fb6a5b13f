use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Interruption, Plan, Step},
};

pub static CHECK: Check = Check {
    id: "cfg.shared_buffers",
    title: "shared_buffers does not fit the machine's memory",
    inspects: "shared_buffers against the memory of the host or of its control group",
    why: "shared_buffers is PostgreSQL's own cache. The built-in 128 MB leaves a larger machine's memory to the operating \
          system alone, and checkpoints write the same pages again and again; too much leaves nothing for queries.",
    remedy: "Give it about a quarter of the memory of a machine that serves PostgreSQL alone, and restart. Count all \
             instances together if there are several.",
    source: "PostgreSQL documentation of shared_buffers (25 %, hardly ever over 40 %); pgEdge pg-healthcheck; check_pgactivity",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Host],
    thresholds: &[Threshold::warn_below("least", "%", 10.0), Threshold::warn_above("most", "%", 45.0)],
    look: Look::Facts(judge),
};

/// Up to this much memory the built-in value is fine.
const SMALL_MACHINE: f64 = 2.0 * GIB;
const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;

fn judge(scene: &Scene<'_>) -> Judged {
    let memory = scene.host()?.memory_bytes as f64;
    let shared = scene.bytes("shared_buffers")?.unwrap_or_default() as f64;
    let (least, most) = (scene.threshold("least"), scene.threshold("most"));
    Ok(Verdict::of(misfit(shared, memory, &least, &most).into_iter().collect()))
}

/// What is wrong with this many bytes of buffers on a machine with this many bytes of memory.
fn misfit(shared: f64, memory: f64, least: &Threshold, most: &Threshold) -> Option<Finding> {
    let share = 100.0 * shared / memory.max(1.0);
    let low = |share| if memory > SMALL_MACHINE { least.grade(share) } else { None };
    let (severity, detail): (Severity, _) = match (low(share), most.grade(share)) {
        (Some(severity), _) => {
            (severity, "Pages are written and read more often than this machine's memory makes necessary.")
        }
        (_, Some(severity)) => {
            (severity, "Little is left for sorts, for sessions and for the operating system's own cache.")
        }
        _ => return None,
    };
    let quarter = format!("{}MB", ((memory / 4.0 / MIB / 64.0).floor() * 64.0).max(128.0) as u64);
    Some(
        Finding::new(
            severity,
            "",
            format!("shared_buffers is {:.0} MB, {share:.1} % of the {:.1} GB of memory", shared / MIB, memory / GIB),
        )
        .detail(detail)
        .measured("shared_buffers", shared, "bytes")
        .measured("memory", memory, "bytes")
        .measured("share", share, "%")
        .fix(Plan::one(
            format!("set shared_buffers to a quarter of the memory, {quarter}"),
            Step::setting(
                "shared_buffers",
                quarter.as_str(),
                "after a restart, a quarter of the memory is PostgreSQL's cache (right if the machine serves this instance alone)",
            )
            .interrupts(Interruption::Restart),
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHECK, GIB, MIB, misfit};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_buffers_that_do_not_fit() {
        seeded(&CHECK, |on| {
            // 16 MB, as tests have it, on any machine that can build this.
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.shared_buffers", "warn"));
            assert!(found[0].fix.as_ref().is_some_and(|plan| plan.is_applicable()));
            on.limit("least", -1.0);
            assert_eq!(on.findings(), []);
            on.limit("most", 0.0);
            assert_eq!(on.findings().len(), 1);
        });
    }

    /// The machine's memory cannot be seeded.
    #[test]
    fn judges_other_machines() {
        let [least, most] = [CHECK.thresholds[0], CHECK.thresholds[1]];
        let title = |shared: f64, memory: f64| misfit(shared, memory, &least, &most).map(|found| found.title);
        assert_eq!(title(128.0 * MIB, 2.0 * GIB), None, "the built-in value on a small machine");
        let small = title(128.0 * MIB, 16.0 * GIB);
        assert_eq!(small.as_deref(), Some("shared_buffers is 128 MB, 0.8 % of the 16.0 GB of memory"));
        assert_eq!(title(4.0 * GIB, 16.0 * GIB), None);
        assert!(title(8.0 * GIB, 16.0 * GIB).is_some());
        let plan = misfit(128.0 * MIB, 16.0 * GIB, &least, &most).unwrap().fix.unwrap();
        assert_eq!(plan.summary, "set shared_buffers to a quarter of the memory, 4096MB");
    }
}
