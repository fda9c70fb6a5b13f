//! The newest report of each target, kept in memory for those who show it, and how two of them differ.

use crate::report::TargetReport;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use surus_core::finding::Finding;

/// A report and what it cost.
#[derive(Debug, Clone, Serialize)]
pub struct Checked {
    /// When the run began, in milliseconds since 1970.
    pub at_ms: i64,
    pub duration_ms: f64,
    pub report: TargetReport,
}

/// Why there is no report, or none that is newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum NoReport {
    /// The configuration turns the checks off.
    Off,
    /// The first run has not come to an end yet.
    NotYet,
    /// The last attempt, at this time (milliseconds since 1970), came to nothing.
    Failed { at_ms: i64, code: Option<&'static str>, text: String, next: Option<&'static str> },
}

/// What is kept of one target.
#[derive(Debug, Clone, Default)]
struct Kept {
    newest: Option<Arc<Checked>>,
    trouble: Option<NoReport>,
}

/// The newest report of each target. Reading it waits for nobody.
#[derive(Debug, Default)]
pub struct Reports {
    all: RwLock<BTreeMap<String, Kept>>,
    off: std::sync::atomic::AtomicBool,
}

impl Reports {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Kept>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Kept>> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest report of a target.
    pub fn get(&self, target: &str) -> Option<Arc<Checked>> {
        self.read().get(target).and_then(|kept| kept.newest.clone())
    }

    /// Why there is no report of a target, or none since the last attempt; none when all is well.
    pub fn trouble(&self, target: &str) -> Option<NoReport> {
        if self.off.load(std::sync::atomic::Ordering::Relaxed) {
            return Some(NoReport::Off);
        }
        match self.read().get(target) {
            Some(kept) => kept.trouble.clone().or_else(|| kept.newest.is_none().then_some(NoReport::NotYet)),
            None => Some(NoReport::NotYet),
        }
    }

    /// Keeps a report.
    pub fn put(&self, target: &str, checked: Checked) {
        *self.write().entry(target.to_owned()).or_default() = Kept { newest: Some(Arc::new(checked)), trouble: None };
    }

    /// Keeps the reason why there is none; an older report stays.
    pub fn failed(&self, target: &str, why: NoReport) {
        self.write().entry(target.to_owned()).or_default().trouble = Some(why);
    }

    /// Are runs made at all?
    pub fn set_off(&self, off: bool) {
        self.off.store(off, std::sync::atomic::Ordering::Relaxed);
    }

    /// Forgets all targets but these.
    pub fn keep_only(&self, targets: &BTreeSet<String>) {
        self.write().retain(|name, _| targets.contains(name));
    }
}

/// A finding that came or went.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn<'a> {
    pub finding: &'a Finding,
    pub appeared: bool,
}

/// What came and what went between two reports of a target. A check that could not look this time says nothing about
/// what it found before, nor is it news that it can look again.
pub fn turns<'a>(before: &'a TargetReport, now: &'a TargetReport) -> Vec<Turn<'a>> {
    let keys = |report: &'a TargetReport| -> BTreeSet<&'a str> {
        let shown = report.findings.iter().map(|finding| finding.key.as_str());
        shown.chain(report.suppressed.iter().map(|one| one.key.as_str())).collect()
    };
    let blind = |report: &TargetReport, finding: &Finding| report.unknown.iter().any(|one| one.id == finding.id);
    let (old, new) = (keys(before), keys(now));
    let came = now.findings.iter().filter(|one| !old.contains(one.key.as_str()) && !blind(before, one));
    let gone = before.findings.iter().filter(|one| !new.contains(one.key.as_str()) && !blind(now, one));
    let came = came.map(|finding| Turn { finding, appeared: true });
    came.chain(gone.map(|finding| Turn { finding, appeared: false })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Unknown;
    use surus_core::finding::Reason;

    fn report(keys: &[&str]) -> TargetReport {
        let finding = |key: &&str| {
            let id = key.split(':').next().unwrap().to_owned();
            Finding { id, key: (*key).into(), ..Finding::warn("", "t") }
        };
        TargetReport { findings: keys.iter().map(finding).collect(), ..TargetReport::empty("main") }
    }

    #[test]
    fn what_came_and_went_is_told_and_what_could_not_be_seen_is_not() {
        let told = |before: &TargetReport, now: &TargetReport| -> Vec<String> {
            let line = |turn: Turn<'_>| format!("{}{}", if turn.appeared { '+' } else { '-' }, turn.finding.key);
            turns(before, now).into_iter().map(line).collect()
        };
        let (before, mut now) = (report(&["a.x:1", "a.y:1"]), report(&["a.x:1", "a.z:1"]));
        assert_eq!(told(&before, &now), ["+a.z:1", "-a.y:1"]);
        let reason = Reason::Timeout("slow".into());
        now.unknown = vec![Unknown { id: "a.y", object: String::new(), databases: Vec::new(), reason }];
        assert_eq!(told(&before, &now), ["+a.z:1"]);
        assert_eq!(told(&now, &before), ["-a.z:1"]);
    }

    #[test]
    fn there_is_always_a_report_or_a_reason() {
        let reports = Reports::default();
        assert_eq!((reports.get("main").is_none(), reports.trouble("main")), (true, Some(NoReport::NotYet)));
        let failed = NoReport::Failed { at_ms: 1, code: None, text: "down".into(), next: None };
        reports.put("main", Checked { at_ms: 1, duration_ms: 1.0, report: report(&[]) });
        assert_eq!((reports.get("main").is_some(), reports.trouble("main")), (true, None));
        reports.failed("main", failed.clone());
        assert_eq!((reports.get("main").is_some(), reports.trouble("main")), (true, Some(failed)));
        reports.set_off(true);
        assert_eq!(reports.trouble("main"), Some(NoReport::Off));
        reports.keep_only(&BTreeSet::new());
        assert!(reports.get("main").is_none());
    }
}
