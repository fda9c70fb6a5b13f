//! What is wrong with a target right now, in plain words, worst first: what is seen in the newest answers, the newest
//! look at its sessions and the events of the last hours. Each says where to look next.

use super::{
    findings, now,
    tree::{self, Node},
};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeSet;
use surus_check::{report::TargetReport, reports::NoReport};
use surus_core::{
    finding::{Finding, Severity},
    size::{Bytes, human_count},
};
use surus_observe::{CollectorNow, Snapshot, State, TargetNow};
use surus_store::samples::{Event, SessionSample};

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Worry {
    /// `crit`, `warn` or `info`.
    #[serde(serialize_with = "word")]
    #[schemars(with = "String")]
    pub severity: Severity,
    /// It is about something that could not be looked at, and may be well or not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// One sentence.
    pub text: String,
    /// The page that shows it, below the target's address: `blocking`, `replication` …; empty for the target itself.
    pub page: String,
}

impl Worry {
    /// The word before it: what is not known is never called by how bad it is.
    pub fn mark(&self) -> &'static str {
        if self.unknown { "unknown" } else { self.severity.word() }
    }
}

fn word<S: serde::Serializer>(severity: &Severity, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(severity.word())
}

/// A replica is late from here on, in seconds, and badly late.
const LAG_S: (f64, f64) = (30.0, 300.0);
/// WAL that a receiver lacks, in bytes.
const LAG_BYTES: (f64, f64) = (64e6, 1e9);
/// WAL that a slot keeps, in bytes.
const SLOT_BYTES: (f64, f64) = (1e9, 10e9);
/// The share of connections in use.
const CONNECTIONS: (f64, f64) = (0.8, 0.95);
/// Dead rows of a table, and their share of all rows.
const DEAD_ROWS: f64 = 5_000.0;
const DEAD_SHARE: f64 = 0.3;
/// Tables that are named.
const TABLES: usize = 2;
/// How long an open transaction may be, in seconds.
const TRANSACTION_S: (f64, f64) = (300.0, 3600.0);
/// The share of a filesystem that is in use.
const DISK: (f64, f64) = (0.85, 0.95);
/// Kinds of events that may be why something is different now.
const TELLING: [&str; 8] = ["settings", "restart", "role", "timeline", "identity", "version", "ddl", "blocking"];

/// Everything that worries come from.
pub struct Seen<'a> {
    pub snapshot: &'a Snapshot,
    pub target: &'a TargetNow,
    /// The sessions of the newest look; none when there is no fresh one.
    pub sessions: Option<&'a [SessionSample]>,
    /// The target's events of the last hours, oldest first.
    pub events: &'a [Event],
    /// What the newest check found.
    pub report: Option<&'a TargetReport>,
    /// Why there is no report, or none since the last attempt.
    pub unchecked: Option<&'a NoReport>,
}

/// What is wrong, worst first.
pub fn of(seen: &Seen<'_>) -> Vec<Worry> {
    let mut all = Vec::new();
    if let Some(trouble) = &seen.target.trouble {
        all.push(worry(Severity::Crit, format!("It does not answer: {}", trouble.text), ""));
    } else if !seen.target.up {
        all.push(worry(Severity::Crit, "It does not answer".into(), ""));
    }
    all.extend(seen.sessions.and_then(blocking));
    all.extend(replication(seen.target));
    all.extend(connections(seen.target));
    all.extend(transactions(seen.target));
    all.extend(dead_rows(seen.target));
    all.extend(disks(seen));
    all.extend(unseen(seen));
    all.extend(seen.report.into_iter().flat_map(found));
    all.extend(changed(seen.events));
    all.sort_by_key(|worry| std::cmp::Reverse(worry.severity));
    all
}

fn worry(severity: Severity, text: String, page: &str) -> Worry {
    Worry { severity, unknown: false, text, page: page.to_owned() }
}

/// Warn or crit, when the value is beyond the first or second bound.
fn graded(value: f64, (warn, crit): (f64, f64)) -> Option<Severity> {
    match value {
        value if value >= crit => Some(Severity::Crit),
        value if value >= warn => Some(Severity::Warn),
        _ => None,
    }
}

/// Who a session is, for a sentence.
pub fn called(node: &Node) -> String {
    let Some(session) = &node.session else { return format!("process {}", node.pid) };
    let name = session.application.as_deref().filter(|name| !name.is_empty()).or(session.user.as_deref());
    let doing = match session.state.as_deref() {
        Some("idle in transaction") => ", idle in a transaction",
        Some("idle in transaction (aborted)") => ", idle in a failed transaction",
        _ => "",
    };
    format!("process {}{}{doing}", node.pid, name.map(|name| format!(" ({name})")).unwrap_or_default())
}

fn blocking(sessions: &[SessionSample]) -> Option<Worry> {
    let roots = tree::forest(sessions);
    let first = roots.first()?;
    let waiting: usize = roots.iter().map(Node::held_up).sum();
    let (verb, who) = if waiting == 1 { ("session waits", called(first)) } else { ("sessions wait", called(first)) };
    let others = if roots.len() > 1 {
        format!(" and {} other{}", roots.len() - 1, if roots.len() == 2 { "" } else { "s" })
    } else {
        String::new()
    };
    let longest = sessions.iter().filter(|session| !session.blocked_by.is_empty()).filter_map(|one| one.query_age_ms);
    let seconds = longest.max().unwrap_or_default() / 1000;
    let severity = if waiting >= 3 || seconds >= 30 { Severity::Crit } else { Severity::Warn };
    Some(worry(severity, format!("{waiting} {verb} for {who}{others}, up to {seconds} s"), "blocking"))
}

fn replication(target: &TargetNow) -> Vec<Worry> {
    let mut all = Vec::new();
    if let Some(seconds) = now::value(target, "pg_replication_lag_seconds").filter(|_| target.role == Some("standby"))
        && let Some(severity) = graded(seconds, LAG_S)
    {
        all.push(worry(severity, format!("It is {seconds:.0} s behind its primary"), "replication"));
    }
    for point in now::points(target, "pg_stat_replication_replay_lag_bytes") {
        let name = point.labels.get("application_name").unwrap_or("a standby");
        let seconds = now::points(target, "pg_stat_replication_replay_lag_seconds")
            .find(|other| other.labels.get("application_name") == Some(name))
            .map_or(0.0, |point| point.value);
        if let Some(severity) = graded(point.value, LAG_BYTES).max(graded(seconds, LAG_S)) {
            let bytes = Bytes(point.value.max(0.0) as u64);
            all.push(worry(severity, format!("The standby {name} is {bytes} ({seconds:.0} s) behind"), "replication"));
        }
    }
    for point in now::points(target, "pg_replication_slots_retained_bytes") {
        let slot = point.labels.get("slot_name").unwrap_or_default();
        if let Some(severity) = graded(point.value, SLOT_BYTES) {
            let bytes = Bytes(point.value.max(0.0) as u64);
            all.push(worry(severity, format!("The slot {slot} keeps {bytes} of WAL"), "replication"));
        }
    }
    all
}

fn connections(target: &TargetNow) -> Option<Worry> {
    let used = now::sum(target, "pg_stat_database_numbackends", &[])?;
    let most = now::value(target, "pg_settings_max_connections").filter(|most| *most > 0.0)?;
    let severity = graded(used / most, CONNECTIONS)?;
    Some(worry(severity, format!("{used:.0} of {most:.0} connections are in use"), "activity"))
}

fn transactions(target: &TargetNow) -> Option<Worry> {
    let seconds = now::value(target, "pg_long_running_transactions_oldest_timestamp_seconds")?;
    let severity = graded(seconds, TRANSACTION_S)?;
    let text =
        format!("A transaction has been open for {:.0} min: vacuum cannot remove newer dead rows", seconds / 60.0);
    Some(worry(severity, text, "activity"))
}

fn dead_rows(target: &TargetNow) -> Vec<Worry> {
    let live = now::points(target, "pg_stat_user_tables_n_live_tup");
    let dead = now::points(target, "pg_stat_user_tables_n_dead_tup");
    let mut worst: Vec<(f64, f64, String)> = live
        .zip(dead)
        .filter(|(live, dead)| live.labels == dead.labels && dead.value >= DEAD_ROWS)
        .map(|(live, dead)| {
            let label = |name| dead.labels.get(name).unwrap_or_default();
            (
                dead.value / (live.value + dead.value),
                dead.value,
                format!("{}.{}", label("schemaname"), label("relname")),
            )
        })
        .filter(|(share, ..)| *share >= DEAD_SHARE)
        .collect();
    worst.sort_by(|a, b| b.1.total_cmp(&a.1));
    let shown = worst.iter().take(TABLES);
    shown
        .map(|(share, rows, name)| {
            let rows = human_count(*rows as i64);
            let text = format!("{name} needs vacuum: {:.0} % of its rows ({rows}) are dead", share * 100.0);
            worry(Severity::Warn, text, "vacuum")
        })
        .collect()
}

fn disks(seen: &Seen<'_>) -> Vec<Worry> {
    let Some(host) = seen.snapshot.host.as_ref().filter(|_| seen.target.places.is_some()) else { return Vec::new() };
    let family = |name: &str| host.told.iter().find(|told| told.family.name == name).map(|told| told.points.as_slice());
    let size = family("node_filesystem_size_bytes").unwrap_or_default();
    let free = family("node_filesystem_avail_bytes").unwrap_or_default();
    let full = size.iter().filter(|size| size.value > 0.0).filter_map(|size| {
        let free = free.iter().find(|free| free.labels == size.labels)?;
        let severity = graded(1.0 - free.value / size.value, DISK)?;
        let (place, left) = (size.labels.get("mountpoint")?, Bytes(free.value.max(0.0) as u64));
        Some(worry(severity, format!("{place} has {left} left"), "host"))
    });
    full.collect()
}

/// What could not be looked at: it must not pass for well. Of a target that is down that is everything, and is said.
fn unseen(seen: &Seen<'_>) -> Vec<Worry> {
    let target = seen.target;
    if !target.up {
        return Vec::new();
    }
    let unknown = |severity, text: String, page: &str| Worry { unknown: true, ..worry(severity, text, page) };
    let mut all = Vec::new();
    if seen.sessions.is_none() {
        let text = "Its sessions were not looked at in the last 15 s: who waits for whom is not known";
        all.push(unknown(Severity::Warn, text.into(), "collectors"));
    }
    all.extend(target.missing.iter().map(|why| unknown(Severity::Warn, why.text.clone(), "collectors")));
    let among = |fits: &dyn Fn(&CollectorNow) -> bool| {
        let names: Vec<&str> = target.collectors.iter().filter(|one| fits(one)).map(|one| one.name).collect();
        let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        names.first().map(|first| format!("{first}{more}"))
    };
    if let Some(names) = among(&|one| one.state == State::Failing) {
        all.push(unknown(Severity::Warn, format!("{names} gave no answer: what they show is not known"), "collectors"));
    }
    // What is not there without an error is not missing: another version, an extension that nobody wanted.
    let refused =
        |one: &CollectorNow| one.state == State::Absent && one.reason.as_ref().is_some_and(|why| why.code.is_some());
    if let Some(names) = among(&refused) {
        all.push(unknown(Severity::Info, format!("surus's role may not see what {names} would show"), "collectors"));
    }
    all.extend(seen.unchecked.map(|why| {
        let severity = if matches!(why, NoReport::Failed { .. }) { Severity::Warn } else { Severity::Info };
        unknown(severity, findings::in_words(why), "findings")
    }));
    all
}

/// Findings that somebody should see without going to their page: those that hurt now, one of a kind.
fn found(report: &TargetReport) -> Vec<Worry> {
    let mut kinds = BTreeSet::new();
    let bad = report.findings.iter().filter(|one| one.severity > Severity::Info && kinds.insert(one.id.as_str()));
    let one = |finding: &Finding| {
        let page = format!("findings#{}", finding.key);
        let object = if finding.object.is_empty() || finding.title.contains(&finding.object) {
            String::new()
        } else {
            format!(" ({})", finding.object)
        };
        worry(finding.severity, format!("{}{object}", finding.title), &page)
    };
    bad.map(one).collect()
}

fn changed(events: &[Event]) -> Vec<Worry> {
    let telling = events.iter().rev().filter(|event| TELLING.contains(&event.kind.as_str())).take(3);
    telling.map(|event| worry(Severity::Info, format!("Changed: {}", event.title), "events")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::tests::target;

    #[test]
    fn the_worst_comes_first() {
        let (down, snapshot) = (target(false), Snapshot::default());
        let waiting =
            SessionSample { pid: 2, blocked_by: vec![1], query_age_ms: Some(4000), ..SessionSample::default() };
        let event = Event {
            at_ms: 1,
            target: down.name.clone(),
            kind: "settings".into(),
            title: "work_mem: 4kB instead of 4MB".into(),
            detail: serde_json::Value::Null,
            key: None,
        };
        let seen = Seen {
            snapshot: &snapshot,
            target: &down,
            sessions: Some(&[waiting]),
            events: &[event],
            report: None,
            unchecked: Some(&NoReport::NotYet),
        };
        let all: Vec<(&str, String, String)> =
            of(&seen).into_iter().map(|worry| (worry.severity.word(), worry.text, worry.page)).collect();
        assert_eq!(
            all,
            [
                ("crit", "It does not answer: db1:5432 refused".to_owned(), String::new()),
                ("warn", "1 session waits for process 1, up to 4 s".to_owned(), "blocking".to_owned()),
                ("info", "Changed: work_mem: 4kB instead of 4MB".to_owned(), "events".to_owned()),
            ]
        );
    }

    #[test]
    fn what_could_not_be_seen_is_unknown_and_not_well() {
        let (up, snapshot) = (target(true), Snapshot::default());
        let told = |sessions, unchecked| {
            let seen = Seen { snapshot: &snapshot, target: &up, sessions, events: &[], report: None, unchecked };
            of(&seen).iter().map(Worry::mark).collect::<Vec<_>>()
        };
        assert_eq!(told(None, None), ["unknown"]);
        assert_eq!(told(None, Some(&NoReport::NotYet)), ["unknown", "unknown"]);
        assert!(told(Some(&[]), None).is_empty());
    }
}
