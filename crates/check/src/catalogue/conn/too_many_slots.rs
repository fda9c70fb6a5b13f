use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
};

pub static CHECK: Check = Check {
    id: "conn.too_many_slots",
    title: "max_connections is larger than the machine can use",
    inspects: "max_connections against the number of cores",
    why: "More sessions than cores do not get more work done: they wait for each other, and each may take its own \
          work_mem. A high limit also hides clients that leak connections until the whole machine suffers.",
    remedy: "Let clients share sessions through a transaction pooler and lower max_connections to a few for each core.",
    source: "pgEdge pg-healthcheck max_connections; 500, or 25 for each core; the built-in 100 is never complained of",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[
        Threshold::warn_above("slots", "connections", 500.0),
        Threshold::warn_above("per_core", "connections per core", 25.0),
    ],
    look: Look::Facts(judge),
};

/// What a fresh cluster has.
const BUILT_IN: f64 = 100.0;

fn judge(scene: &Scene<'_>) -> Judged {
    let slots = scene.number("max_connections")?;
    if slots <= BUILT_IN {
        return Ok(Verdict::ok());
    }
    let cores = scene.host().map(|host| f64::from(host.cores.max(1)));
    let many = scene.grade("slots", slots).is_some();
    let many_per_core = matches!(&cores, Ok(cores) if scene.grade("per_core", slots / cores).is_some());
    if !many && !many_per_core {
        return match cores {
            Ok(_) => Ok(Verdict::ok()),
            Err(reason) => Ok(Verdict::ok().but_unknown("connections for each core", reason)),
        };
    }
    let mut finding = Finding::new(Severity::Info, "", format!("max_connections is {slots:.0}"))
        .detail(
            "That many sessions at work would get in each other's way. If a pooler in front keeps most of them unused, a \
             lower limit loses nothing.",
        )
        .saw("max_connections", slots);
    let mut enough = BUILT_IN;
    if let Ok(cores) = cores {
        finding = finding.saw("cores", cores);
        enough = enough.max(10.0 * cores);
    }
    Ok(Verdict::one(finding.fix(Plan::advice(format!(
        "put a pooler in transaction mode in front, then ALTER SYSTEM SET max_connections = {enough:.0} and restart (a standby \
         must never have less than its primary: lower the primary first)"
    )))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_more_slots_than_cores_can_serve() {
        seeded(&CHECK, |on| {
            on.configure(&[("max_connections", "100")]);
            on.limit("per_core", 0.1);
            assert_eq!(on.findings(), [], "the built-in value");
            on.configure(&[("max_connections", "101")]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("conn.too_many_slots", "info"));
            on.limit("per_core", 1e6);
            assert_eq!(on.findings(), []);
            on.limit("slots", 101.0);
            assert_eq!(on.findings().len(), 1);
        });
    }
}
