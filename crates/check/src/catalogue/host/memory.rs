use crate::{
    rule::{Access, Check, Look, Looking, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
    size::Bytes,
};
use surus_pg::host::{
    HostFacts,
    state::{self, Pressure},
};

pub static CHECK: Check = Check {
    id: "host.memory",
    title: "the host is short of memory, or would end the server first when it is",
    inspects: "/proc/meminfo, /proc/pressure/memory, vm.overcommit_memory and oom_score_adj of the server's main process",
    why: "A host without free memory swaps, and everything becomes slow at once; at the end the kernel kills a process. If it is \
          one of the server's, all sessions end.",
    remedy: "Lower work_mem, max_connections or shared_buffers, or add memory. vm.overcommit_memory = 2 lets a query fail instead \
             of the server.",
    source: "pgEdge pg-healthcheck; PostgreSQL documentation, Linux Memory Overcommit",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Host],
    thresholds: &[Threshold::below("available", "%", 10.0, 4.0), Threshold::above("waiting", "% of time", 10.0, 40.0)],
    look: Look::Custom(look),
};

fn look<'a>(scene: &'a Scene<'a>, access: Access<'a>) -> Looking<'a> {
    Box::pin(async move {
        let postmaster = access.session.backend_pid().and_then(state::parent_of);
        let killable = postmaster.and_then(state::oom_score_adjustment).zip(state::overcommit());
        judge(scene, scene.host()?, state::pressure("memory"), killable)
    })
}

/// `killable`: oom_score_adj of the postmaster and vm.overcommit_memory.
fn judge(scene: &Scene<'_>, host: &HostFacts, pressure: Option<Pressure>, killable: Option<(i32, u8)>) -> Judged {
    let mut findings = Vec::new();
    let percent = (100.0 * host.available_bytes as f64 / host.memory_bytes.max(1) as f64).min(100.0);
    if let Some(severity) = scene.grade("available", percent) {
        findings.push(
            Finding::new(severity, "available", format!("only {} of memory can still be had ({percent:.0} %)", Bytes(host.available_bytes)))
                .detail("The next large sort or new session makes the host swap or the kernel kill.")
                .measured("available", host.available_bytes, "bytes")
                .measured("memory", host.memory_bytes, "bytes")
                .measured("swap used", host.swap_total_bytes.saturating_sub(host.swap_free_bytes), "bytes")
                .fix(Plan::advice("find the largest processes (ps --sort=-rss), then lower work_mem or the number of sessions, or add memory")),
        );
    }
    if let Some(pressure) = pressure
        && let Some(severity) = scene.grade("waiting", pressure.some_60)
    {
        findings.push(
            Finding::new(
                severity,
                "waiting",
                format!("processes waited for memory {:.0} % of the last minute", pressure.some_60),
            )
            .detail("Pages are read in again and again because there is no room to keep them.")
            .measured("some waited", pressure.some_60, "% of 60 s")
            .measured("all waited", pressure.full_60, "% of 60 s")
            .fix(Plan::advice("lower work_mem, shared_buffers or the number of sessions, or add memory")),
        );
    }
    findings.extend(killable.and_then(|(score, overcommit)| first_victim(score, overcommit)));
    let verdict = Verdict::of(findings);
    Ok(match pressure {
        Some(_) => verdict,
        None => verdict
            .but_unknown("waits for memory", Reason::Host("this kernel does not tell its pressure (psi=1)".into())),
    })
}

fn first_victim(score: i32, overcommit: u8) -> Option<Finding> {
    if overcommit == 2 || score < 0 {
        return None;
    }
    Some(
        Finding::info("oom", "when memory runs out, the kernel may kill the server as readily as any other process")
            .detail("A killed backend ends all sessions, a killed main process the whole server.")
            .saw("vm.overcommit_memory", overcommit)
            .saw("oom_score_adj of the main process", score)
            .fix(Plan::advice(
                "OOMScoreAdjust=-900 in the systemd unit with PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj and PG_OOM_ADJUST_VALUE=0 in \
                 its environment; or sysctl vm.overcommit_memory=2 where nothing else overcommits",
            )),
    )
}

#[cfg(test)]
mod tests {
    use super::{CHECK, first_victim};
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_little_memory() {
        seeded(&CHECK, |on| {
            on.limit("available", 100.0);
            let found = on.findings();
            assert!(found.iter().any(|f| f.key == "host.memory:available"), "{found:?}");
            on.limit("available", -1.0);
            assert!(on.report().findings.iter().all(|f| f.key != "host.memory:available"));
        });
    }

    #[test]
    fn a_protected_server_is_no_first_victim() {
        assert!(first_victim(-900, 0).is_none() && first_victim(0, 2).is_none());
        assert!(first_victim(0, 0).is_some() && first_victim(0, 1).is_some());
    }
}
