//! What the configuration and the command line make of `surus serve`, and how two of them differ.

use crate::{
    args::{Global, ServeArgs},
    command::given,
    config::{
        BackupConfig, Config, DrillConfig, ObserveConfig, RemoteWriteConfig, RepositoryConfig, SamplesConfig,
        SecretRef, TargetConfig,
        quantity::{Size, Span},
    },
    failure::Failure,
    ledger,
};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use surus_check::options::CheckConfig;
use surus_core::{code, secret::Secret};
use surus_pg::Target;

/// A server to be watched.
#[derive(Clone)]
pub struct Watched {
    pub name: String,
    /// As it was given; it may hold a password.
    pub dsn: String,
    pub target: Target,
    pub cluster: Option<String>,
    pub heartbeat: Option<Duration>,
}

/// Another store that gets every sample, its secrets resolved.
#[derive(Debug, Clone)]
pub struct Remote {
    pub config: RemoteWriteConfig,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
}

/// What the samples may take where nobody said it: this much, or [`SHARE`] of a smaller file system.
const SAMPLES_AT_MOST: u64 = 10 << 30;
/// The part of the file system: one tenth.
const SHARE: u64 = 10;

/// How much the samples may take.
fn most(said: Option<Size>, data_dir: &Path) -> u64 {
    // The directory may not be there yet.
    let room = || data_dir.ancestors().find(|path| path.exists()).and_then(surus_pg::host::room);
    let default = || room().map_or(SAMPLES_AT_MOST, |room| usual(room.total_bytes));
    said.map_or_else(default, |size| size.0)
}

/// The limit on a file system of so many bytes; some say 0, which means that they do not know.
fn usual(total_bytes: u64) -> u64 {
    if total_bytes == 0 { SAMPLES_AT_MOST } else { (total_bytes / SHARE).min(SAMPLES_AT_MOST) }
}

/// Everything that `surus serve` needs to know, checked.
#[derive(Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub password: Option<Secret>,
    pub token: Option<Secret>,
    pub targets: Vec<Watched>,
    pub observe: ObserveConfig,
    pub samples: SamplesConfig,
    /// Bytes that the samples may take on disk, also where nobody said how many.
    pub samples_at_most: u64,
    pub remotes: Vec<Remote>,
    /// How often the checks run; none for never.
    pub check_every: Option<Duration>,
    pub check: CheckConfig,
    pub repositories: Vec<RepositoryConfig>,
    pub backups: Vec<BackupConfig>,
    pub drills: Vec<DrillConfig>,
    /// The configuration file, where there is one.
    pub config: Option<PathBuf>,
    /// What drills are run with, when it is not this very file.
    pub program: Option<PathBuf>,
}

impl Settings {
    /// Reads the configuration and resolves all references of it.
    pub fn read(global: &Global, args: &ServeArgs) -> Result<Self, Failure> {
        let config = Config::load(global.config.as_deref())?;
        let file = ledger::path(global, &config)?;
        let data_dir = file.parent().map(PathBuf::from).unwrap_or_default();
        let secret = |reference: &Option<SecretRef>, key: &str| {
            reference.as_ref().map(|reference| reference.resolve(key)).transpose()
        };
        let remote = |config: &RemoteWriteConfig| {
            let key = |key: &str| format!("remote_write \"{}\" {key}", config.name);
            let (password, token) =
                (secret(&config.password, &key("password"))?, secret(&config.token, &key("token"))?);
            Ok(Remote { config: config.clone(), password, token })
        };
        Ok(Self {
            listen: args.listen.unwrap_or(config.serve.listen),
            samples_at_most: most(config.samples.max_bytes, &data_dir),
            data_dir,
            password: secret(&config.serve.password, "serve.password")?,
            token: secret(&config.serve.token, "serve.token")?,
            targets: targets(args, &config)?,
            remotes: config.remote_write.iter().map(remote).collect::<Result<_, Failure>>()?,
            check_every: config.check_every().map_err(|why| Failure::new(code::CONFIG_SYNTAX, why))?,
            observe: config.observe,
            check: config.check,
            repositories: config.repository,
            backups: config.backup,
            drills: config.drill,
            config: Config::path(global.config.as_deref()),
            program: None,
            samples: config.samples,
        })
    }

    /// Every setting as a line of text, by its key. A secret shows as a fingerprint that changes with it.
    fn lines(&self) -> BTreeMap<String, String> {
        let mut lines = BTreeMap::new();
        let mut set = |key: &str, value: &dyn std::fmt::Display| lines.insert(key.to_owned(), value.to_string());
        set("serve.listen", &self.listen);
        set("data_dir", &self.data_dir.display());
        let (o, s) = (&self.observe, &self.samples);
        for (key, span) in [("activity", o.activity), ("counters", o.counters), ("detail", o.detail), ("slow", o.slow)]
        {
            set(&format!("observe.{key}"), &span);
        }
        set("observe.also", &o.also.join(", "));
        set("check.every", &self.check_every.map_or_else(|| "off".to_owned(), |every| Span(every).to_string()));
        set("samples.keep", &s.keep);
        set("samples.keep_long", &s.keep_long);
        set("samples.max_bytes", &self.samples_at_most);
        for watched in &self.targets {
            let cluster = watched.cluster.as_ref().map(|name| format!(", cluster {name}")).unwrap_or_default();
            let beat = watched.heartbeat.map(|every| format!(", heartbeat {}", Span(every))).unwrap_or_default();
            set(&format!("target {}", watched.name), &format!("{}{cluster}{beat}", watched.target.label()));
        }
        for one in &self.repositories {
            set(&format!("repository {}", one.name), &one.place);
        }
        for one in &self.backups {
            set(&format!("backup {} in {}", one.target, one.repository), &format!("{one:?}"));
        }
        for (number, one) in self.drills.iter().enumerate() {
            set(&format!("drill {} of {}", number + 1, one.target), &format!("{one:?}"));
        }
        for remote in &self.remotes {
            set(&format!("remote_write {}", remote.config.name), &remote.config.url);
        }
        lines
    }

    /// Keeps what cannot change while surus runs as it was; gives the keys that were to change.
    pub fn keep_fixed(&mut self, old: &Self) -> Vec<&'static str> {
        let all = [
            ("serve.listen", self.listen != old.listen),
            ("serve.password", self.password != old.password),
            ("serve.token", self.token != old.token),
            ("data_dir", self.data_dir != old.data_dir),
            ("samples", self.samples != old.samples),
        ];
        (self.listen, self.data_dir, self.samples) = (old.listen, old.data_dir.clone(), old.samples.clone());
        (self.password, self.token) = (old.password.clone(), old.token.clone());
        self.samples_at_most = old.samples_at_most;
        all.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// How the new settings differ, one line for each key.
    pub fn differences(&self, new: &Self) -> Vec<String> {
        let (old_lines, new_lines) = (self.lines(), new.lines());
        let gone = old_lines.iter().filter(|(key, _)| !new_lines.contains_key(*key));
        let mut all: Vec<String> = gone.map(|(key, value)| format!("- {key} = {value}")).collect();
        for (key, value) in &new_lines {
            match old_lines.get(key) {
                None => all.push(format!("+ {key} = {value}")),
                Some(old) if old != value => all.push(format!("~ {key} = {old} -> {value}")),
                Some(_) => {}
            }
        }
        // What has no text that may be shown, or more than a line of it.
        for (key, differs) in
            [("serve.password", self.password != new.password), ("serve.token", self.token != new.token)]
        {
            if differs {
                all.push(format!("~ {key} (a secret)"));
            }
        }
        if format!("{:?}", self.check) != format!("{:?}", new.check) && self.check_every == new.check_every {
            all.push("~ check (limits, suppressions or declarations)".to_owned());
        }
        for remote in &new.remotes {
            let before = self.remotes.iter().find(|old| old.config.name == remote.config.name);
            if before.is_some_and(|old| !old.same_but_for_url(remote)) {
                all.push(format!("~ remote_write {} (labels, headers or secrets)", remote.config.name));
            }
        }
        all
    }
}

impl Remote {
    fn same_but_for_url(&self, other: &Self) -> bool {
        let config = RemoteWriteConfig { url: other.config.url.clone(), ..self.config.clone() };
        config == other.config && self.password == other.password && self.token == other.token
    }
}

/// The targets of the command line, else those of the configuration, else what the environment says.
fn targets(args: &ServeArgs, config: &Config) -> Result<Vec<Watched>, Failure> {
    let from_file = args.targets.is_empty();
    let dsns: Vec<String> = match (from_file, config.target.is_empty()) {
        (false, _) => args.targets.clone(),
        (true, false) => config.target.iter().map(TargetConfig::resolved_dsn).collect::<Result<_, _>>()?,
        // What the environment says, if it says anything.
        (true, true) => vec![String::new()],
    };
    let given = given(&args.targets, config)?;
    let watched = given.into_iter().zip(dsns).enumerate().map(|(at, (given, dsn))| {
        let own = config.target.get(at).filter(|_| from_file);
        let cluster = own.and_then(|target| target.cluster.clone());
        let heartbeat = own.and_then(|target| target.heartbeat).map(|span| span.0);
        let wrong = |error: surus_pg::ConnectError| {
            let target = if from_file { "target " } else { "" };
            Failure::new(error.code, format!("{target}{}: {}", given.name, error.message))
        };
        let target = given.target.map_err(wrong)?;
        Ok(Watched { name: given.name, dsn, target, cluster, heartbeat })
    });
    let mut watched = watched.collect::<Result<Vec<_>, Failure>>()?;
    if config.target.is_empty() || !from_file {
        name_by_address(&mut watched);
    }
    Ok(watched)
}

/// Targets without a name of their own are named as a scrape would: `host:port`. Those of one server stay told apart.
fn name_by_address(watched: &mut [Watched]) {
    let address = |watched: &Watched| {
        let endpoints = &watched.target.settings().endpoints;
        let named = endpoints.iter().all(|endpoint| endpoint.name().is_some());
        named.then(|| endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    };
    let addresses: Vec<Option<String>> = watched.iter().map(address).collect();
    for (watched, address) in watched.iter_mut().zip(&addresses) {
        let only = addresses.iter().filter(|other| *other == address).count() == 1;
        if let Some(address) = address.as_ref().filter(|_| only) {
            watched.name.clone_from(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_of_the_command_line_are_named_by_their_address() {
        let of = |dsn: &str| Watched {
            name: "label".into(),
            dsn: dsn.into(),
            target: Target::parse(dsn).unwrap_or_else(|error| panic!("{error}")),
            cluster: None,
            heartbeat: None,
        };
        let mut all =
            ["host=a port=1 user=x", "host=b port=2 user=x dbname=p", "host=b port=2 user=x dbname=q"].map(of);
        name_by_address(&mut all);
        assert_eq!(all.map(|watched| watched.name), ["a:1", "label", "label"]);
    }
}
