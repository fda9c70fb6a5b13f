//! What only all nodes of a cluster together can say: a finding of a check that runs on [`RunsOn::EveryNode`] stands
//! when every target of the cluster has it, and it is shown once, for the primary where that is among them.

use crate::{
    catalogue,
    report::{NotApplicable, TargetReport, Unknown},
    rule::{Check, RunsOn},
};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::finding::{Finding, Reason};

/// Applies the rule to the reports of a run.
pub(super) fn settle(targets: &mut [TargetReport]) {
    let mut clusters: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, target) in targets.iter().enumerate().filter(|(_, target)| target.error.is_none()) {
        if let Some(cluster) = &target.cluster {
            clusters.entry(cluster.clone()).or_default().push(at);
        }
    }
    for nodes in clusters.values().filter(|nodes| nodes.len() > 1) {
        for check in catalogue::CHECKS.iter().filter(|check| check.runs_on == RunsOn::EveryNode) {
            agree(targets, nodes, check);
        }
    }
}

/// What one node says about a finding of another.
enum Voice {
    Agrees,
    Denies,
    CannotSay(String),
}

fn agree(targets: &mut [TargetReport], nodes: &[usize], check: &Check) {
    let said: Vec<Said> = nodes.iter().map(|at| Said::of(&targets[*at], check)).collect();
    let shown = nodes.iter().copied().find(|at| targets[*at].role == Some("primary")).unwrap_or(nodes[0]);
    let name = targets[shown].name.clone();
    for (own, at) in nodes.iter().copied().enumerate() {
        let others = || said.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, said)| said);
        let target = &mut targets[at];
        let mut blind: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        target.findings.retain(|finding| {
            if finding.id != check.id {
                return true;
            }
            let voices: Vec<Voice> = others().map(|said| said.about(finding)).collect();
            if voices.iter().any(|voice| matches!(voice, Voice::Denies)) {
                return false;
            }
            let reasons =
                voices.into_iter().filter_map(|voice| if let Voice::CannotSay(why) = voice { Some(why) } else { None });
            let reasons: Vec<String> = reasons.collect();
            for why in &reasons {
                blind.entry(why.clone()).or_default().extend(finding.database.clone());
            }
            reasons.is_empty() && at == shown
        });
        target.unknown.extend(blind.into_iter().map(|(why, databases)| Unknown {
            id: check.id,
            object: "the other nodes".into(),
            databases: databases.into_iter().collect(),
            reason: Reason::Statistics(why),
        }));
        settle_rest(target, check, (at != shown).then_some(name.as_str()));
    }
}

/// A check whose findings went is ok, or shown elsewhere.
fn settle_rest(target: &mut TargetReport, check: &Check, shown_for: Option<&str>) {
    let left = target.findings.iter().any(|finding| finding.id == check.id)
        || target.unknown.iter().any(|unknown| unknown.id == check.id)
        || target.not_applicable.iter().any(|one| one.id == check.id)
        || target.suppressed.iter().any(|one| one.key.split(':').next() == Some(check.id));
    if left {
        return;
    }
    target.ok.retain(|id| *id != check.id);
    match shown_for {
        Some(name) => target
            .not_applicable
            .push(NotApplicable { id: check.id, why: format!("all nodes were compared; see {name} for the outcome") }),
        None => {
            target.ok.push(check.id);
            let position = |id: &str| catalogue::CHECKS.iter().position(|check| check.id == id);
            target.ok.sort_by_key(|id| position(id));
        }
    }
}

/// What one node found and could not see.
struct Said {
    name: String,
    keys: BTreeSet<String>,
    /// By database (empty for all of them): why it could not look.
    blind: Vec<(Vec<String>, String)>,
}

impl Said {
    fn of(target: &TargetReport, check: &Check) -> Self {
        let findings = target.findings.iter().filter(|finding| finding.id == check.id);
        let unknown = target.unknown.iter().filter(|unknown| unknown.id == check.id);
        Self {
            name: target.name.clone(),
            keys: findings.map(|finding| finding.key.clone()).collect(),
            blind: unknown.map(|unknown| (unknown.databases.clone(), unknown.reason.to_string())).collect(),
        }
    }

    fn about(&self, finding: &Finding) -> Voice {
        if self.keys.contains(&finding.key) {
            return Voice::Agrees;
        }
        let covers = |databases: &[String]| {
            databases.is_empty() || finding.database.as_ref().is_none_or(|name| databases.contains(name))
        };
        match self.blind.iter().find(|(databases, _)| covers(databases)) {
            Some((_, why)) => Voice::CannotSay(format!("{} cannot say: {why}", self.name)),
            None => Voice::Denies,
        }
    }
}
