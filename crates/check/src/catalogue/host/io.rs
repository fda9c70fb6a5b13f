use crate::{
    rule::{Check, Look, Need, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason, Severity},
    plan::Plan,
};
use surus_pg::host::state::{self, DiskTimes, Pressure};

pub static CHECK: Check = Check {
    id: "host.io",
    title: "the host waits for its disks",
    inspects: "/proc/pressure/io over the last minutes, and the data directory's device since the machine was started",
    why: "When every process waits for the disk, commits and reads queue up, and the database looks slow whatever the query.",
    remedy: "Find who reads or writes so much (pg_stat_io, iotop), spread checkpoints, or get faster storage.",
    source: "pgEdge pg-healthcheck; Linux Documentation/accounting/psi.rst; 20 ms is slow even for a rotating disk",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Settings, Need::Host],
    thresholds: &[Threshold::warn_above("waiting", "% of time", 20.0), Threshold::warn_above("await", "ms", 20.0)],
    look: Look::Facts(judge),
};

/// Fewer requests are no average.
const LEAST_REQUESTS: u64 = 10_000;

fn judge(scene: &Scene<'_>) -> Judged {
    let data = scene.data_directory()?;
    let pressure = state::pressure("io");
    let mut verdict = Verdict::of(
        pressure.and_then(|pressure| waits(pressure, scene.grade("waiting", pressure.full_60))).into_iter().collect(),
    );
    if pressure.is_none() {
        verdict = verdict.but_unknown(
            "waits of the last minutes",
            Reason::Host("this kernel does not tell its pressure (psi=1)".into()),
        );
    }
    if let Some(times) = state::disk_times(&data) {
        for (what, count, milliseconds) in means(times) {
            verdict
                .findings
                .extend(scene.grade("await", milliseconds).map(|severity| slow(severity, what, count, milliseconds)));
        }
    }
    Ok(verdict)
}

fn waits(pressure: Pressure, severity: Option<Severity>) -> Option<Finding> {
    Some(
        Finding::new(
            severity?,
            "waiting",
            format!("everything waited for the disk {:.0} % of the last minute", pressure.full_60),
        )
        .detail("No process could go on in that time, because all of them waited for a read or a write.")
        .measured("all waited, last minute", pressure.full_60, "% of 60 s")
        .measured("all waited, last five minutes", pressure.full_300, "% of 300 s")
        .measured("some waited, last minute", pressure.some_60, "% of 60 s")
        .fix(Plan::advice(
            "iotop -o and pg_stat_activity (wait_event_type = 'IO') show who it is; see also the ckpt checks",
        )),
    )
}

/// Name, number and mean duration in milliseconds of the kinds of requests that are enough for a mean.
fn means(times: DiskTimes) -> Vec<(&'static str, u64, f64)> {
    let all = [("read", times.reads, times.read_ms), ("write", times.writes, times.write_ms)];
    let enough = all.into_iter().filter(|(_, count, _)| *count >= LEAST_REQUESTS);
    enough.map(|(what, count, total)| (what, count, total as f64 / count as f64)).collect()
}

fn slow(severity: Severity, what: &str, count: u64, milliseconds: f64) -> Finding {
    Finding::new(severity, what, format!("a {what} of the data directory's disk took {milliseconds:.0} ms on average since the machine started"))
        .detail("That includes the time in the queue; it is an average over the whole time, so bad hours were worse.")
        .measured("mean", milliseconds, "ms")
        .measured("requests", count, "requests")
        .fix(Plan::advice("compare with what the storage promises (fio, pg_test_fsync on another directory of it), and look for a noisy neighbour"))
}

#[cfg(test)]
mod tests {
    use super::{CHECK, means, slow, waits};
    use crate::testing::*;
    use surus_core::finding::Severity;
    use surus_pg::host::state::{DiskTimes, Pressure};

    check_tests!(CHECK);

    #[test]
    fn sees_waits_by_the_limit() {
        seeded(&CHECK, |on| {
            if surus_pg::host::state::pressure("io").is_none() {
                return;
            }
            on.limit("await", 1e9);
            on.limit("waiting", 0.0);
            let found = on.findings();
            assert_eq!(found.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(), ["host.io:waiting"]);
            on.limit("waiting", 101.0);
            assert_eq!(on.findings(), []);
        });
    }

    /// Slow disks are played by values.
    #[test]
    fn means_are_of_enough_requests() {
        let times = DiskTimes { reads: 20_000, read_ms: 500_000, writes: 10, write_ms: 10_000, in_flight: 0 };
        assert_eq!(means(times), [("read", 20_000, 25.0)]);
        assert!(slow(Severity::Warn, "read", 20_000, 25.0).title.contains("25 ms"));
        assert!(waits(Pressure::default(), None).is_none());
    }
}
