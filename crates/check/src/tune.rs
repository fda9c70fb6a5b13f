//! Tuned settings as a plan: pgtune's formulas for what depends on the machine, and evidence of the server's own
//! counters where it speaks louder.
//!
//! Source of the formulas: pgtune (le0pard/pgtune) as of 2026, restated; where PostgreSQL's own default has become
//! the better value, nothing is proposed.

mod evidence;
mod formula;

pub use evidence::Evidence;
pub use formula::{Machine, Profile, Storage, Wanted, propose};

use crate::fix::{FixPlan, Numbered};
use surus_core::plan::{Interruption, Step};
use surus_pg::{Facts, settings::Settings};

/// The tuned settings that differ from those in force, as a plan, and what they were computed from.
pub struct Tuned {
    pub plan: FixPlan,
    /// Every proposed setting, in force already or not.
    pub wanted: Vec<Wanted>,
    pub pool: Pool,
}

/// How many sessions do useful work at once, by the seeds' rule.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Pool {
    pub cores: u32,
    pub spindles: u32,
    /// `cores × 2 + spindles`: sessions that the server should work on at once.
    pub active: u32,
    /// Slots that applications may use: max_connections less the reserved ones.
    pub slots: u32,
}

impl Pool {
    /// By the seeds' formula: `(cores × 2) + spindles`; an SSD counts as one spindle.
    pub fn of(machine: &Machine, facts: &Facts) -> Self {
        let spindles = 1;
        let number = |name: &str| facts.settings.number(name).unwrap_or(0.0);
        let reserved = number("superuser_reserved_connections") + number("reserved_connections");
        let slots = (number("max_connections") - reserved).max(0.0) as u32;
        Self { cores: machine.cores, spindles, active: machine.cores * 2 + spindles, slots }
    }

    /// A pooler's `default_pool_size` when `instances` application servers share the server.
    pub fn per_instance(&self, instances: u32) -> u32 {
        (self.active / instances.max(1)).max(1)
    }

    /// In words.
    pub fn text(&self) -> String {
        format!(
            "Pool: {} cores × 2 + {} spindle = {} sessions at work at once; spread them over the application servers \
             (3 of them: default_pool_size = {} each) and let further clients wait in the pooler. Slots for applications: {}.",
            self.cores,
            self.spindles,
            self.active,
            self.per_instance(3),
            self.slots
        )
    }
}

/// Compares what is wanted with what is in force.
pub fn plan(facts: &Facts, machine: &Machine, evidence: &Evidence) -> Tuned {
    let wanted = propose(facts.version.major(), machine, evidence, &facts.settings);
    let mut plan = FixPlan::default();
    for want in &wanted {
        if in_force(&facts.settings, want) {
            continue;
        }
        let setting = facts.settings.get(want.name);
        let now = setting.map(|setting| setting.shown()).unwrap_or_default();
        let mut step = Step::setting(
            want.name,
            want.value.clone(),
            format!("{} from {now} to {}: {}", want.name, want.value, want.why),
        );
        if setting.is_some_and(surus_pg::settings::Setting::needs_restart) {
            step = step.interrupts(Interruption::Restart);
        }
        let number = plan.steps.len() + 1;
        let key = format!("tune:{}", want.name);
        plan.steps.push(Numbered { number, key, title: want.why.clone(), step, database: None });
    }
    Tuned { plan, wanted, pool: Pool::of(machine, facts) }
}

/// Is the wanted value in force, within the rounding of its unit?
fn in_force(settings: &Settings, want: &Wanted) -> bool {
    let Some(setting) = settings.get(want.name) else { return true };
    if let Some(bytes) = want.bytes {
        return settings.bytes(want.name).is_some_and(|now| now.abs_diff(bytes) * 20 <= bytes);
    }
    match (setting.value.parse::<f64>(), want.value.parse::<f64>()) {
        (Ok(now), Ok(value)) => (now - value).abs() < 1e-9,
        _ => setting.value == want.value,
    }
}
