use crate::{
    archiving::Archiving,
    rule::{Check, Look, RunsOn, Scope},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::Finding,
    plan::{Plan, Step},
};

pub static CHECK: Check = Check {
    id: "bkp.archive_off",
    title: "WAL is not archived",
    inspects: "archive_mode, archive_command, archive_library, and whether a WAL receiver of a backup tool is connected",
    why: "Without archived WAL a backup can only be restored to the moment it was taken. Everything since then is lost, and a \
          mistake such as a DELETE without WHERE cannot be undone to the minute before.",
    remedy: "Turn archive_mode on and let archive_command copy each segment to another machine or an object store; a backup \
             tool brings its own command.",
    source: "PostgreSQL documentation, Continuous Archiving; CIS PostgreSQL benchmark; a receiver is known by its usual name",
    scope: Scope::Instance,
    runs_on: RunsOn::Primary,
    needs: &[],
    thresholds: &[],
    look: Look::Facts(judge),
};

/// The application names of programs that keep all WAL they receive.
const RECEIVERS: &[&str] = &["pg_receivewal", "barman_receive_wal", "pg_receivexlog"];

fn judge(scene: &Scene<'_>) -> Judged {
    if let Some(service) = scene.facts.managed {
        return Ok(Verdict::not_applicable(format!("{} keeps WAL for its own restores", service.name())));
    }
    let archiving = Archiving::of(scene)?;
    let connected = scene.facts.standbys.as_deref().unwrap_or_default();
    if archiving.is_on() || connected.iter().any(|name| RECEIVERS.contains(&name.as_str())) {
        return Ok(Verdict::ok());
    }
    let unseen = match scene.facts.standbys {
        None => " A tool that receives WAL by streaming would be as good; this role may not see whether there is one.",
        Some(_) => "",
    };
    let title = format!("no point in time can be restored: {}", archiving.why_off());
    Ok(Verdict::one(
        Finding::warn("", title)
            .detail(format!("A backup alone brings back the moment it was taken; all later changes are lost.{unseen}"))
            .saw("archive_mode", scene.setting("archive_mode")?.value.as_str())
            .saw("archive_command", scene.setting("archive_command")?.value.as_str())
            .fix(plan(&archiving)),
    ))
}

fn plan(archiving: &Archiving) -> Plan {
    let command = Step::manual(
        "set archive_command to your backup tool's command (or archive_library), and see in pg_stat_archiver that it works: \
         ALTER SYSTEM SET archive_command = '…'",
    );
    let steps = match archiving {
        Archiving::Off => vec![
            command,
            Step::manual("ALTER SYSTEM SET archive_mode = on, and restart the server at a moment that suits"),
        ],
        _ => vec![command],
    };
    Plan::new("archive WAL where this machine's loss does not reach", steps)
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;

    check_tests!(CHECK);

    #[test]
    fn sees_that_nothing_is_archived() {
        seeded(&CHECK, |on| {
            let found = on.findings();
            assert_eq!((found[0].key.as_str(), found[0].severity.word()), ("bkp.archive_off", "warn"));
            assert!(found[0].title.contains("archive_mode is off"));
            for (command, quiet) in [("", false), ("/bin/true", false), ("cp %p ../%f", true)] {
                on.configure(&[("archive_mode", "on"), ("archive_command", command)]);
                assert_eq!(on.findings().is_empty(), quiet, "{command}");
            }
        });
    }
}
