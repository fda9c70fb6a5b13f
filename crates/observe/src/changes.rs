//! What has changed on a target between two looks, as events. Pure.

use crate::gate::Extensions;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use surus_core::secret;
use surus_pg::{Facts, facts::DatabaseFacts};

/// Settings whose values an event lists; more are counted.
const SETTINGS_SHOWN: usize = 50;
/// Characters of a setting's value in an event.
const VALUE_SHOWN: usize = 200;

/// Something that happened to a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What sort of event it is: `restart`, `role`, `settings` …; stable.
    pub kind: &'static str,
    /// One line for people.
    pub title: String,
    pub detail: Value,
}

impl Change {
    pub(crate) fn new(kind: &'static str, title: impl Into<String>, detail: Value) -> Self {
        Self { kind, title: title.into(), detail }
    }
}

/// Keeps events of a kind that may come often from flooding the rest.
#[derive(Debug, Default)]
pub struct PerHour {
    hour: i64,
    told: u32,
}

/// Events of one kind and target in an hour.
const PER_HOUR: u32 = 30;

impl PerHour {
    /// May one more be told?
    pub fn allows(&mut self, at_ms: i64) -> bool {
        let hour = at_ms.div_euclid(3_600_000);
        if hour != self.hour {
            *self = Self { hour, told: 0 };
        }
        self.told += 1;
        self.told <= PER_HOUR
    }
}

/// What is asked in every cycle, because it says whether the server is still what it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Pulse {
    pub in_recovery: bool,
    /// When the postmaster started, in seconds since 1970.
    pub started_at: f64,
    /// When the configuration was read last, in seconds since 1970.
    pub configured_at: f64,
    /// The timeline that a primary writes.
    pub timeline: Option<i64>,
}

impl Pulse {
    /// The query. The timeline of a primary is in the name of its current segment; pg_control has it only after a
    /// checkpoint.
    pub const SQL: &'static str = "SELECT pg_is_in_recovery() AS in_recovery, \
        extract(epoch FROM pg_postmaster_start_time()) AS started_at, \
        extract(epoch FROM pg_conf_load_time()) AS configured_at, \
        CASE WHEN NOT pg_is_in_recovery() \
          THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END AS timeline";

    /// Reads the answer.
    ///
    /// # Errors
    /// When it has another shape.
    pub fn read(rows: &surus_pg::Rows) -> Result<Self, surus_pg::RowError> {
        let row = rows.first()?;
        Ok(Self {
            in_recovery: row.bool("in_recovery")?,
            started_at: row.f64("started_at")?,
            configured_at: row.f64("configured_at")?,
            timeline: row.opt_i64("timeline")?,
        })
    }

    /// Was the configuration read again since?
    pub fn reconfigured(&self, before: &Self) -> bool {
        self.configured_at > before.configured_at
    }
}

/// What the pulse says has happened.
pub fn of_pulse(before: &Pulse, now: &Pulse) -> Vec<Change> {
    let mut changes = Vec::new();
    let restarted = now.started_at > before.started_at + 0.001;
    if restarted {
        let detail = json!({ "started_at": now.started_at, "started_before": before.started_at });
        changes.push(Change::new("restart", "The server was restarted", detail));
    }
    match (before.in_recovery, now.in_recovery) {
        (true, false) => {
            let title = "Promoted: the standby is a primary now";
            changes.push(Change::new("role", title, json!({ "from": "standby", "to": "primary" })));
        }
        (false, true) => {
            let title = "The primary is a standby now";
            changes.push(Change::new("role", title, json!({ "from": "primary", "to": "standby" })));
        }
        _ => {}
    }
    if let (Some(from), Some(to)) = (before.timeline, now.timeline)
        && from != to
    {
        let title = format!("Timeline {to} instead of {from}");
        changes.push(Change::new("timeline", title, json!({ "from": from, "to": to })));
    }
    if now.reconfigured(before) && !restarted {
        let detail = json!({ "configured_at": now.configured_at });
        changes.push(Change::new("reload", "The configuration was read again", detail));
    }
    changes
}

/// What the facts say has happened. The role and databases have their own questions.
pub fn of_facts(before: &Facts, now: &Facts) -> Vec<Change> {
    let mut changes = Vec::new();
    if let (Some(from), Some(to)) = (&before.system_identifier, &now.system_identifier)
        && from != to
    {
        let title = "Another cluster answers here: its system identifier is a different one";
        changes.push(Change::new("identity", title, json!({ "from": from, "to": to })));
    }
    if before.version != now.version {
        let (from, to) = (before.version.to_string(), now.version.to_string());
        let title = format!("PostgreSQL {to} instead of {from}");
        changes.push(Change::new("version", title, json!({ "from": from, "to": to })));
    }
    changes.extend(of_settings(before, now));
    changes.extend(of_role(before, now));
    changes.extend(of_databases(&before.databases, &now.databases));
    changes
}

fn of_settings(before: &Facts, now: &Facts) -> Option<Change> {
    // What a role may not see does not change when it may.
    if before.role != now.role {
        return None;
    }
    let shown = |facts: &Facts| -> BTreeMap<String, String> {
        let all = facts.settings.iter().filter(|setting| setting.is_server_wide() && setting.context != "internal");
        all.map(|setting| (setting.name.clone(), setting.shown())).collect()
    };
    let (from, to) = (shown(before), shown(now));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    let differ: Vec<&String> = names.into_iter().filter(|name| from.get(*name) != to.get(*name)).collect();
    if differ.is_empty() {
        return None;
    }
    let text = |all: &BTreeMap<String, String>, name: &str| all.get(name).map(|value| without_secret(name, value));
    let settings: Vec<Value> = differ
        .iter()
        .take(SETTINGS_SHOWN)
        .map(|name| json!({ "name": name, "from": text(&from, name), "to": text(&to, name) }))
        .collect();
    let title = match differ.as_slice() {
        [name] => {
            let value = |all| text(all, name).unwrap_or_else(|| "unset".into());
            format!("{name}: {} instead of {}", value(&to), value(&from))
        }
        several => {
            let first: Vec<&str> = several.iter().take(4).map(|name| name.as_str()).collect();
            let more = if several.len() > 4 { ", …" } else { "" };
            format!("{} settings changed: {}{more}", several.len(), first.join(", "))
        }
    };
    Some(Change::new("settings", title, json!({ "changed": differ.len(), "settings": settings })))
}

/// A setting's value with everything hidden that could be a password. Commands may hold the keys of an object store, so
/// of them only the program is shown.
fn without_secret(name: &str, value: &str) -> String {
    let telling = ["password", "passphrase", "secret", "token", "credential"];
    if value.is_empty() {
        return "''".into();
    }
    if telling.iter().any(|word| name.contains(word)) && !matches!(name, "password_encryption") {
        return "***".into();
    }
    if name.ends_with("_command") {
        let program = value.split_whitespace().next().unwrap_or_default();
        return if program == value { program.to_owned() } else { format!("{program} …") };
    }
    let masked = secret::masked(value);
    match masked.char_indices().nth(VALUE_SHOWN) {
        Some((end, _)) => format!("{}…", &masked[..end]),
        None => masked,
    }
}

fn of_role(before: &Facts, now: &Facts) -> Option<Change> {
    if before.role == now.role {
        return None;
    }
    let rights = |facts: &Facts| {
        let role = &facts.role;
        let all = [
            ("superuser", role.superuser),
            ("pg_monitor", role.monitors),
            ("pg_read_all_stats", role.reads_stats),
            ("pg_read_all_settings", role.reads_settings),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect::<Vec<_>>()
    };
    let (from, to) = (rights(before), rights(now));
    let title = format!("surus's role {} may see other things than before", now.role.name);
    Some(Change::new("privileges", title, json!({ "from": from, "to": to })))
}

/// Databases that are new or gone.
pub fn of_databases(before: &[DatabaseFacts], now: &[DatabaseFacts]) -> Vec<Change> {
    let differ = |here: &[DatabaseFacts], there: &[DatabaseFacts]| -> Vec<String> {
        let missing = |db: &&DatabaseFacts| !there.iter().any(|other| other.oid == db.oid);
        here.iter().filter(missing).map(|db| db.name.clone()).collect()
    };
    let change = |name: &String, title: &str| {
        Change::new("database", format!("Database {name} {title}"), json!({ "database": name }))
    };
    let new = differ(now, before);
    let gone = differ(before, now);
    new.iter().map(|name| change(name, "is new")).chain(gone.iter().map(|name| change(name, "is gone"))).collect()
}

/// Extensions of a database that are new, gone or of another version.
pub fn of_extensions(database: &str, before: &Extensions, now: &Extensions) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |name: &&String| {
        let version = |all: &Extensions| all.get(*name).map(|extension| extension.version.clone());
        let (from, to) = (version(before), version(now));
        let what = match (&from, &to) {
            (None, Some(version)) => format!("Extension {name} {version} was installed in {database}"),
            (Some(_), None) => format!("Extension {name} was removed from {database}"),
            (Some(from), Some(to)) if from != to => format!("Extension {name} {to} instead of {from} in {database}"),
            _ => return None,
        };
        Some(Change::new("extension", what, json!({ "database": database, "name": name, "from": from, "to": to })))
    };
    names.iter().filter_map(change).collect()
}

/// Statistics that were set back to zero: what is counted, and since when, as text.
pub fn of_resets(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<Change> {
    let reset = now.iter().filter(|(what, since)| before.get(*what).is_some_and(|earlier| earlier != *since));
    let change = |(what, since): (&String, &String)| {
        Change::new("stats_reset", format!("The statistics of {what} were reset"), json!({ "of": what, "at": since }))
    };
    reset.map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Extension;

    fn pulse() -> Pulse {
        Pulse { in_recovery: true, started_at: 100.0, configured_at: 100.0, timeline: None }
    }

    fn kinds(changes: &[Change]) -> Vec<&'static str> {
        changes.iter().map(|change| change.kind).collect()
    }

    #[test]
    fn nothing_changed_is_no_event() {
        assert!(of_pulse(&pulse(), &pulse()).is_empty());
    }

    #[test]
    fn a_promotion_a_restart_and_a_reload_are_told_apart() {
        let promoted = Pulse { in_recovery: false, timeline: Some(2), ..pulse() };
        assert_eq!(kinds(&of_pulse(&pulse(), &promoted)), ["role"]);
        let restarted = Pulse { started_at: 200.0, configured_at: 200.0, ..pulse() };
        assert_eq!(kinds(&of_pulse(&pulse(), &restarted)), ["restart"]);
        let reloaded = Pulse { configured_at: 150.0, ..pulse() };
        assert_eq!(kinds(&of_pulse(&pulse(), &reloaded)), ["reload"]);
        let other = Pulse { timeline: Some(3), ..promoted.clone() };
        assert_eq!(kinds(&of_pulse(&promoted, &other)), ["timeline"]);
    }

    #[test]
    fn values_are_shown_without_secrets() {
        let shown = |name: &str, value: &str| without_secret(name, value);
        assert_eq!(shown("work_mem", "8MB"), "8MB");
        assert_eq!(shown("password_encryption", "md5"), "md5");
        assert!(!shown("primary_conninfo", "host=a password=hush user=b").contains("hush"));
        assert_eq!(shown("archive_command", "aws --key=hush cp %p"), "aws …");
        assert_eq!(shown("ssl_passphrase_command", "echo hush"), "***");
        assert_eq!(shown("my.api_token", "hush"), "***");
        assert_eq!(shown("cluster_name", ""), "''");
    }

    #[test]
    fn extensions_and_resets() {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let extensions = |pairs: &[(&str, &str)]| -> Extensions {
            let one = |(name, version): (String, String)| (name, Extension { version, schema: "public".into() });
            map(pairs).into_iter().map(one).collect()
        };
        let (before, now) = (extensions(&[("a", "1"), ("b", "1")]), extensions(&[("a", "2"), ("c", "1")]));
        let changes = of_extensions("shop", &before, &now);
        let titles: Vec<_> = changes.iter().map(|change| change.title.as_str()).collect();
        assert_eq!(
            titles,
            [
                "Extension a 2 instead of 1 in shop",
                "Extension b was removed from shop",
                "Extension c 1 was installed in shop"
            ]
        );
        // What is seen for the first time was not reset.
        assert!(of_resets(&map(&[]), &map(&[("database a", "x")])).is_empty());
        assert_eq!(of_resets(&map(&[("database a", "x")]), &map(&[("database a", "y")])).len(), 1);
    }
}
