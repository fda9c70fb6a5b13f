//! The newest answers of all targets: what `/metrics` and the pages show without asking any server.

use crate::{collector::Tier, exposition::Part, why::Why};
use serde::Serialize;
use std::{path::PathBuf, sync::Arc};
use surus_core::{series::Told, version::Version};

/// All targets at one moment. Cheap to take and to hold.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When it was taken, in milliseconds since 1970.
    pub at_ms: i64,
    /// In the order of the configuration.
    pub targets: Vec<Arc<TargetNow>>,
    /// surus's own process: `process_*` and `surus_*` that belong to no target.
    pub own: Arc<Vec<Told>>,
    /// The machine (`node_*`), when surus runs on the host of one of the targets.
    pub host: Option<Arc<Answer>>,
}

impl Snapshot {
    /// What the text format is made of: surus itself and the machine, then each target. surus itself has no server.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let host = self.host.iter().flat_map(|host| &host.told);
        let own = Part { server: "", told: self.own.iter().chain(host).collect() };
        std::iter::once(own).chain(self.targets.iter().map(|target| target.part())).collect()
    }

    /// The target of this name.
    pub fn target(&self, name: &str) -> Option<&Arc<TargetNow>> {
        self.targets.iter().find(|target| target.name == name)
    }
}

impl TargetNow {
    /// What the target says, as the text format wants it.
    pub fn part(&self) -> Part<'_> {
        let told = self.answers.iter().flat_map(|answer| &answer.told).collect();
        Part { server: &self.server, told }
    }
}

/// A target at one moment.
#[derive(Debug, Clone)]
pub struct TargetNow {
    pub name: String,
    pub cluster: Option<String>,
    /// `host:port`, the value of the label `server` of postgres_exporter 0.11; empty until it was reached once.
    pub server: String,
    /// Did it answer in the last cycle?
    pub up: bool,
    /// Since when it is up, or down, in milliseconds since 1970.
    pub since_ms: i64,
    /// Why it is not up.
    pub trouble: Option<Why>,
    pub version: Option<Version>,
    /// `primary` or `standby`.
    pub role: Option<&'static str>,
    /// The cluster's identity, where the role may see it.
    pub system_identifier: Option<String>,
    /// The data directory and tablespaces, when surus runs on the target's host.
    pub places: Option<Vec<PathBuf>>,
    /// Open sessions of surus with this server: 0 to 2.
    pub connections: u8,
    /// Cycles that were not run because the one before took too long.
    pub skipped: u64,
    /// What the collectors said last. The target's own (`up`, `pg_up`, `surus_*`) are among them.
    pub answers: Vec<Arc<Answer>>,
    /// Every collector, at each place where it runs, with its reason when it said nothing.
    pub collectors: Vec<CollectorNow>,
    /// What the whole target is missing: databases that are not looked into, a truncated sample.
    pub missing: Vec<Why>,
}

/// What one collector said at one place.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The collector's name.
    pub collector: &'static str,
    /// The database that was asked, when the collector is about a database.
    pub database: Option<Arc<str>>,
    /// The scheduled time of the cycle, in milliseconds since 1970.
    pub at_ms: i64,
    pub told: Vec<Told>,
}

/// How a collector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has not run yet.
    Waiting,
    /// Its last run gave an answer.
    Fine,
    /// It does not apply here, or something that it needs is missing.
    Absent,
    /// Its last run failed.
    Failing,
    /// It gave an answer or failed, and runs less often for now: the reason says why.
    Resting,
}

/// A collector at one place, for the page of collectors.
#[derive(Debug, Clone, Serialize)]
pub struct CollectorNow {
    pub name: &'static str,
    /// What it reads.
    pub reads: &'static str,
    #[serde(skip)]
    pub tier: Option<Tier>,
    pub database: Option<String>,
    pub state: State,
    /// Why there is no answer, or why it runs less often.
    pub reason: Option<Why>,
    /// The scheduled time of its last run.
    pub last_run_ms: Option<i64>,
    /// How long the last run took.
    pub duration_ms: f64,
    /// Rows of the last answer.
    pub rows: usize,
    /// When it is due again.
    pub next_run_ms: Option<i64>,
}
