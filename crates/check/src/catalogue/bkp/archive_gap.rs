use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{finding::Finding, plan::Plan, protection::Protection};

pub static CHECK: Check = Check {
    id: "bkp.archive_gap",
    title: "a WAL segment is missing in the archive",
    inspects: "the backup repository: the chain of WAL segments from the oldest backup to now, and their sizes",
    why: "Recovery stops at the first missing segment. All that was written after it is lost, however many later \
          segments there are.",
    remedy: "Take a new full backup at once: it makes the gap irrelevant for the time after it.",
    source: "check_pgactivity archive_folder",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Repository(judge),
};

fn judge(_: &Scene<'_>, protection: &Protection) -> Judged {
    let Some(gap) = protection.gaps.first() else { return Ok(Verdict::ok()) };
    let all: u64 = protection.gaps.iter().map(|gap| gap.segments).sum();
    let title = format!("{all} WAL segments are missing in the archive, from {} on", gap.first);
    let plan = Plan::advice("take a new full backup: surus backup run --repo … --full");
    let mut finding = Finding::crit("", title)
        .detail("Moments between the last backup before the gap and the first backup after it cannot be restored.")
        .measured("missing", all as f64, "segments")
        .fix(plan);
    for gap in protection.gaps.iter().take(10) {
        finding = finding.saw("gap", format!("{} to {}", gap.first, gap.last));
    }
    Ok(Verdict::one(finding))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn a_gap_is_named() {
        with_repository(&CHECK, |look| {
            let mut protection = protection(&[(1, true)]);
            assert_eq!(look(&protection), []);
            let (first, last) = ("000000010000000000000007".to_owned(), "000000010000000000000009".to_owned());
            protection.gaps.push(surus_core::protection::WalGap { first, last, segments: 3 });
            assert!(look(&protection)[0].title.contains("000000010000000000000007"));
        });
    }
}
