use crate::{
    rule::{Check, Look, RunsOn, Scope, Sql},
    scene::Scene,
    verdict::{Judged, Verdict},
};
use surus_core::{
    finding::{Finding, Reason},
    plan::Plan,
};
use surus_pg::{Facts, Rows};

pub static CHECK: Check = Check {
    id: "srv.two_primaries",
    title: "the nodes of a cluster do not have exactly one primary",
    inspects: "pg_is_in_recovery of every given target with the same system identifier; pg_stat_wal_receiver",
    why: "With two primaries, each takes writes that the other never sees, and there is no way to merge them: one side's \
          data will be lost. With none, nothing can be written.",
    remedy: "Fence one of two primaries at once: stop it, or cut its clients off. Keep the one that has the newer timeline \
             and the applications, save what only the other has, then rebuild it with pg_rewind.",
    source: "check_pgactivity is_master, is_hot_standby; patronictl list",
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    thresholds: &[],
    look: Look::Query(&[Sql::all("SELECT count(*) AS receivers FROM pg_stat_wal_receiver")], judge),
};

fn judge(scene: &Scene<'_>, rows: &Rows) -> Judged {
    if scene.facts.system_identifier.is_none() {
        let text =
            "the role may not call pg_control_system(), so the nodes of one cluster cannot be recognised".to_owned();
        return Ok(Verdict::unknown(Reason::Privilege(text)));
    }
    let receives = rows.first()?.i64("receivers")? > 0;
    if scene.siblings.is_empty() {
        return Ok(alone(scene.facts));
    }
    let primaries: Vec<&(String, Facts)> = scene.siblings.iter().filter(|(_, facts)| !facts.in_recovery).collect();
    match (scene.facts.in_recovery, primaries.len()) {
        (false, 0) | (true, 1) => Ok(Verdict::ok()),
        (false, _) => Ok(Verdict::one(two(scene.facts, &primaries))),
        // The primaries themselves say so.
        (true, 2..) => Ok(Verdict::not_applicable("more than one node is a primary; see there")),
        (true, 0) if receives => Ok(Verdict::unknown(Reason::Undeclared(
            "no given target is the primary, but this standby receives WAL: give its primary as a target too".into(),
        ))),
        (true, 0) => Ok(Verdict::one(
            Finding::crit("none", format!("none of the {} given nodes is a primary", scene.siblings.len() + 1))
                .detail("This standby receives no WAL either: nothing can be written to the cluster.")
                .saw("nodes of the cluster", scene.siblings.len() + 1)
                .saw("WAL receivers here", 0)
                .fix(Plan::advice(
                    "if the primary is really gone and cannot come back by itself, promote the standby that has replayed \
                     furthest (SELECT pg_promote()) and point the others at it",
                )),
        )),
    }
}

/// The verdict for a node whose fellows were not given.
fn alone(facts: &Facts) -> Verdict {
    let fellows = facts.standbys.as_ref().is_some_and(|standbys| !standbys.is_empty());
    if facts.in_recovery || fellows {
        let text = "only one node of this cluster was given: give the others as targets too".to_owned();
        return Verdict::unknown(Reason::Undeclared(text));
    }
    Verdict::not_applicable("only one node was given, and it has no standby")
}

fn two(own: &Facts, others: &[&(String, Facts)]) -> Finding {
    let names = others.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let timeline = |facts: &Facts| facts.timeline.map_or("unknown".to_owned(), |timeline| timeline.to_string());
    let mut finding = Finding::crit("two", format!("this node and {names} are both primaries of the same cluster"))
        .detail(
            "Both take writes that the other never sees. (A copy that was meant to live on its own, such as a restored staging \
             server, looks the same; suppress the finding then.)",
        )
        .saw("timeline here", timeline(own));
    for (name, facts) in others {
        finding = finding.saw(format!("timeline of {name}"), timeline(facts));
    }
    finding.fix(Plan::advice(
        "at once, stop the primary that clients should not use (pg_ctl stop -m fast) and make sure nothing restarts it; later \
         save what only it has, and rebuild it as a standby with pg_rewind",
    ))
}

#[cfg(test)]
mod tests {
    use super::CHECK;
    use crate::testing::*;
    use std::time::Duration;

    check_tests!(CHECK);

    #[test]
    fn sees_two_primaries_and_none() {
        seeded(&CHECK, |on| {
            let standby = on.server.standby();
            let (one, two) = (on.server.dsn("postgres"), standby.dsn("postgres"));
            let words = |nodes: &[(&str, &str)]| -> Vec<String> {
                let reports = on.report_of_all(nodes);
                let word = |report: &crate::report::TargetReport| match (&report.findings[..], &report.unknown[..]) {
                    ([], []) => {
                        if report.ok.is_empty() {
                            "none".to_owned()
                        } else {
                            "ok".to_owned()
                        }
                    }
                    ([finding], _) => format!("{} {}", finding.key, finding.severity),
                    (_, [unknown, ..]) => unknown.reason.kind().to_owned(),
                    other => format!("{other:?}"),
                };
                reports.iter().map(word).collect()
            };
            assert_eq!(words(&[("a", &one), ("b", &two)]), ["ok", "ok"]);
            assert_eq!(words(&[("a", &one)]), ["undeclared"], "its standby was not given");
            standby.local().promote(Duration::from_secs(30)).unwrap();
            let both = words(&[("a", &one), ("b", &two)]);
            assert_eq!(both, ["srv.two_primaries:two crit", "srv.two_primaries:two crit"]);
        });
    }
}
