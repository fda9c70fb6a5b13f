//! `[[backup]]`: when backups of a target are taken, and how long they are kept.

use super::quantity::{Size, Span};
use jiff::tz::TimeZone;
use serde::Deserialize;
use surus_backup::{
    expire::plan::Retention,
    repo::codec::Codec,
    schedule::{Schedule, Times},
};

/// A `[[backup]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// The name of a `[[target]]`.
    pub target: String,
    /// The name of a `[[repository]]`.
    pub repository: String,
    /// When a full one is due, as cron writes it.
    pub full: Option<String>,
    /// When one of what changed is due.
    pub incremental: Option<String>,
    /// The zone of both.
    pub timezone: Option<String>,
    pub compress: Option<String>,
    pub jobs: Option<u16>,
    /// Bytes a second that are read at most.
    pub throttle: Option<Size>,
    /// Commands around each backup.
    pub before: Option<String>,
    pub after: Option<String>,
    pub keep_full: Option<u16>,
    pub keep_age: Option<Span>,
    pub keep_window: Option<Span>,
}

impl BackupConfig {
    /// When backups are due.
    ///
    /// # Errors
    /// When a time or the zone is none.
    pub fn schedule(&self) -> Result<Schedule, String> {
        let times = |text: &Option<String>| text.as_deref().map(str::parse::<Times>).transpose();
        let zone = match &self.timezone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|error| error.to_string())?,
        };
        Ok(Schedule { full: times(&self.full)?, incremental: times(&self.incremental)?, zone })
    }

    /// What is kept; `None` when nothing ever goes.
    pub fn retention(&self) -> Option<Retention> {
        let retention = Retention {
            full: self.keep_full.map(usize::from),
            age: self.keep_age.map(|span| span.0),
            window: self.keep_window.map(|span| span.0),
        };
        (retention != Retention::default()).then_some(retention)
    }

    /// What is wrong although every key is known.
    pub fn judge(&self, targets: &[&str], repositories: &[&str]) -> Result<(), String> {
        let wrong = |why: String| Err(format!("backup of \"{}\": {why}", self.target));
        if !targets.contains(&self.target.as_str()) {
            return wrong("there is no such [[target]]".into());
        }
        if !repositories.contains(&self.repository.as_str()) {
            return wrong(format!("there is no [[repository]] \"{}\"", self.repository));
        }
        if self.full.is_none() && self.incremental.is_none() {
            return wrong("say when: full = \"0 2 * * sun\", incremental = \"0 2 * * *\"".into());
        }
        if self.keep_full == Some(0) {
            return wrong("keep_full must be at least 1".into());
        }
        if let Some(Err(why)) = self.compress.as_deref().map(str::parse::<Codec>) {
            return wrong(why);
        }
        self.schedule().map(drop).or_else(wrong)
    }
}
