//! pg_settings: one family `pg_settings_<name>` for every setting that is a boolean or a number, as the exporter has
//! them: units are converted and become part of the name (`_seconds`, `_bytes`), -1 stays -1, on is 1.
//!
//! What surus itself sets in its session (timeouts, jit, read only) must not be told as the server's value. So settings
//! that a session may change are told as RESET would leave them.

use crate::collector::{Collector, Declared, Page, RunsOn, Scene, Scope, Tier};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use surus_core::series::{Family, MetricKind, is_metric_name};
use surus_pg::{RowError, Rows, Sql};

/// The families come from the server. This stands for all of them on the page of metrics.
static ANY: Family = Family {
    name: "pg_settings_<name>",
    kind: MetricKind::Gauge,
    help: "The setting's value for new sessions: booleans as 0 and 1, times in seconds, sizes in bytes",
};
pub(super) const DECLARED: &[Declared] = &[Declared { family: &ANY, labels: &[] }];

/// Families are never given back, so their number must end somewhere. A server has about 400, extensions add some.
const MOST_FAMILIES: usize = 4_000;

pub static COLLECTOR: Collector = Collector {
    name: "settings",
    reads: "pg_settings",
    tier: Tier::Slow,
    scope: Scope::Instance,
    runs_on: RunsOn::Any,
    needs: &[],
    families: &[],
    // The two that the exporter leaves out have values that are no numbers on some services.
    sql: &[Sql::all(
        "SELECT name, CASE WHEN context IN ('user', 'superuser') THEN reset_val ELSE setting END AS value, unit, vartype \
         FROM pg_settings WHERE vartype IN ('bool', 'integer', 'real') \
           AND name NOT IN ('sync_commit_cancel_wait', 'google_dataplex.max_messages')",
    )],
    read,
};

fn read(rows: &Rows, _scene: &Scene<'_>, page: &mut Page) -> Result<(), RowError> {
    for row in rows.iter() {
        // A setting that the role may not see has no value.
        let (Some(value), unit) = (row.opt_str("value")?, row.opt_str("unit")?) else { continue };
        let told = match row.str("vartype")? {
            "bool" => Some((f64::from(u8::from(value == "on")), "")),
            _ => number(value, unit.unwrap_or_default()),
        };
        if let Some((value, unit)) = told
            && let Some(family) = family(row.str("name")?, unit)
        {
            page.tell(family, [], value);
        }
    }
    Ok(())
}

/// A setting's value in seconds or bytes, and which; `None` for what cannot be read.
fn number(value: &str, unit: &str) -> Option<(f64, &'static str)> {
    // Some managed services write the unit into the value.
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let value: f64 = digits.parse().ok()?;
    let (name, factor) = match unit {
        "" => ("", 1.0),
        "us" => ("_seconds", 0.000_001),
        "ms" => ("_seconds", 0.001),
        "s" => ("_seconds", 1.0),
        "min" => ("_seconds", 60.0),
        "h" => ("_seconds", 3_600.0),
        "d" => ("_seconds", 86_400.0),
        _ => ("_bytes", bytes(unit)?),
    };
    // -1 means off or "like another setting", not a quantity. 1000 ms must be 1 and not 1.0000000000000002.
    let scaled = match () {
        () if value == -1.0 => value,
        () if factor < 1.0 => value / (1.0 / factor).round(),
        () => value * factor,
    };
    Some((scaled, name))
}

/// The size of a unit such as `8kB`.
fn bytes(unit: &str) -> Option<f64> {
    let at = unit.find(|c: char| c.is_ascii_alphabetic())?;
    let (count, name) = unit.split_at(at);
    let count: f64 = if count.is_empty() { 1.0 } else { count.parse().ok()? };
    let factor = match name {
        "B" => 1.0,
        "kB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        "TB" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(count * factor)
}

/// The family of a setting. It is made when a setting is seen for the first time and stays as long as the process.
fn family(setting: &str, unit: &'static str) -> Option<&'static Family> {
    static KNOWN: Mutex<BTreeMap<String, &'static Family>> = Mutex::new(BTreeMap::new());
    let name = format!("pg_settings_{}{unit}", setting.replace(['.', '-'], "_"));
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(family) = known.get(&name) {
        return Some(family);
    }
    if known.len() >= MOST_FAMILIES || !is_metric_name(&name) {
        return None;
    }
    let converted = if unit.is_empty() { String::new() } else { format!(", in {}", unit.trim_start_matches('_')) };
    let help: &'static str = format!("Value of the setting {setting} for new sessions{converted}").leak();
    let family: &'static Family =
        Box::leak(Box::new(Family { name: name.clone().leak(), kind: MetricKind::Gauge, help }));
    known.insert(name, family);
    Some(family)
}

#[cfg(test)]
mod tests {
    use super::super::testing::heard;
    use super::*;
    use surus_testkit::Server;

    /// surus sets timeouts, jit and read-only in its session; nobody must take that for the server's.
    #[test]
    fn the_servers_values_are_told_and_not_the_sessions() {
        let server = Server::builder().setting("statement_timeout", "7min").setting("work_mem", "5MB").start();
        server.sql("ALTER DATABASE postgres SET work_mem = '6MB'");
        let heard = heard(&server, "postgres", &[&COLLECTOR]);
        for (name, value) in [
            ("pg_settings_statement_timeout_seconds", 420.0),
            ("pg_settings_lock_timeout_seconds", 0.0),
            ("pg_settings_jit", 1.0),
            ("pg_settings_default_transaction_read_only", 0.0),
            ("pg_settings_max_parallel_workers_per_gather", 2.0),
            ("pg_settings_work_mem_bytes", 6.0 * 1024.0 * 1024.0),
            ("pg_settings_max_connections", 30.0),
            ("pg_settings_block_size", 8192.0),
        ] {
            assert_eq!(heard.value(name, &[]), value, "{name}");
        }
    }

    #[test]
    fn units_are_converted_as_the_exporter_does() {
        let cases = [
            (("16384", "8kB"), (134_217_728.0, "_bytes")),
            (("300", "s"), (300.0, "_seconds")),
            (("1000", "ms"), (1.0, "_seconds")),
            (("7", "ms"), (0.007, "_seconds")),
            (("5", "min"), (300.0, "_seconds")),
            (("-1", "kB"), (-1.0, "_bytes")),
            (("-1", "ms"), (-1.0, "_seconds")),
            (("1", "MB"), (1_048_576.0, "_bytes")),
            (("0.5", ""), (0.5, "")),
            (("5min", "min"), (300.0, "_seconds")),
        ];
        for ((value, unit), expected) in cases {
            assert_eq!(number(value, unit), Some(expected), "{value} {unit}");
        }
        assert_eq!(number("none", ""), None);
        assert_eq!(number("1", "furlong"), None);
    }

    #[test]
    fn a_setting_has_one_family() {
        let one = family("pg_stat_statements.max", "").unwrap();
        assert_eq!(one.name, "pg_settings_pg_stat_statements_max");
        assert!(std::ptr::eq(one, family("pg_stat_statements.max", "").unwrap()));
        assert!(family("no name", "").is_none());
    }
}
