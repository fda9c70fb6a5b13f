//! `surus.toml` and `conf.d/*.toml` beside it: unknown keys are errors that point at the line.

mod backup;
mod drill;
mod files;
mod prove;
pub mod quantity;
mod repository;
mod secret_ref;
mod watch;

pub use backup::BackupConfig;
pub use drill::DrillConfig;
pub use prove::{InvariantConfig, ProveConfig};
pub use repository::RepositoryConfig;
pub use secret_ref::SecretRef;
pub use watch::{ObserveConfig, RemoteWriteConfig, SamplesConfig, ServeConfig};

use crate::failure::Failure;
use files::Part;
use quantity::Span;
use serde::Deserialize;
use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};
use surus_check::options::CheckConfig;
use surus_core::code;

/// Every key with its meaning and default; what `surus config explain` prints.
pub const REFERENCE: &str = include_str!("reference.toml");

/// The file of `--config`, for the whole process.
static NAMED: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Checks cost the server more than watching it does.
const CHECK_AT_MOST_EVERY: Duration = Duration::from_secs(10);

/// A row that is written more often would say no more.
const HEARTBEAT_LEAST: Duration = Duration::from_secs(1);

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to look at.
    pub target: Vec<TargetConfig>,
    pub check: CheckConfig,
    /// Where surus keeps its own files; the default depends on the user.
    pub data_dir: Option<PathBuf>,
    pub serve: ServeConfig,
    pub observe: ObserveConfig,
    pub samples: SamplesConfig,
    pub remote_write: Vec<RemoteWriteConfig>,
    /// Where backups and WAL are kept.
    pub repository: Vec<RepositoryConfig>,
    /// When backups are taken.
    pub backup: Vec<BackupConfig>,
    /// Restored copies.
    pub prove: ProveConfig,
    /// What is replaced in clones.
    pub mask: Vec<surus_prove::mask::Rule>,
    /// What clones must answer.
    pub rehearsal: Vec<surus_prove::clone::Rehearsal>,
    /// What must hold in them.
    pub invariant: Vec<InvariantConfig>,
    /// When restores are drilled.
    pub drill: Vec<DrillConfig>,
}

/// A `[[target]]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// How it is named in reports.
    pub name: String,
    /// A connection string; passwords belong into ~/.pgpass, or `env:NAME` stands for the whole string.
    pub dsn: String,
    /// The label `cluster` of its series; a name that the nodes of one cluster share.
    pub cluster: Option<String>,
    /// How often `surus serve` writes a heartbeat row on it; without it, never.
    pub heartbeat: Option<Span>,
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
    /// Remembers the file of `--config` for those who do not see the command line's common flags, as `--repo NAME`.
    pub fn remember(named: Option<&Path>) {
        // Set once, at the start.
        let _ = NAMED.set(named.map(Path::to_owned));
    }

    /// The file that was named, else `surus.toml` here or in /etc/surus when there is one.
    pub fn path(named: Option<&Path>) -> Option<PathBuf> {
        let usual = ["surus.toml", "/etc/surus/surus.toml"].map(PathBuf::from);
        let named = named.or_else(|| NAMED.get()?.as_deref());
        named.map(Path::to_owned).or_else(|| usual.into_iter().find(|path| path.is_file()))
    }

    /// Reads the file of [`Config::path`] and those of `conf.d/` beside it; without one, the defaults hold.
    pub fn load(named: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = Self::path(named) else { return Ok(Self::default()) };
        let unreadable = |path: &Path, error: std::io::Error| {
            Failure::new(code::CONFIG_READ, format!("{}: {error}", path.display()))
        };
        let wrong = |message: String| Failure::new(code::CONFIG_SYNTAX, message);
        let mut paths = vec![path.clone()];
        paths.extend(files::beside(&path).map_err(|error| unreadable(&path.with_file_name("conf.d"), error))?);
        let mut parts = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let part = Part::parse(&path, &text);
            parts.push(part.map_err(|message| wrong(format!("{}: {message}", path.display())))?);
        }
        files::merged(parts).map_err(wrong)
    }

    /// How often `surus serve` runs the checks; none for never.
    ///
    /// # Errors
    /// When `check.every` is no such duration.
    pub fn check_every(&self) -> Result<Option<Duration>, String> {
        let wrong = |why: &str| format!("check.every: {why}");
        match self.check.every.as_deref() {
            None => Ok(Some(Duration::from_secs(3600))),
            Some("off") => Ok(None),
            Some(text) => match Span::parse(text).map_err(|why| wrong(&why))?.0 {
                span if span < CHECK_AT_MOST_EVERY => Err(wrong("it must be at least 10s, or off")),
                span => Ok(Some(span)),
            },
        }
    }

    /// What is wrong although every key is known.
    fn judge(&self) -> Result<(), String> {
        if let Some(bad) = self.check.ignore.iter().find(|ignore| ignore.reason.trim().is_empty()) {
            return Err(format!("check.ignore \"{}\" has no reason; say why it is fine", bad.key));
        }
        let known = |id: &&String| surus_check::catalogue::find(id).is_none();
        if let Some(bad) = self.check.thresholds.keys().find(known) {
            return Err(format!("check.thresholds names \"{bad}\", which is no check; list them: surus check list"));
        }
        for (id, levels) in &self.check.thresholds {
            let own = surus_check::catalogue::find(id).map_or(&[][..], |check| check.thresholds);
            if let Some(name) = levels.keys().find(|name| !own.iter().any(|threshold| threshold.name == **name)) {
                let names: Vec<_> = own.iter().map(|threshold| threshold.name).collect();
                return Err(format!("check.thresholds.\"{id}\" has no limit \"{name}\"; it has: {}", names.join(", ")));
            }
        }
        if let Some(bad) = self.target.iter().find(|one| one.heartbeat.is_some_and(|every| every.0 < HEARTBEAT_LEAST)) {
            return Err(format!("heartbeat of target \"{}\" must be at least 1s", bad.name));
        }
        unique("targets", self.target.iter().map(|target| target.name.as_str()))?;
        unique("remote_write", self.remote_write.iter().map(|remote| remote.name.as_str()))?;
        unique("repositories", self.repository.iter().map(|repository| repository.name.as_str()))?;
        self.check_every()?;
        self.observe.judge()?;
        self.repository.iter().try_for_each(RepositoryConfig::judge)?;
        let targets: Vec<_> = self.target.iter().map(|target| target.name.as_str()).collect();
        let repositories: Vec<_> = self.repository.iter().map(|repository| repository.name.as_str()).collect();
        self.backup.iter().try_for_each(|backup| backup.judge(&targets, &repositories))?;
        self.prove.judge()?;
        self.drill.iter().try_for_each(|drill| drill.judge(&targets, &repositories))?;
        unique("invariants", self.invariant.iter().map(|invariant| invariant.name.as_str()))?;
        self.invariant.iter().try_for_each(|invariant| invariant.judge(&targets))?;
        self.remote_write.iter().try_for_each(RemoteWriteConfig::judge)
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if name.trim().is_empty() {
            return Err(format!("one of the {what} has an empty name"));
        }
        if !seen.insert(name) {
            return Err(format!("two {what} are named \"{name}\""));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        files::merged(vec![Part::parse(Path::new("surus.toml"), text)?])
    }

    #[test]
    fn reads_targets_suppressions_and_limits() {
        let text = "[[target]]\nname = 'main'\ndsn = 'host=/tmp'\n[check]\nignore = [{ key = 'idx.unused', reason = 'year end' }]\n\
                    [check.thresholds.'conn.saturation']\nused = { warn = 60 }\n";
        let config = parse(text).unwrap();
        assert_eq!(config.target[0].name, "main");
        assert_eq!(config.check.thresholds["conn.saturation"]["used"].warn, Some(60.0));
    }

    #[test]
    fn the_reference_is_valid_and_changes_nothing() {
        let reference = parse(REFERENCE).unwrap();
        let defaults = Config::default();
        assert_eq!(reference.check.declared, defaults.check.declared);
        assert_eq!(reference.check_every(), defaults.check_every());
        assert_eq!(reference.prove, defaults.prove);
        assert_eq!((&reference.serve, &reference.observe), (&defaults.serve, &defaults.observe));
        assert_eq!((&reference.samples, &reference.remote_write), (&defaults.samples, &defaults.remote_write));
        assert!(
            reference.check.ignore.is_empty() && reference.check.thresholds.is_empty() && reference.target.is_empty()
        );
        // With its examples switched on it must be valid too.
        let examples = REFERENCE.lines().map(|line| match line.strip_prefix("# ") {
            Some(key) if key.starts_with(['[', '"']) || key.contains(" = ") && !key.ends_with('.') => key,
            _ => line,
        });
        let text: Vec<&str> = examples.filter(|line| *line != "ignore = []").collect();
        let config = parse(&text.join("\n")).unwrap();
        assert_eq!(
            (config.target.len(), config.check.ignore.len(), config.check.declared.rpo_seconds),
            (1, 1, Some(300.0))
        );
        assert_eq!((config.remote_write.len(), config.samples.max_bytes.is_some()), (1, true));
        assert_eq!((config.repository.len(), config.backup.len(), config.invariant.len()), (2, 1, 1));
        assert_eq!((config.mask.len(), config.rehearsal.len()), (1, 1));
        assert_eq!(config.drill.len(), 1);
        assert!(config.prove.scratch.is_some() && config.target[0].heartbeat.is_some());
        assert!(config.serve.password.is_some() && config.serve.token.is_some());
    }

    #[test]
    fn the_checks_of_serve_run_now_and_then_or_never() {
        let every = |text: &str| parse(&format!("[check]\nevery = '{text}'\n"));
        assert_eq!(every("15m").unwrap().check_every(), Ok(Some(Duration::from_secs(900))));
        assert_eq!(every("off").unwrap().check_every(), Ok(None));
        assert!(every("1s").unwrap_err().contains("at least 10s") && every("never").is_err());
    }

    #[test]
    fn refuses_unknown_keys_and_silent_suppressions() {
        let unknown = parse("[check]\nignroe = []\n").unwrap_err();
        assert!(unknown.contains("line 2") && unknown.contains("ignroe"), "{unknown}");
        assert!(parse("[check]\nignore = [{ key = 'x', reason = ' ' }]\n").unwrap_err().contains("no reason"));
        assert!(parse("[check.thresholds.'no.such']\nx = { warn = 1 }\n").unwrap_err().contains("no check"));
        assert!(
            parse("[check.thresholds.'conn.saturation']\nx = { warn = 1 }\n").unwrap_err().contains("it has: used")
        );
    }
}
