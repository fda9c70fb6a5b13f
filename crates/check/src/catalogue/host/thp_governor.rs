use crate::{
    rule::{Check, Look, Need, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};
use surus_pg::host::state;

pub static CHECK: Check = Check {
    id: "host.thp_governor",
    title: "the host is set up to save power or to stall",
    inspects: "/sys/kernel/mm/transparent_hugepage/enabled, the first processor's scaling_governor",
    why: "Transparent huge pages make the kernel move memory around while queries wait. A processor that is told to save power runs \
          every query slowly until the load is already high.",
    remedy: "Set transparent huge pages to madvise, and the governor to performance.",
    source: "pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[Need::Host],
    thresholds: &[],
    look: Look::Facts(judge),
};

fn judge(_: &Scene<'_>) -> Judged {
    let pages = state::transparent_huge_pages().and_then(|mode| huge_pages(&mode));
    let governor = state::frequency_governor().and_then(|(governor, driver)| saves_power(&governor, &driver));
    Ok(Verdict::of(pages.into_iter().chain(governor).collect()))
}

fn huge_pages(mode: &str) -> Option<Finding> {
    (mode == "always").then(|| {
        Finding::info("transparent_hugepage", "transparent huge pages are always on")
            .detail("The kernel may stop a process for milliseconds to put a large page together; latencies become uneven.")
            .saw("transparent_hugepage/enabled", mode)
            .fix(Plan::advice(
                "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, and transparent_hugepage=madvise on the kernel's command \
                 line; use huge_pages = try for shared_buffers instead",
            ))
    })
}

fn saves_power(governor: &str, driver: &str) -> Option<Finding> {
    // These drivers call their ordinary, load-driven mode powersave.
    let dynamic = driver.starts_with("intel_pstate") || driver.starts_with("amd-pstate");
    (governor == "powersave" && !dynamic).then(|| {
        Finding::info("scaling_governor", "the processors stay at their lowest frequency")
            .detail("Every query takes longer than it has to.")
            .saw("scaling_governor", governor)
            .saw("scaling_driver", driver)
            .fix(Plan::advice(
                "cpupower frequency-set -g performance, and the same in the distribution's start-up configuration",
            ))
    })
}

#[cfg(test)]
mod tests {
    use super::{CHECK, huge_pages, saves_power};
    use crate::testing::*;

    check_tests!(CHECK);

    /// The kernel's settings are the machine's, not the test's.
    #[test]
    fn judges_the_kernels_words() {
        assert!(huge_pages("always").is_some() && huge_pages("madvise").is_none() && huge_pages("never").is_none());
        assert!(saves_power("powersave", "acpi-cpufreq").is_some());
        assert!(
            saves_power("powersave", "intel_pstate").is_none() && saves_power("performance", "acpi-cpufreq").is_none()
        );
    }
}
