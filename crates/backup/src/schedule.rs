//! When a backup is due: five fields as cron knows them, in a time zone. The only module that names the cron library.

use crate::manifest::BackupKind;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::{fmt, str::FromStr};

/// A moment that is later than now by more than this is of a clock that was wrong.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_hours(1);

/// A time that comes again and again, e.g. `0 2 * * sun`, `@daily`.
#[derive(Clone)]
pub struct Times {
    text: String,
    pattern: croner::Cron,
}

impl fmt::Debug for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Times {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = croner::Cron::from_str(text).map_err(|error| format!("\"{text}\" is no time: {error}"))?;
        Ok(Self { text: text.to_owned(), pattern })
    }
}

impl Times {
    /// The first such time after `at`; none when there is none for years.
    pub fn next_after(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = at.to_zoned(zone.clone());
        Some(self.pattern.find_next_occurrence(&from, false).ok()?.timestamp())
    }
}

/// When backups of a cluster are to be taken.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub full: Option<Times>,
    pub incremental: Option<Times>,
    pub zone: TimeZone,
}

/// The backups that there are, by when they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LastBackups {
    pub full: Option<Timestamp>,
    pub any: Option<Timestamp>,
}

impl LastBackups {
    /// Without those that seem to be of the future: a clock was wrong then, or is now, and they must not keep the next
    /// one from being taken for as long.
    pub fn believed(self, now: Timestamp) -> Self {
        let believed = |at: &Timestamp| is_believed(*at, now);
        Self { full: self.full.filter(believed), any: self.any.filter(believed) }
    }
}

/// May something have happened at this moment, as far as clocks agree?
pub fn is_believed(at: Timestamp, now: Timestamp) -> bool {
    at.duration_since(now) <= CLOCKS_DIFFER
}

impl Schedule {
    /// What is due now. One that was missed, because nobody ran then, is due at once; several that were missed are one.
    pub fn due(&self, last: LastBackups, now: Timestamp) -> Option<BackupKind> {
        let last = last.believed(now);
        let passed = |times: &Option<Times>, last: Option<Timestamp>| {
            let next = times.as_ref()?.next_after(last?, &self.zone)?;
            (next <= now).then_some(())
        };
        // Without a full backup there is nothing to build on, and nothing is protected.
        if last.full.is_none() && (self.full.is_some() || self.incremental.is_some()) {
            return Some(BackupKind::Full);
        }
        if passed(&self.full, last.full).is_some() {
            return Some(BackupKind::Full);
        }
        passed(&self.incremental, last.any).map(|()| BackupKind::Incremental)
    }

    /// When the next one will be due.
    pub fn next(&self, last: LastBackups) -> Option<Timestamp> {
        let next = |times: &Option<Times>, last: Option<Timestamp>| times.as_ref()?.next_after(last?, &self.zone);
        [next(&self.full, last.full), next(&self.incremental, last.any)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn schedule() -> Schedule {
        Schedule {
            full: Some("0 2 * * sun".parse().unwrap()),
            incremental: Some("0 2 * * *".parse().unwrap()),
            zone: TimeZone::UTC,
        }
    }

    #[test]
    fn the_first_one_is_full_and_due_at_once() {
        assert_eq!(schedule().due(LastBackups::default(), at("2026-11-20T12:00:00Z")), Some(BackupKind::Full));
    }

    #[test]
    fn each_kind_has_its_time_and_a_missed_one_is_caught_up() {
        // 2026-11-22 is a Sunday.
        let last = LastBackups { full: Some(at("2026-11-15T02:10:00Z")), any: Some(at("2026-11-20T02:05:00Z")) };
        let due = |now: &str| schedule().due(last, at(now));
        assert_eq!(due("2026-11-20T23:00:00Z"), None);
        assert_eq!(due("2026-11-21T02:00:00Z"), Some(BackupKind::Incremental));
        assert_eq!(due("2026-11-22T02:00:00Z"), Some(BackupKind::Full));
        assert_eq!(due("2026-12-24T18:00:00Z"), Some(BackupKind::Full));
        assert_eq!(schedule().next(last), Some(at("2026-11-21T02:00:00Z")));
    }

    #[test]
    fn a_backup_of_the_future_does_not_stop_the_schedule() {
        let last = LastBackups { full: Some(at("2026-11-15T02:10:00Z")), any: Some(at("2036-01-01T00:00:00Z")) };
        let now = at("2026-11-22T02:00:00Z");
        assert_eq!(schedule().due(last, now), Some(BackupKind::Full));
        let ahead = LastBackups { full: Some(at("2036-01-01T00:00:00Z")), any: None };
        assert_eq!(schedule().due(ahead, now), Some(BackupKind::Full));
        assert!(is_believed(at("2026-11-22T02:59:00Z"), now) && !is_believed(at("2026-11-22T03:01:00Z"), now));
    }

    #[test]
    fn a_night_without_the_hour_has_its_backup_all_the_same() {
        // Berlin, 2026-03-29: the hour from 2 to 3 is left out.
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let schedule = Schedule { full: Some("30 2 * * *".parse().unwrap()), incremental: None, zone };
        let last = LastBackups { full: Some(at("2026-03-28T01:40:00Z")), any: None };
        assert_eq!(schedule.due(last, at("2026-03-29T12:00:00Z")), Some(BackupKind::Full));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in ["", "tomorrow", "61 * * * *", "* * *"] {
            assert!(bad.parse::<Times>().is_err(), "{bad}");
        }
    }
}
