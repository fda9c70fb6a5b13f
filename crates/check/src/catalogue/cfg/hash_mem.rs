use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};

pub static CHECK: Check = Check {
    id: "cfg.hash_mem",
    title: "a single hash may take a large part of the memory",
    inspects: "work_mem × hash_mem_multiplier × (max_parallel_workers_per_gather + 1) against the host's memory",
    why: "A hash may take hash_mem_multiplier times work_mem, and each parallel worker of the query as much again. One \
          query of a report can so take what everybody else needs.",
    remedy: "Lower work_mem for everybody, and give the value to the roles that run reports: ALTER ROLE … SET work_mem.",
    source: "PostgreSQL documentation of hash_mem_multiplier; 10 % of the memory for one hash",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Host],
    thresholds: &[Threshold::warn_above("share", "%", 10.0)],
    look: Look::Facts(judge),
};

const MIB: f64 = (1_u64 << 20) as f64;

fn judge(scene: &Scene<'_>) -> Judged {
    let memory = scene.host()?.memory_bytes as f64;
    let work_mem = scene.bytes("work_mem")?.unwrap_or_default() as f64;
    let multiplier = scene.number("hash_mem_multiplier")?;
    let processes = scene.number("max_parallel_workers_per_gather")?.min(scene.number("max_parallel_workers")?) + 1.0;
    let hash = work_mem * multiplier * processes;
    let share = 100.0 * hash / memory;
    let Some(severity) = scene.grade("share", share) else { return Ok(Verdict::ok()) };
    Ok(Verdict::one(
        Finding::new(
            severity,
            "",
            format!("one parallel hash may take {:.0} MB, {share:.0} % of the memory", hash / MIB),
        )
        .detail("A few such queries at the same time leave the machine without memory.")
        .measured("share", share, "%")
        .measured("work_mem", work_mem, "bytes")
        .saw("hash_mem_multiplier", multiplier)
        .saw("processes of one query", processes)
        .measured("memory", memory, "bytes")
        .fix(Plan::advice(format!(
            "ALTER SYSTEM SET work_mem = '{:.0}MB', and give more only to the roles that run reports: ALTER ROLE … SET \
                 work_mem = …",
            (memory * 0.02 / multiplier.max(1.0) / processes / MIB).floor().max(4.0)
        ))),
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_a_hash_that_may_take_too_much() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), []);
            on.reload(&[
                ("work_mem", "1000GB"),
                ("hash_mem_multiplier", "3"),
                ("max_parallel_workers_per_gather", "1"),
            ]);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.hash_mem", "warn"));
            assert!(found[0].title.starts_with("one parallel hash may take 6144000 MB"), "{}", found[0].title);
        });
    }
}
