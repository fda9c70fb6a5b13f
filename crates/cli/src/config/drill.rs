//! `[[drill]]`: when restores are drilled.

use super::quantity::Span;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;
use std::time::Duration;
use surus_backup::schedule::Times;

/// A `[[drill]]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillConfig {
    /// The name of a `[[target]]`.
    pub target: String,
    /// The name of a `[[repository]]`; without it, that of the target's backups.
    pub repository: Option<String>,
    /// Further arguments of `surus prove restore`, such as those that name another tool's backups.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// When, as cron writes it.
    pub cron: Option<String>,
    /// Or how long after the last one.
    pub every: Option<Span>,
    /// The zone of `cron`.
    pub timezone: Option<String>,
    /// Each begins up to this much later.
    pub jitter: Option<Span>,
    /// Up to where: random, latest, or a time.
    #[serde(default = "random")]
    pub to: String,
}

fn random() -> String {
    "random".into()
}

impl DrillConfig {
    /// When the next one is due, after the last one or, without one, after surus began to watch.
    ///
    /// # Errors
    /// When the time or the zone is none.
    pub fn next(&self, last: Option<Timestamp>, since: Timestamp) -> Result<Option<Timestamp>, String> {
        let next = match (&self.cron, self.every) {
            (Some(cron), _) => cron.parse::<Times>()?.next_after(last.unwrap_or(since), &self.zone()?),
            (None, Some(Span(every))) => match last {
                Some(last) => last.checked_add(signed(every)).ok(),
                // Nothing was drilled yet: that is what is to be known first.
                None => Some(since),
            },
            (None, None) => None,
        };
        Ok(next.and_then(|next| next.checked_add(signed(self.delay(next))).ok()))
    }

    /// The same for a turn in every process: it is decided by the turn's own time.
    fn delay(&self, turn: Timestamp) -> Duration {
        let Some(Span(jitter)) = self.jitter else { return Duration::ZERO };
        let text = format!("{} {} {}", self.target, self.repository.as_deref().unwrap_or_default(), turn.as_second());
        // FNV-1a, and its better half.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        jitter.mul_f64((hash >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn zone(&self) -> Result<TimeZone, String> {
        self.timezone.as_deref().map_or(Ok(TimeZone::UTC), |name| TimeZone::get(name).map_err(|why| why.to_string()))
    }

    /// What is wrong although every key is known.
    pub fn judge(&self, targets: &[&str], repositories: &[&str]) -> Result<(), String> {
        let wrong = |why: String| Err(format!("drill of \"{}\": {why}", self.target));
        if !targets.contains(&self.target.as_str()) {
            return wrong("there is no such [[target]]".into());
        }
        if let Some(name) = self.repository.as_deref().filter(|name| !repositories.contains(name)) {
            return wrong(format!("there is no [[repository]] \"{name}\""));
        }
        if self.cron.is_some() == self.every.is_some() {
            return wrong("say when: either cron = \"30 4 * * *\" or every = \"1d\"".into());
        }
        if self.every.is_some_and(|every| every.0 < Duration::from_secs(60)) {
            return wrong("every must be at least 1m".into());
        }
        self.next(None, Timestamp::UNIX_EPOCH).map(drop).or_else(wrong)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn drill(text: &str) -> DrillConfig {
        toml::from_str(&format!("target = 'shop'\n{text}")).unwrap()
    }

    #[test]
    fn the_next_one_is_due_by_cron_or_after_the_last_and_a_little_later() {
        let since = at("2026-01-01T00:00:00Z");
        let daily = drill("cron = '30 4 * * *'");
        assert_eq!(daily.next(None, since).unwrap(), Some(at("2026-01-01T04:30:00Z")));
        let last = Some(at("2026-01-01T04:31:00Z"));
        assert_eq!(daily.next(last, since).unwrap(), Some(at("2026-01-02T04:30:00Z")));
        let every = drill("every = '1d'");
        assert_eq!(every.next(None, since).unwrap(), Some(since), "the first is due at once");
        assert_eq!(every.next(last, since).unwrap(), Some(at("2026-01-02T04:31:00Z")));
        let late = drill("every = '1d'\njitter = '1h'").next(last, since).unwrap().unwrap();
        assert!(late > at("2026-01-02T04:31:00Z") && late < at("2026-01-02T05:31:00Z"), "{late}");
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let judge = |text: &str| drill(text).judge(&["shop"], &["main"]).unwrap_err();
        assert!(judge("").contains("say when") && judge("cron = '@daily'\nevery = '1d'").contains("either"));
        assert!(judge("cron = 'x'").contains("no time") && judge("every = '1s'").contains("1m"));
        assert!(judge("every = '1d'\nrepository = 'x'").contains("no [[repository]]"));
        assert!(drill("every = '1d'").judge(&["other"], &[]).is_err());
    }
}
