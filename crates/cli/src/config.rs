//! `surus.toml`: one file, unknown keys are errors that point at the line.

use crate::failure::Failure;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use surus_check::options::CheckConfig;
use surus_core::code;

/// Every key with its meaning and default; what `surus config explain` prints.
pub const REFERENCE: &str = include_str!("reference.toml");

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to look at.
    pub target: Vec<TargetConfig>,
    pub check: CheckConfig,
    /// Where surus keeps its own file; the default depends on the user.
    pub data_dir: Option<PathBuf>,
}

/// A `[[target]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// How it is named in reports.
    pub name: String,
    /// A connection string; passwords belong into ~/.pgpass, or `env:NAME` stands for the whole string.
    pub dsn: String,
}

impl TargetConfig {
    /// The connection string, with a reference resolved.
    pub fn resolved_dsn(&self) -> Result<String, Failure> {
        let absent = |what: &str| Failure::new(code::CONFIG_TARGET, format!("target {}: {what}", self.name));
        if let Some(name) = self.dsn.strip_prefix("env:") {
            return std::env::var(name).map_err(|_| absent(&format!("the environment has no {name}")));
        }
        match self.dsn.strip_prefix("file:") {
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Ok(text.trim().to_owned()),
                Err(error) => Err(absent(&format!("{path}: {error}"))),
            },
            None => Ok(self.dsn.clone()),
        }
    }
}

impl Config {
    /// The file that was named, else `surus.toml` here or in /etc/surus when there is one.
    pub fn path(named: Option<&Path>) -> Option<PathBuf> {
        let usual = ["surus.toml", "/etc/surus/surus.toml"].map(PathBuf::from);
        named.map(Path::to_owned).or_else(|| usual.into_iter().find(|path| path.is_file()))
    }

    /// Reads the file of [`Config::path`]; without one, the defaults hold.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = Self::path(named) else { return Ok(Self::default()) };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(code::CONFIG_READ, format!("{}: {error}", path.display())))?;
        Self::parse(&text)
            .map_err(|message| Failure::new(code::CONFIG_SYNTAX, format!("{}: {message}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        if let Some(bad) = config.check.ignore.iter().find(|ignore| ignore.reason.trim().is_empty()) {
            return Err(format!("check.ignore \"{}\" has no reason; say why it is fine", bad.key));
        }
        let known = |id: &&String| surus_check::catalogue::find(id).is_none();
        if let Some(bad) = config.check.thresholds.keys().find(known) {
            return Err(format!("check.thresholds names \"{bad}\", which is no check; list them: surus check list"));
        }
        for (id, levels) in &config.check.thresholds {
            let own = surus_check::catalogue::find(id).map_or(&[][..], |check| check.thresholds);
            if let Some(name) = levels.keys().find(|name| !own.iter().any(|threshold| threshold.name == **name)) {
                let names: Vec<_> = own.iter().map(|threshold| threshold.name).collect();
                return Err(format!("check.thresholds.\"{id}\" has no limit \"{name}\"; it has: {}", names.join(", ")));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_targets_suppressions_and_limits() {
        let text = "[[target]]\nname = 'main'\ndsn = 'host=/tmp'\n[check]\nignore = [{ key = 'idx.unused', reason = 'year end' }]\n\
                    [check.thresholds.'conn.saturation']\nused = { warn = 60 }\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.target[0].name, "main");
        assert_eq!(config.check.thresholds["conn.saturation"]["used"].warn, Some(60.0));
    }

    #[test]
    fn the_reference_is_valid_and_changes_nothing() {
        let reference = Config::parse(REFERENCE).unwrap();
        let defaults = Config::default();
        assert_eq!(reference.check.declared, defaults.check.declared);
        assert!(
            reference.check.ignore.is_empty() && reference.check.thresholds.is_empty() && reference.target.is_empty()
        );
        // With its examples switched on it must be valid too.
        let examples = REFERENCE.lines().map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with(['[', '"']) || key.contains(" = ") && !key.ends_with('.') => key,
            _ => line,
        });
        let text: Vec<&str> = examples.filter(|line| *line != "ignore = []").collect();
        let config = Config::parse(&text.join("\n")).unwrap();
        assert_eq!(
            (config.target.len(), config.check.ignore.len(), config.check.declared.rpo_seconds),
            (1, 1, Some(300.0))
        );
    }

    #[test]
    fn refuses_unknown_keys_and_silent_suppressions() {
        let unknown = Config::parse("[check]\nignroe = []\n").unwrap_err();
        assert!(unknown.contains("line 2") && unknown.contains("ignroe"), "{unknown}");
        assert!(Config::parse("[check]\nignore = [{ key = 'x', reason = ' ' }]\n").unwrap_err().contains("no reason"));
        assert!(Config::parse("[check.thresholds.'no.such']\nx = { warn = 1 }\n").unwrap_err().contains("no check"));
        assert!(
            Config::parse("[check.thresholds.'conn.saturation']\nx = { warn = 1 }\n")
                .unwrap_err()
                .contains("it has: used")
        );
    }
}
