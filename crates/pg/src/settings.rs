//! The server's settings, read once, with their units understood.

use crate::rows::{RowError, Rows};
use std::collections::BTreeMap;

/// One row of `pg_settings`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    pub name: String,
    /// The value in `unit`s.
    pub value: String,
    /// `kB`, `8kB`, `MB`, `ms`, `s`, `min` …; absent for plain values.
    pub unit: Option<String>,
    /// `bool`, `string`, `integer`, `real` or `enum`.
    pub vartype: String,
    /// `postmaster` settings need a restart, `sighup` and below a reload.
    pub context: String,
    /// `default`, `configuration file`, `database`, `user`, `session` …
    pub source: String,
    /// What an `enum` may be in this build; empty for other types.
    pub choices: Vec<String>,
    /// The value that is built in.
    pub boot_value: Option<String>,
    /// The file that set it, where the role may see that.
    pub source_file: Option<String>,
    pub source_line: Option<i64>,
    /// The configuration file changed it and a restart is due.
    pub pending_restart: bool,
}

impl Setting {
    /// Must the server be restarted to change it?
    pub fn needs_restart(&self) -> bool {
        self.context == "postmaster"
    }

    /// Does the value hold for the server, not only for our session, role or database?
    pub fn is_server_wide(&self) -> bool {
        !matches!(
            self.source.as_str(),
            "session" | "client" | "user" | "database" | "database user" | "interactive" | "test"
        )
    }

    /// Is it as built in?
    pub fn is_default(&self) -> bool {
        self.source == "default" || self.boot_value.as_deref() == Some(self.value.as_str())
    }

    /// The value with its unit, as people write it: `128MB` rather than 16384 × 8kB.
    pub fn shown(&self) -> String {
        let Some(unit) = &self.unit else { return self.value.clone() };
        if self.value == "-1" || self.value == "0" {
            return self.value.clone();
        }
        let (multiplier, kind) = split_unit(unit);
        let Ok(number) = self.value.parse::<f64>() else { return self.value.clone() };
        match kind {
            "B" | "kB" | "MB" | "GB" => byte_text(number * multiplier * byte_factor(kind)),
            "us" | "ms" | "s" | "min" | "h" | "d" => time_text(number * multiplier * ms_factor(kind)),
            _ => format!("{}{}", self.value, unit),
        }
    }
}

/// All settings that the role may see.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    by_name: BTreeMap<String, Setting>,
}

impl Settings {
    /// The query that [`Settings::from_rows`] understands; the same for 13 to 18. What our own session has changed is
    /// shown as other sessions have it.
    pub const SQL: &'static str = "SELECT name, CASE source WHEN 'session' THEN reset_val ELSE setting END AS setting, \
        unit, vartype, context, source, enumvals, boot_val, sourcefile, sourceline, pending_restart \
        FROM pg_catalog.pg_settings";

    /// Reads the answer to [`Settings::SQL`].
    ///
    /// # Errors
    /// When the answer has another shape.
    pub fn from_rows(rows: &Rows) -> Result<Self, RowError> {
        let mut by_name = BTreeMap::new();
        for row in rows.iter() {
            let setting = Setting {
                name: row.text("name")?,
                value: row.text("setting")?,
                unit: row.opt_str("unit")?.map(str::to_owned),
                vartype: row.text("vartype")?,
                context: row.text("context")?,
                source: row.text("source")?,
                choices: row.list("enumvals")?,
                boot_value: row.opt_str("boot_val")?.map(str::to_owned),
                source_file: row.opt_str("sourcefile")?.map(str::to_owned),
                source_line: row.opt_i64("sourceline")?,
                pending_restart: row.bool("pending_restart")?,
            };
            by_name.insert(setting.name.clone(), setting);
        }
        Ok(Self { by_name })
    }

    /// A setting, if the server has it and the role may see it.
    pub fn get(&self, name: &str) -> Option<&Setting> {
        self.by_name.get(name)
    }

    /// Its text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(|setting| setting.value.as_str())
    }

    /// Is a boolean setting on?
    pub fn on(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| matches!(value, "on" | "true" | "yes" | "1"))
    }

    /// A number in the setting's own unit.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name)?.parse().ok()
    }

    /// A size in bytes; −1 and other negative values ("no limit", "automatic") give `None`.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        let setting = self.get(name)?;
        let (multiplier, kind) = split_unit(setting.unit.as_deref().unwrap_or("B"));
        let number: f64 = setting.value.parse().ok()?;
        (number >= 0.0).then(|| (number * multiplier * byte_factor(kind)) as u64)
    }

    /// A time in milliseconds; negative values ("disabled") give `None`.
    pub fn milliseconds(&self, name: &str) -> Option<f64> {
        let setting = self.get(name)?;
        let (multiplier, kind) = split_unit(setting.unit.as_deref().unwrap_or("ms"));
        let number: f64 = setting.value.parse().ok()?;
        (number >= 0.0).then(|| number * multiplier * ms_factor(kind))
    }

    /// The items of a comma-separated list such as `shared_preload_libraries`.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        let items = self.text(name)?.split(',').map(|item| item.trim().trim_matches('"'));
        Some(items.filter(|item| !item.is_empty()).collect())
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.by_name.values()
    }
}

/// Splits `8kB` into 8 and `kB`.
fn split_unit(unit: &str) -> (f64, &str) {
    let digits = unit.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
    (unit[..digits].parse().unwrap_or(1.0), &unit[digits..])
}

fn byte_factor(unit: &str) -> f64 {
    match unit {
        "kB" => 1024.0,
        "MB" => 1024.0 * 1024.0,
        "GB" => 1024.0 * 1024.0 * 1024.0,
        _ => 1.0,
    }
}

fn ms_factor(unit: &str) -> f64 {
    match unit {
        "us" => 0.001,
        "s" => 1000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => 1.0,
    }
}

/// The largest unit of PostgreSQL's that leaves a whole number.
pub fn byte_text(bytes: f64) -> String {
    let whole = bytes as u64;
    for (unit, size) in [("TB", 1u64 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)] {
        if whole >= size && whole.is_multiple_of(size) {
            return format!("{}{unit}", whole / size);
        }
    }
    if whole >= 1024 { format!("{}kB", whole / 1024) } else { format!("{whole}B") }
}

fn time_text(ms: f64) -> String {
    for (unit, size) in [("d", 86_400_000.0), ("h", 3_600_000.0), ("min", 60_000.0), ("s", 1000.0)] {
        if ms >= size && ms % size == 0.0 {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(rows: &[(&str, &str, Option<&str>)]) -> Settings {
        let of = |(name, value, unit): &(&str, &str, Option<&str>)| {
            let (value, unit) = ((*value).to_owned(), unit.map(str::to_owned));
            ((*name).to_owned(), Setting { name: (*name).to_owned(), value, unit, ..Setting::default() })
        };
        Settings { by_name: rows.iter().map(of).collect() }
    }

    #[test]
    fn units_become_bytes_and_milliseconds() {
        let all = settings(&[
            ("shared_buffers", "16384", Some("8kB")),
            ("max_slot_wal_keep_size", "-1", Some("MB")),
            ("checkpoint_timeout", "300", Some("s")),
            ("wal_writer_delay", "200", Some("ms")),
            ("shared_preload_libraries", "pg_stat_statements, \"auto_explain\"", None),
        ]);
        assert_eq!(all.bytes("shared_buffers"), Some(128 << 20));
        assert_eq!(all.bytes("max_slot_wal_keep_size"), None);
        assert_eq!(all.milliseconds("checkpoint_timeout"), Some(300_000.0));
        assert_eq!(all.list("shared_preload_libraries").unwrap(), ["pg_stat_statements", "auto_explain"]);
        assert_eq!(all.get("shared_buffers").unwrap().shown(), "128MB");
        assert_eq!(all.get("checkpoint_timeout").unwrap().shown(), "5min");
        assert_eq!(all.get("wal_writer_delay").unwrap().shown(), "200ms");
    }
}
