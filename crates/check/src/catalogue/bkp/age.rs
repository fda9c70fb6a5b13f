use crate::{
    rule::{Check, Look, RunsOn, Scope, Threshold},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{clock, finding::Finding, plan::Plan, protection::Protection, size::human_seconds};

pub static CHECK: Check = Check {
    id: "bkp.age",
    title: "the last good backup is too old",
    inspects: "the backup repository: when the last full and the last incremental backup ended",
    why: "Everything that happened since the last backup can only come back from WAL, and only if every piece of \
          that is there. The older the backup, the longer the restore and the likelier a gap.",
    remedy: "Run a backup now, and schedule one a day.",
    source: "check_pgactivity backup_age; pgEdge pg-healthcheck; 26 h leaves a daily backup two hours of room",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[Threshold::above("age", "h", 26.0, 50.0)],
    look: Look::Repository(judge),
};

fn judge(scene: &Scene<'_>, protection: &Protection) -> Judged {
    let unreadable = protection.unreadable.iter().map(|(label, why)| {
        let plan = Plan::advice(format!(
            "surus backup verify says what else is damaged; take a full backup: surus backup run --repo … --full; then \
             give this one up, for nothing expires until then: surus backup discard --repo … {label}"
        ));
        let title = format!("backup {label} cannot be restored: its manifest cannot be read");
        Finding::crit(label.clone(), title).detail(why.clone()).fix(plan)
    });
    let mut findings: Vec<Finding> = unreadable.collect();
    let Some(newest) = protection.newest() else {
        let text = match protection.backups.last() {
            Some(broken) => format!(
                "no backup can be restored: the newest, {}, {}",
                broken.label,
                broken.trouble.as_deref().unwrap_or_default()
            ),
            None if !findings.is_empty() => "no backup can be restored".to_owned(),
            None => format!("{} holds no backup", protection.repository),
        };
        let plan = Plan::advice("take one: surus backup run --repo … --full");
        findings.push(Finding::crit("", text).detail("Nothing can be restored.").fix(plan));
        return Ok(Verdict::of(findings));
    };
    let hours = clock::now().duration_since(newest.stopped_at).as_secs_f64() / 3600.0;
    if let Some(severity) = scene.grade("age", hours) {
        let title = format!("the last good backup ended {} ago", human_seconds(hours * 3600.0));
        let plan = Plan::advice("take one now: surus backup run --repo …; and give it a schedule in surus.toml");
        findings.push(
            Finding::new(severity, "", title).measured("age", hours, "h").saw("backup", newest.label.clone()).fix(plan),
        );
    }
    if newest.damaged_pages > 0 {
        let title =
            format!("backup {} holds {} pages that do not fit their checksums", newest.label, newest.damaged_pages);
        let plan = Plan::advice(format!(
            "{} looks for them on the server, tells which rows are lost, and shows the way back; keep an older backup \
             until then: surus backup keep",
            scene.prove_page(&[])
        ));
        findings.push(Finding::crit("damaged", title).saw("backup", newest.label.clone()).fix(plan));
    }
    Ok(Verdict::of(findings))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn an_old_backup_and_none_are_told() {
        with_repository(&CHECK, |look| {
            let mut protection = protection(&[(60, true), (30, true)]);
            let mut keys =
                |protection: &_| look(protection).into_iter().map(|one| one.severity.word()).collect::<Vec<_>>();
            assert_eq!(keys(&protection), ["warn"]);
            protection.backups.retain(|one| one.label == "60 h ago");
            assert_eq!(keys(&protection), ["crit"]);
            protection.backups[0].trouble = Some("lacks WAL".into());
            assert!(look(&protection)[0].title.contains("lacks WAL"));
            protection.unreadable.insert("20260101T000000Z-full".into(), "cut".into());
            let told = look(&protection);
            assert_eq!(told.len(), 2, "{told:?}");
            assert!(told.iter().any(|one| one.title.contains("its manifest cannot be read")), "{told:?}");
            protection.unreadable.clear();
            protection.backups.clear();
            assert!(look(&protection)[0].title.contains("holds no backup"));
        });
    }
}
