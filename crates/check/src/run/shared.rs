//! What a standby has from its primary is said once: findings about the contents of databases, which replication
//! copies, stay in the primary's report when both nodes are looked at.

use crate::{catalogue, report::TargetReport, rule::Scope};
use std::collections::{BTreeMap, BTreeSet};

/// Moves the findings that a standby shares with its primary out of the standby's list.
pub(super) fn settle(reports: &mut [TargetReport]) {
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.role == Some("primary")) {
        let keys = report.findings.iter().map(|finding| finding.key.clone());
        said.entry(report.cluster.clone().unwrap_or_default()).or_default().extend(keys);
    }
    for report in reports.iter_mut().filter(|report| report.role == Some("standby") && report.cluster.is_some()) {
        let Some(keys) = report.cluster.as_ref().and_then(|cluster| said.get(cluster)) else { continue };
        let copied = |id: &str| catalogue::find(id).is_some_and(|check| check.scope == Scope::Database);
        let mut shared = Vec::new();
        report.findings.retain(|finding| {
            let same = copied(&finding.id) && keys.contains(&finding.key);
            if same {
                shared.push(finding.key.clone());
            }
            !same
        });
        report.on_primary_too = shared;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::finding::Finding;

    fn report(role: &'static str, keys: &[&str]) -> TargetReport {
        let finding = |key: &&str| {
            let id = key.split(':').next().unwrap().to_owned();
            Finding { id, key: (*key).into(), ..Finding::warn("", "t") }
        };
        let findings = keys.iter().map(finding).collect();
        TargetReport { role: Some(role), cluster: Some("7".into()), findings, ..TargetReport::empty(role) }
    }

    #[test]
    fn contents_are_reported_on_the_primary_and_settings_on_each_node() {
        let mut reports = [
            report("primary", &["tbl.no_pk:shop/public.a", "cfg.durability_off:fsync"]),
            report("standby", &["tbl.no_pk:shop/public.a", "tbl.no_pk:shop/public.b", "cfg.durability_off:fsync"]),
        ];
        settle(&mut reports);
        let keys: Vec<_> = reports[1].findings.iter().map(|finding| finding.key.as_str()).collect();
        assert_eq!(keys, ["tbl.no_pk:shop/public.b", "cfg.durability_off:fsync"]);
        assert_eq!(reports[1].on_primary_too, ["tbl.no_pk:shop/public.a"]);
        assert_eq!(reports[0].findings.len(), 2);
    }
}
