//! Up to where recovery is to go, and how PostgreSQL is told.

use jiff::Timestamp;
use serde::Serialize;
use std::fmt;
use surus_core::lsn::Lsn;

/// Where recovery ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At the end of the WAL that is in the archive.
    Latest,
    /// As soon as the backup is consistent.
    Immediate,
    /// With the last transaction that ended by then.
    Time(Timestamp),
    Lsn(Lsn),
    /// With this transaction's end. As PostgreSQL shows it: 32 bits, or 64 with the epoch.
    Xid(u64),
    /// At this restore point, made with `pg_create_restore_point`.
    Name(String),
}

/// Which timeline recovery follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TimelineChoice {
    /// The newest one in the archive.
    Latest,
    /// That of the backup.
    Current,
    Number(u32),
}

/// What the server does when it has come to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Promote,
    Pause,
    Shutdown,
}

/// The whole wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryTarget {
    pub goal: Goal,
    /// Stop just before the target instead of just after it; for time, LSN and xid.
    pub exclusive: bool,
    pub timeline: TimelineChoice,
    pub action: Action,
}

impl Default for RecoveryTarget {
    fn default() -> Self {
        Self { goal: Goal::Latest, exclusive: false, timeline: TimelineChoice::Latest, action: Action::Promote }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the end of the archived WAL"),
            Self::Immediate => f.write_str("the end of the backup"),
            Self::Time(time) => write!(f, "{time}"),
            Self::Lsn(lsn) => write!(f, "LSN {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point {name:?}"),
        }
    }
}

impl RecoveryTarget {
    /// The recovery settings. Those of targets that are not wanted are emptied first, for the cluster's own files may
    /// have set them, and PostgreSQL refuses two targets. Source: PostgreSQL's documentation, "Recovery Target".
    pub fn settings(&self, timeline: u32) -> Vec<(&'static str, String)> {
        let wanted = match &self.goal {
            Goal::Latest => None,
            Goal::Immediate => Some(("recovery_target", "immediate".to_owned())),
            Goal::Time(time) => Some(("recovery_target_time", time.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string())),
            Goal::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
            Goal::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
            Goal::Name(name) => Some(("recovery_target_name", name.clone())),
        };
        let all = [
            "recovery_target",
            "recovery_target_name",
            "recovery_target_time",
            "recovery_target_xid",
            "recovery_target_lsn",
        ];
        let unwanted = all.into_iter().filter(|name| wanted.as_ref().is_none_or(|(wanted, _)| wanted != name));
        let mut settings: Vec<_> = unwanted.map(|name| (name, String::new())).collect();
        settings.extend(wanted);
        let action = match self.action {
            Action::Promote => "promote",
            Action::Pause => "pause",
            Action::Shutdown => "shutdown",
        };
        settings.push(("recovery_target_inclusive", if self.exclusive { "off" } else { "on" }.to_owned()));
        settings.push(("recovery_target_timeline", timeline.to_string()));
        settings.push(("recovery_target_action", action.to_owned()));
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_is_set_and_the_others_are_emptied_before() {
        let goal = Goal::Time("2026-01-31T12:00:00.123456Z".parse().unwrap());
        let target = RecoveryTarget { goal, exclusive: true, ..RecoveryTarget::default() };
        let settings = target.settings(3);
        let at = settings.iter().position(|(name, _)| *name == "recovery_target_time").unwrap();
        assert_eq!(settings[at].1, "2026-01-31 12:00:00.123456+00");
        assert_eq!(settings.iter().take(at).filter(|(_, value)| value.is_empty()).count(), 4);
        let value = |wanted: &str| settings.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        assert_eq!(value("recovery_target_inclusive"), Some("off"));
        assert_eq!(value("recovery_target_timeline"), Some("3"));
        assert_eq!(value("recovery_target_action"), Some("promote"));
    }
}
