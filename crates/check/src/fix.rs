//! Fixing: from findings to one ordered plan, and from the plan to changes that are recorded and can be taken back.
//!
//! Planning is a pure function over a report. Acting takes one step at a time, writes down what it needs for the way
//! back before it acts, and stops at the first surprise.

mod act;
mod apply;
mod error;
mod hba;
mod setting;
mod statement;
mod undo;

pub use act::{Patience, Previous};
pub use apply::{Applied, Done, Scene, apply, description};
pub use error::FixError;
pub use undo::{TakenBack, Undoable, take_back, undoable};

use crate::report::TargetReport;
use serde::Serialize;
use surus_core::{
    finding::Finding,
    plan::{Action, Interruption, Step},
};

/// A step with the finding that it is for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbered {
    /// 1, 2, 3 … in the order in which they are taken.
    pub number: usize,
    /// The finding that it makes go away.
    pub key: String,
    pub title: String,
    #[serde(flatten)]
    pub step: Step,
    /// The database that SQL runs in; absent for the instance.
    pub database: Option<String>,
}

/// What will be done, and what is left to a person.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FixPlan {
    /// Steps that surus takes.
    pub steps: Vec<Numbered>,
    /// Steps that surus takes when their finding is asked for by name, and only then.
    pub by_name: Vec<Numbered>,
    /// Advice and decisions that only a person can carry out.
    pub manual: Vec<Numbered>,
}

impl FixPlan {
    /// The plan for the wanted findings (check ids, groups or keys; none means all) of a report.
    ///
    /// What blocks a table or takes a right away is taken only when it is wanted by name.
    /// Cheap and undoable steps come first: settings, then roles and rules, then SQL. A step that another
    /// finding asks for too is taken once. Of two findings that want different values of one setting, the worse
    /// finding wins.
    ///
    /// # Errors
    /// When a wanted id or key matches no finding of the report.
    pub fn of(report: &TargetReport, wanted: &[String]) -> Result<Self, FixError> {
        for want in wanted {
            if !report.findings.iter().any(|finding| matches(finding, want)) {
                return Err(FixError::UnknownFinding(want.clone()));
            }
        }
        let chosen = report
            .findings
            .iter()
            .filter(|finding| wanted.is_empty() || wanted.iter().any(|want| matches(finding, want)));
        let mut plan = Self::default();
        for finding in chosen {
            plan.add(finding, !wanted.is_empty());
        }
        plan.steps.sort_by_key(|numbered| rank(&numbered.step));
        for list in [&mut plan.steps, &mut plan.by_name, &mut plan.manual] {
            for (at, step) in list.iter_mut().enumerate() {
                step.number = at + 1;
            }
        }
        Ok(plan)
    }

    fn add(&mut self, finding: &Finding, named: bool) {
        // A plan is taken whole or not at all.
        let waits = !named && finding.fix.iter().flat_map(|plan| &plan.steps).any(|step| step.why_by_name().is_some());
        for step in finding.fix.iter().flat_map(|plan| &plan.steps) {
            let database = match &step.action {
                Action::Sql { database: Some(database), .. } => Some(database.clone()),
                Action::Sql { .. } => finding.database.clone(),
                _ => None,
            };
            let numbered = Numbered {
                number: 0,
                key: finding.key.clone(),
                title: finding.title.clone(),
                step: step.clone(),
                database,
            };
            let list = match step.is_manual() {
                true => &mut self.manual,
                false if waits => &mut self.by_name,
                false => &mut self.steps,
            };
            if !list.iter().any(|other| same_effect(other, &numbered)) {
                list.push(numbered);
            }
        }
    }

    /// The findings that the plan's steps are for.
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<_> = self.steps.iter().map(|step| step.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Steps that take effect only after a restart.
    pub fn restarts(&self) -> impl Iterator<Item = &Numbered> {
        self.steps.iter().filter(|numbered| numbered.step.interrupts == Interruption::Restart)
    }
}

fn matches(finding: &Finding, want: &str) -> bool {
    finding.key == want || finding.id == want || finding.id.split('.').next() == Some(want)
}

/// Do two steps come to the same, or do they want the same setting?
fn same_effect(one: &Numbered, other: &Numbered) -> bool {
    match (&one.step.action, &other.step.action) {
        (
            Action::Setting { name: a, .. } | Action::ResetSetting { name: a },
            Action::Setting { name: b, .. } | Action::ResetSetting { name: b },
        ) => a == b,
        (a, b) => a == b && one.database == other.database,
    }
}

fn rank(step: &Step) -> u8 {
    match &step.action {
        Action::Setting { .. } | Action::ResetSetting { .. } => 0,
        Action::HbaLine { .. } => 1,
        Action::Sql { transaction: true, .. } => 2,
        Action::Sql { transaction: false, .. } => 3,
        Action::Manual { .. } => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::plan::{Lock, Plan};

    fn finding(key: &str, steps: Vec<Step>) -> Finding {
        let id = key.split(':').next().unwrap().to_owned();
        Finding {
            id,
            key: key.into(),
            database: Some("shop".into()),
            ..Finding::warn("", "t").fix(Plan::new("s", steps))
        }
    }

    fn report(findings: Vec<Finding>) -> TargetReport {
        TargetReport { findings, ..TargetReport::empty("main") }
    }

    #[test]
    fn settings_first_and_nothing_twice() {
        let vacuum = || Step::sql_alone("VACUUM t", Lock::ShareUpdateExclusive, "v");
        let report = report(vec![
            finding("a.b:1", vec![vacuum(), Step::setting("work_mem", "8MB", "e")]),
            finding("a.c:1", vec![vacuum(), Step::setting("work_mem", "4MB", "e"), Step::manual("think")]),
        ]);
        let plan = FixPlan::of(&report, &[]).unwrap();
        let actions: Vec<_> = plan.steps.iter().map(|step| step.step.action.clone()).collect();
        assert_eq!(actions.len(), 2);
        assert_eq!(actions[0], Action::Setting { name: "work_mem".into(), value: "8MB".into() });
        assert_eq!((plan.steps[1].number, plan.steps[1].database.as_deref()), (2, Some("shop")));
        assert_eq!(plan.manual.len(), 1);
    }

    #[test]
    fn findings_are_chosen_by_key_id_or_group() {
        let report = report(vec![
            finding("idx.fk:x", vec![Step::setting("a", "1", "")]),
            finding("cfg.z", vec![Step::setting("b", "1", "")]),
        ]);
        for want in ["idx.fk:x", "idx.fk", "idx"] {
            let plan = FixPlan::of(&report, &[want.to_owned()]).unwrap();
            assert_eq!(plan.keys(), ["idx.fk:x"], "{want}");
        }
        assert!(matches!(FixPlan::of(&report, &["nope".into()]), Err(FixError::UnknownFinding(_))));
    }
}
