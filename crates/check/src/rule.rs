//! What a check is: one static value per file of the catalogue.

use crate::{scene::Scene, verdict::Judged};
use std::{future::Future, pin::Pin};
use surus_core::finding::Severity;
use surus_pg::{Rows, Session, Target};
pub use surus_pg::{Scope, Sql};

/// On which side of replication a check means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunsOn {
    Any,
    Primary,
    Standby,
    /// On every node, each for itself; a finding stands only where all given nodes of the cluster agree on its key,
    /// and is shown once.
    EveryNode,
}

/// What a check must have before it may look. The first one missing makes it *unknown*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// See all sessions and statistics: pg_read_all_stats, which pg_monitor includes.
    Stats,
    /// See all settings: pg_read_all_settings, which pg_monitor includes.
    Settings,
    /// Call the pg_ls_* functions: pg_monitor.
    Monitor,
    /// See the statistics of every table in pg_stats: pg_read_all_data (14 and newer) or superuser.
    ReadAllData,
    /// See the rules of pg_hba.conf.
    Hba,
    /// See pg_authid and other catalogs that only a superuser reads.
    Superuser,
    /// surus runs on the server's host.
    Host,
    /// The extension is installed in the database that is looked at.
    Extension(&'static str),
    /// This major or newer.
    Major(u16),
}

/// The future of a look that is more than one query.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Judged> + Send + 'a>>;

/// How a check looks.
pub enum Look {
    /// Not at all: it judges the facts that are gathered anyway (settings, rules, role, host).
    Facts(fn(&Scene<'_>) -> Judged),
    /// With one query; the first text whose range holds the server's major is asked.
    Query(&'static [Sql], fn(&Scene<'_>, &Rows) -> Judged),
    /// By something that one query cannot do: several queries, a connection attempt, files of the host.
    Custom(for<'a> fn(&'a Scene<'a>, Access<'a>) -> Looking<'a>),
    /// As [`Look::Custom`], of the whole instance, by looking twice with a pause in between. Other checks run meanwhile
    /// in the other session, so it opens none of its own.
    Pausing(for<'a> fn(&'a Scene<'a>, Access<'a>) -> Looking<'a>),
    /// By logging in again, in other ways, on the host that was reached: one session at a time, closed before the look
    /// ends.
    Anew(for<'a> fn(&'a Scene<'a>, &'a Target) -> Looking<'a>),
    /// By what the backup repository holds for the cluster; unknown where no repository is known to hold it.
    Repository(fn(&Scene<'_>, &surus_core::protection::Protection) -> Judged),
    /// It needs what this version of surus does not have yet; the function says what. Always *unknown*.
    Later(fn() -> surus_core::finding::Reason),
}

/// What a custom look may use.
#[derive(Clone, Copy)]
pub struct Access<'a> {
    /// The open session.
    pub session: &'a Session,
    /// Where a further session can be opened: at most one at a time, closed before the look ends. None where this one
    /// is all that surus may have.
    pub target: Option<&'a Target>,
}

/// A limit with its two levels.
#[derive(Debug, Clone, Copy)]
pub struct Threshold {
    /// Its name in the configuration: `[check.thresholds."conn.saturation"] used = { warn = 75, crit = 90 }`.
    pub name: &'static str,
    /// The unit of both levels: `%`, `s`, `bytes`, `transactions` …
    pub unit: &'static str,
    pub warn: Option<f64>,
    pub crit: Option<f64>,
    /// Whether large or small values are bad.
    pub bad: Bad,
}

/// Which direction is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    Above,
    Below,
}

impl Threshold {
    /// Values at or above the levels are bad.
    pub const fn above(name: &'static str, unit: &'static str, warn: f64, crit: f64) -> Self {
        Self { name, unit, warn: Some(warn), crit: Some(crit), bad: Bad::Above }
    }

    /// Values at or below the levels are bad.
    pub const fn below(name: &'static str, unit: &'static str, warn: f64, crit: f64) -> Self {
        Self { name, unit, warn: Some(warn), crit: Some(crit), bad: Bad::Below }
    }

    /// Only a warning level.
    pub const fn warn_above(name: &'static str, unit: &'static str, warn: f64) -> Self {
        Self { name, unit, warn: Some(warn), crit: None, bad: Bad::Above }
    }

    /// Only a warning level, small values are bad.
    pub const fn warn_below(name: &'static str, unit: &'static str, warn: f64) -> Self {
        Self { name, unit, warn: Some(warn), crit: None, bad: Bad::Below }
    }

    /// How bad `value` is.
    pub fn grade(&self, value: f64) -> Option<Severity> {
        let reached = |level: Option<f64>| {
            level.is_some_and(|level| if self.bad == Bad::Above { value >= level } else { value <= level })
        };
        if reached(self.crit) {
            Some(Severity::Crit)
        } else if reached(self.warn) {
            Some(Severity::Warn)
        } else {
            None
        }
    }
}

/// A rule that inspects a target and returns findings. One static value per file; the file's path is its id.
pub struct Check {
    /// `group.name`; stable, because people suppress findings by it.
    pub id: &'static str,
    /// What a violation is, in one line.
    pub title: &'static str,
    /// What is looked at: views, settings, files.
    pub inspects: &'static str,
    /// Why it matters, in plain words for someone who has never met it.
    pub why: &'static str,
    /// What to do about a finding, in plain words.
    pub remedy: &'static str,
    /// Where rule and thresholds come from.
    pub source: &'static str,
    pub scope: Scope,
    pub runs_on: RunsOn,
    pub needs: &'static [Need],
    pub thresholds: &'static [Threshold],
    pub look: Look,
}

impl Check {
    /// The group: the part of the id before the dot.
    pub fn group(&self) -> &'static str {
        self.id.split('.').next().unwrap_or(self.id)
    }

    /// The query for a major, when the check asks one.
    pub fn sql(&self, major: u16) -> Option<&'static str> {
        match &self.look {
            Look::Query(texts, _) => Sql::of_major(texts, major),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_grade_both_directions() {
        let used = Threshold::above("used", "%", 75.0, 90.0);
        assert_eq!([74.9, 75.0, 90.0].map(|v| used.grade(v)), [None, Some(Severity::Warn), Some(Severity::Crit)]);
        let left = Threshold::below("left", "d", 30.0, 7.0);
        assert_eq!([31.0, 30.0, 7.0].map(|v| left.grade(v)), [None, Some(Severity::Warn), Some(Severity::Crit)]);
        assert_eq!(Threshold::warn_above("n", "", 1.0).grade(1e9), Some(Severity::Warn));
    }
}
