use crate::{
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Severity},
    plan::Plan,
    protection::Protection,
    size::Bytes,
};

pub static CHECK: Check = Check {
    id: "bkp.repo_space",
    title: "the backup repository has no room for the next backup",
    inspects: "free space of the backup repository against the size of the next full backup and of the WAL until then",
    why: "A backup that fails for lack of room fails every night from then on, and WAL that cannot be archived \
          fills the server's own disk.",
    remedy: "Give the repository more room, or keep fewer backups.",
    source: "pgEdge pg-healthcheck",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Repository(judge),
};

/// Room for the next full backup and as much again for WAL and what grows meanwhile.
const COMFORT: u64 = 2;

fn judge(_: &Scene<'_>, protection: &Protection) -> Judged {
    let Some(free) = protection.free else {
        return Ok(Verdict::not_applicable("an object store has no filesystem that could fill up"));
    };
    let Some(full) = protection.newest_full() else {
        return Ok(Verdict::not_applicable("there is no full backup yet"));
    };
    if free >= full.stored.saturating_mul(COMFORT) {
        return Ok(Verdict::ok());
    }
    let (room, next) = (Bytes(free), Bytes(full.stored));
    let (severity, title) = match free < full.stored {
        true => (Severity::Crit, format!("{room} are free, and the next full backup takes about {next}")),
        false => (Severity::Warn, format!("{room} are free: room for one full backup of {next} and little WAL")),
    };
    let plan = Plan::advice("make room, or keep fewer backups: surus backup expire --dry-run");
    Ok(Verdict::one(Finding::new(severity, "", title).measured("free", free as f64, "bytes").fix(plan)))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn room_for_the_next_backup_is_counted() {
        with_repository(&CHECK, |look| {
            let mut protection = protection(&[(1, true)]);
            let mut word = |protection: &_| look(protection).first().map(|one| one.severity.word());
            for (free, expected) in
                [(None, None), (Some(10 << 30), None), (Some(150 << 20), Some("warn")), (Some(1), Some("crit"))]
            {
                protection.free = free;
                assert_eq!(word(&protection), expected, "{free:?}");
            }
        });
    }
}
