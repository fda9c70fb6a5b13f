//! What the operator may configure about checks.

use crate::rule::{Bad, Check, Threshold};
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};
use surus_core::{finding::Reason, protection::Protection};

/// The `[check]` table of surus.toml.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// How often `surus serve` runs the checks: a duration, or `off`. Absent: every hour.
    pub every: Option<String>,
    /// Findings to suppress, each with its reason.
    pub ignore: Vec<Ignore>,
    /// Limits by check id, then by the limit's name.
    pub thresholds: BTreeMap<String, BTreeMap<String, Levels>>,
    /// What the operator declares about the cluster.
    pub declared: Declared,
}

/// A suppression: a finding's key, or a check's id for all of its findings. Without a reason it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignore {
    /// A finding's key (`idx.unused:shop/public.old_idx`) or a check's id (`idx.unused`); a last `*` matches any rest.
    pub key: String,
    /// Why it is fine.
    pub reason: String,
}

impl Ignore {
    /// Does it suppress a finding of check `id` with `key`?
    pub fn covers(&self, id: &str, key: &str) -> bool {
        match self.key.strip_suffix('*') {
            Some(prefix) => key.starts_with(prefix),
            None => self.key == key || self.key == id,
        }
    }
}

/// Configured levels of one limit; what is absent stays as the check has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Levels {
    pub warn: Option<f64>,
    pub crit: Option<f64>,
}

/// What surus cannot know by looking: how the cluster is meant to be.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declared {
    /// application_name of every standby that must be connected.
    pub standbys: Vec<String>,
    /// Networks from which clients may come, e.g. `10.0.1.0/24`.
    pub networks: Vec<String>,
    /// Tables that may be unlogged (`schema.table`).
    pub unlogged: Vec<String>,
    /// Backup policy: the recovery point objective in seconds.
    pub rpo_seconds: Option<f64>,
}

/// The limits in force.
#[derive(Debug, Clone, Default)]
pub struct Thresholds(BTreeMap<String, BTreeMap<String, Levels>>);

impl Thresholds {
    /// From the configuration.
    pub fn new(configured: BTreeMap<String, BTreeMap<String, Levels>>) -> Self {
        Self(configured)
    }

    /// The limit `name` of `check`.
    pub fn of(&self, check: &Check, name: &str) -> Threshold {
        let none = Threshold { name: "", unit: "", warn: None, crit: None, bad: Bad::Above };
        let own = check.thresholds.iter().find(|threshold| threshold.name == name).copied().unwrap_or(none);
        match self.0.get(check.id).and_then(|limits| limits.get(name)) {
            Some(levels) => Threshold { warn: levels.warn.or(own.warn), crit: levels.crit.or(own.crit), ..own },
            None => own,
        }
    }
}

/// How a run goes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Run only these checks (ids or groups); empty for all.
    pub only: Vec<String>,
    /// Look only into these databases; empty for all that can be reached.
    pub databases: Vec<String>,
    pub config: CheckConfig,
    /// Everything ends after this; what was not looked at by then is unknown.
    pub time_limit: Duration,
    /// How many targets are looked at side by side.
    pub parallel_targets: usize,
    /// May experiments that write run?
    pub prove: bool,
    /// What the known backup repositories hold.
    pub repositories: Vec<Repository>,
    /// Is one session with each target all that the checks may have at any time? Else it is two.
    pub one_session: bool,
}

/// A backup repository that checks may look at, or why it could not be read.
#[derive(Debug, Clone)]
pub struct Repository {
    pub address: String,
    /// What it holds, by system identifier.
    pub clusters: Result<BTreeMap<String, Protection>, String>,
}

/// What the first of the repositories that holds the cluster holds for it.
///
/// # Errors
/// Unknown: there is none, none holds the cluster, or one that may hold it could not be read.
pub(crate) fn protection<'a>(repositories: &'a [Repository], cluster: &str) -> Result<&'a Protection, Reason> {
    let mut why =
        "surus knows of no backup repository: name one in surus.toml ([[repository]]) or with --repo".to_owned();
    for repository in repositories {
        match &repository.clusters {
            Ok(clusters) => match clusters.get(cluster) {
                Some(protection) => return Ok(protection),
                None => why = format!("{} holds nothing of this cluster", repository.address),
            },
            Err(problem) => return Err(Reason::Repository(problem.clone())),
        }
    }
    Err(Reason::Repository(why))
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Vec::new(),
            databases: Vec::new(),
            config: CheckConfig::default(),
            time_limit: Duration::from_secs(55),
            parallel_targets: 8,
            prove: false,
            repositories: Vec::new(),
            one_session: false,
        }
    }
}

impl Options {
    /// Is the check selected?
    pub fn selects(&self, check: &Check) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == check.id || wanted == check.group())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suppression_covers_key_id_or_prefix() {
        let ignore = |key: &str| Ignore { key: key.into(), reason: "known".into() };
        let (id, key) = ("idx.unused", "idx.unused:shop/public.old");
        assert!(ignore("idx.unused:shop/public.old").covers(id, key));
        assert!(ignore("idx.unused").covers(id, key));
        assert!(ignore("idx.unused:shop/*").covers(id, key));
        assert!(!ignore("idx.unused:shop/public.older").covers(id, key));
        assert!(!ignore("idx").covers(id, key));
    }
}
