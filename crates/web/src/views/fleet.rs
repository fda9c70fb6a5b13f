//! All targets, worst first.

use super::{
    Asking, now,
    worries::{self, Seen, Worry},
};
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::HashMap;
use surus_check::reports::Checked;
use surus_core::{finding::Severity, series::Window};
use surus_observe::{TargetNow, Why};

/// Points of the small plot on a card.
const POINTS: i64 = 60;
/// A look at the sessions that is older than this, in milliseconds, says nothing about now.
const FRESH_MS: i64 = 15_000;
/// Events as old as this, in milliseconds, may still explain what is wrong now.
const RECENT_MS: i64 = 6 * 3_600_000;

/// The fleet.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Fleet {
    /// One sentence about all.
    pub headline: String,
    pub at_ms: i64,
    /// Why nothing is remembered now, if nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_trouble: Option<String>,
    pub targets: Vec<Card>,
}

/// One target.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Card {
    pub name: String,
    pub cluster: Option<String>,
    pub server: String,
    pub up: bool,
    /// Since when it is up, or down.
    pub since_ms: i64,
    pub version: Option<String>,
    pub role: Option<&'static str>,
    /// Why it does not answer.
    #[schemars(with = "Option<serde_json::Value>")]
    pub trouble: Option<Why>,
    /// The newest answer of the server.
    pub newest_ms: Option<i64>,
    /// What is wrong, worst first.
    pub worries: Vec<Worry>,
    /// Sessions at work, averaged over the last minute.
    pub active_sessions: Option<f64>,
    pub cores: Option<usize>,
    /// Transactions a second over the last minute.
    pub transactions_per_second: Option<f64>,
    pub connections: Option<f64>,
    pub max_connections: Option<f64>,
    /// How far it is behind its primary.
    pub lag_seconds: Option<f64>,
    /// Readiness for production, 0 to 100; none before the first check.
    pub readiness: Option<u8>,
    /// Findings that are crit and warn.
    pub findings: Option<(usize, usize)>,
    /// Active sessions over the range, oldest first; null where nothing is known.
    pub load: Vec<Option<f64>>,
}

/// Looks at all targets.
pub fn look(asking: &Asking<'_>) -> Result<Fleet, ApiError> {
    let active = by_instance(asking, "sum by (instance) (avg_over_time(surus_active_sessions[1m]))")?;
    let tps = by_instance(
        asking,
        "sum by (instance) (rate(pg_stat_database_xact_commit[1m]) + rate(pg_stat_database_xact_rollback[1m]))",
    )?;
    let load = loads(asking)?;
    let mut targets = Vec::new();
    for target in &asking.scene.snapshot.targets {
        let mut card = card(asking, target)?;
        card.active_sessions = active.get(&target.name).copied();
        card.transactions_per_second = tps.get(&target.name).copied();
        card.load = load.get(&target.name).cloned().unwrap_or_default();
        targets.push(card);
    }
    let rank = |card: &Card| card.worries.first().map(|worry| worry.severity);
    let bad = |card: &Card| card.worries.iter().filter(|worry| worry.severity > Severity::Info).count();
    // Sorting is stable: equals stay in the order of the configuration.
    targets.sort_by_key(|card| std::cmp::Reverse((rank(card), bad(card))));
    let headline = headline(&targets);
    let store_trouble = asking.site.observatory.store_trouble();
    Ok(Fleet { headline, at_ms: asking.scene.now_ms, store_trouble, targets })
}

fn card(asking: &Asking<'_>, target: &TargetNow) -> Result<Card, ApiError> {
    let checked = asking.site.reports.get(&target.name);
    let of =
        |checked: &Checked, severity| checked.report.findings.iter().filter(|one| one.severity == severity).count();
    Ok(Card {
        name: target.name.clone(),
        cluster: target.cluster.clone(),
        server: target.server.clone(),
        up: target.up,
        since_ms: target.since_ms,
        version: target.version.as_ref().map(ToString::to_string),
        role: target.role,
        trouble: target.trouble.clone(),
        newest_ms: now::newest_ms(target),
        worries: worries_of(asking, target)?,
        active_sessions: None,
        cores: now::cores(&asking.scene.snapshot, target),
        transactions_per_second: None,
        connections: now::sum(target, "pg_stat_database_numbackends", &[]),
        max_connections: now::value(target, "pg_settings_max_connections"),
        lag_seconds: now::value(target, "pg_replication_lag_seconds").filter(|_| target.role == Some("standby")),
        readiness: checked.as_ref().map(|checked| checked.report.readiness.score),
        findings: checked.as_ref().map(|checked| (of(checked, Severity::Crit), of(checked, Severity::Warn))),
        load: Vec::new(),
    })
}

/// What is wrong with a target now.
pub fn worries_of(asking: &Asking<'_>, target: &TargetNow) -> Result<Vec<Worry>, ApiError> {
    let until_ms = asking.scene.now_ms;
    let newest = asking.site.store.activity_at(&target.name, until_ms, FRESH_MS)?;
    let recent = Window { after_ms: until_ms - RECENT_MS, until_ms };
    let events = asking.site.store.events(Some(&target.name), recent)?;
    let sessions = newest.as_ref().map(|look| look.sessions.as_slice());
    let snapshot = &asking.scene.snapshot;
    let checked = asking.site.reports.get(&target.name);
    let report = checked.as_ref().map(|checked| &checked.report);
    let unchecked = asking.site.reports.trouble(&target.name);
    let unchecked = unchecked.as_ref();
    Ok(worries::of(&Seen { snapshot, target, sessions, events: &events, report, unchecked }))
}

fn by_instance(asking: &Asking<'_>, query: &str) -> Result<HashMap<String, f64>, ApiError> {
    let samples = asking.vector_at(query, asking.scene.now_ms)?;
    let named = samples.into_iter().filter_map(|sample| {
        sample.labels.get("instance").filter(|_| !sample.value.is_nan()).map(|name| (name.to_owned(), sample.value))
    });
    Ok(named.collect())
}

fn loads(asking: &Asking<'_>) -> Result<HashMap<String, Vec<Option<f64>>>, ApiError> {
    let range = &asking.scene.range;
    let step_ms = (range.length_ms() / POINTS).max(1000);
    let lines = asking.lines("sum by (instance) (surus_active_sessions)", step_ms)?;
    let filled = |points: &[(i64, f64)]| -> Vec<Option<f64>> {
        let mut points = points.iter().peekable();
        (0..=range.length_ms() / step_ms)
            .map(|step| points.next_if(|(at_ms, _)| *at_ms <= range.from_ms + step * step_ms).map(|(_, value)| *value))
            .collect()
    };
    let named = lines.iter().filter_map(|line| Some((line.labels.get("instance")?.to_owned(), filled(&line.points))));
    Ok(named.collect())
}

fn headline(cards: &[Card]) -> String {
    let worst =
        |severity| cards.iter().filter(move |card| card.worries.first().map(|one| one.severity) == Some(severity));
    let (down, crit, warn) =
        (cards.iter().filter(|card| !card.up).count(), worst(Severity::Crit).count(), worst(Severity::Warn).count());
    let of = |count: usize, verb: (&str, &str)| {
        let all = cards.len();
        let verb = if count == 1 { verb.0 } else { verb.1 };
        if all == 1 { format!("The target {}", verb) } else { format!("{count} of {all} targets {verb}") }
    };
    match (cards.len(), down, crit, warn) {
        (0, ..) => "No target is watched: surus.toml has no [[target]]".to_owned(),
        (_, down @ 1.., ..) => of(down, ("does not answer", "do not answer")),
        (_, 0, crit @ 1.., _) => of(crit, ("needs you now", "need you now")),
        (_, 0, 0, warn @ 1..) => of(warn, ("wants attention", "want attention")),
        _ if cards.iter().any(|card| card.worries.iter().any(|worry| worry.unknown)) => {
            of(cards.len(), ("answers; not everything could be looked at", "answer; not everything could be looked at"))
        }
        (1, ..) => "The target answers, and nothing is wrong that surus can see".to_owned(),
        (all, ..) => format!("All {all} targets answer, and nothing is wrong that surus can see"),
    }
}
