use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan};

pub static CHECK: Check = Check {
    id: "cfg.huge_pages",
    title: "large shared memory is used without huge pages",
    inspects: "shared_buffers, huge_pages_status (17 and newer), else the huge pages that the kernel has reserved",
    why: "Every process keeps a table of the memory pages it uses. With gigabytes of shared_buffers in pages of 4 kB these \
          tables take a lot of memory and time, and much more with many sessions; huge pages make them tiny.",
    remedy: "Reserve huge pages in the kernel (vm.nr_hugepages), leave huge_pages at try, and restart the server.",
    source: "PostgreSQL documentation, chapter Linux Huge Pages; pgEdge pg-healthcheck; check_pgactivity; from 2 GB on",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::warn_above("shared_buffers", "bytes", 2_147_483_648.0)],
    look: Look::Facts(judge),
};

/// Shared memory beside the buffers, as a factor; 15 and newer tell the exact size.
const ALLOWANCE: f64 = 1.1;
const USUAL_PAGE: u64 = 2 << 20;

fn judge(scene: &Scene<'_>) -> Judged {
    let shared = scene.bytes("shared_buffers")?.unwrap_or_default() as f64;
    let Some(severity) = scene.grade("shared_buffers", shared) else { return Ok(Verdict::ok()) };
    let asked = scene.setting("huge_pages")?.value.as_str();
    let page = scene.host().map_or(USUAL_PAGE, |host| host.huge_page_bytes.max(1));
    let exact = scene.settings().number("shared_memory_size_in_huge_pages").filter(|pages| *pages > 0.0);
    let pages = exact.unwrap_or_else(|| (shared * ALLOWANCE / page as f64).ceil());
    let status = scene.settings().text("huge_pages_status");
    let mut finding = Finding::new(severity, "", "shared memory does not use huge pages")
        .detail("Each session pays for it with memory for page tables, and with time for every look into a new page.")
        .measured("shared_buffers", shared, "bytes")
        .saw("setting huge_pages", asked);
    match (status, asked) {
        (Some("on"), _) => return Ok(Verdict::ok()),
        (Some(status), _) => finding = finding.saw("huge_pages_status", status),
        (None, "off") => {}
        (None, _) => {
            let host = scene.host()?;
            // With huge_pages = on the server would not have started without them.
            if asked == "on" || host.huge_pages_total as f64 >= pages {
                return Ok(Verdict::ok());
            }
            finding = finding.saw("huge pages reserved", host.huge_pages_total).saw("free", host.huge_pages_free);
        }
    }
    Ok(Verdict::one(finding.saw("huge pages needed", pages).fix(Plan::advice(format!(
        "sysctl -w vm.nr_hugepages={pages:.0} (and the same in /etc/sysctl.d, plus what other programs need), huge_pages = try, \
         restart the server"
    )))))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_shared_memory_without_huge_pages() {
        seeded(&CHECK, |on| {
            assert_eq!(on.findings(), [], "16 MB are not worth it");
            on.configure(&[("huge_pages", "off")]);
            on.limit("shared_buffers", 1e6);
            let found = on.findings();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("cfg.huge_pages", "warn"));
        });
    }
}
