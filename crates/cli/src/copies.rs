//! Where restored copies live, whose they are, and what all commands that make them have in common.

use crate::{
    args::Global,
    command::{backup::processors, restore},
    config::{Config, quantity::Span},
    failure::Failure,
    ledger,
    repository::RepoArgs,
};
use clap::Args;
use std::{
    io::Write,
    path::{Path, PathBuf},
};
use surus_core::code;
use surus_prove::{
    ProveError,
    engine::Surus,
    scratch::{Scratch, Swept},
};

/// The hidden command that ends a copy; its only argument is the copy's directory.
pub const KEEPER: &str = "copy-keeper";

/// Where copies are: a flag of every command that makes, lists or removes them.
#[derive(Debug, Clone, Args)]
pub struct ScratchArgs {
    /// The directory of all copies [default: scratch in surus.toml, else beside surus's own files:
    /// /var/lib/surus-copies for root, ~/.local/state/surus-copies for others]
    #[arg(long, value_name = "DIR", env = "SURUS_SCRATCH")]
    pub scratch: Option<PathBuf>,
}

impl ScratchArgs {
    /// The directory of all copies: the flag's, the configuration's, else the one beside surus's own files, which the
    /// server's account may enter where it may not enter those.
    pub fn open(&self, global: &Global, config: &Config) -> Result<Scratch, Failure> {
        if let Some(root) = self.scratch.as_deref().or(config.prove.scratch.as_deref()) {
            return Ok(Scratch::at(std::path::absolute(root).unwrap_or_else(|_| root.to_owned())));
        }
        let file = ledger::path(global, config)?;
        let own = file.parent().unwrap_or(Path::new("/var/lib/surus"));
        let own = std::path::absolute(own).unwrap_or_else(|_| own.to_owned());
        let mut name = own.file_name().unwrap_or_default().to_owned();
        name.push("-copies");
        Ok(Scratch::at(own.with_file_name(name)))
    }
}

/// The flags of every command that restores a copy from a repository of surus.
#[derive(Debug, Clone, Args)]
pub struct CopyArgs {
    /// The repository: a folder, s3://BUCKET/FOLDER, …, or its name in surus.toml [default: the only one there]
    #[arg(long, value_name = "PLACE", env = "SURUS_REPO")]
    pub repo: Option<String>,
    /// The key of an encrypted repository, by reference: file:/PATH or env:NAME
    #[arg(long, value_name = "REF", env = "SURUS_REPO_KEY")]
    pub repo_key: Option<String>,
    /// The cluster's system identifier, when the repository holds several
    #[arg(long, value_name = "N")]
    pub cluster: Option<u64>,
    #[command(flatten)]
    pub scratch: ScratchArgs,
    /// Threads that read, unpack and write [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// How long recovery may take
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = Span::parse)]
    pub recovery_timeout: Span,
}

impl CopyArgs {
    /// The repository that is meant.
    pub fn repository(&self, config: &Config) -> Result<RepoArgs, Failure> {
        let repo = match (&self.repo, config.repository.as_slice()) {
            (Some(repo), _) => repo.clone(),
            (None, [only]) => only.name.clone(),
            (None, _) => return Err(Failure::new(code::PROVE_ENGINE, "nothing was done: give --repo PLACE")),
        };
        Ok(RepoArgs { repo, key: self.repo_key.clone(), cluster: self.cluster })
    }

    /// The cluster in that repository.
    pub fn engine(&self, config: &Config) -> Result<Surus, Failure> {
        let repo = self.repository(config)?;
        let cluster = repo.open_cluster()?;
        let fetch = restore::fetch(&repo, cluster.names.system_identifier)?;
        Ok(Surus::new(cluster, fetch))
    }

    /// How many threads.
    pub fn jobs(&self) -> usize {
        self.jobs.map_or_else(processors, usize::from)
    }
}

/// Removes what is over, and says on standard error what was left by surus that were killed.
pub fn swept(scratch: &Scratch, quiet: bool) -> Result<(), Failure> {
    for one in scratch.sweep()? {
        if let Some(text) = sweep_text(&one).filter(|_| !quiet || one.trouble.is_some()) {
            // Nothing can be done about a closed standard error.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }
    Ok(())
}

fn sweep_text(one: &Swept) -> Option<String> {
    let made = one.made_at.strftime("%Y-%m-%d %H:%M:%S");
    let server = if one.server_stopped { ", its server stopped" } else { "" };
    Some(match &one.trouble {
        Some(why) => format!("warning: the copy of {} (made at {made}) could not be removed: {why}", one.what),
        None => format!("removed the copy of {} that was left from {made}{server}", one.what),
    })
}

/// The command that begins a keeper.
pub fn keeper() -> Result<Vec<String>, Failure> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| Failure::bug(format!("surus does not find itself: {error}")))?;
    Ok(vec![program.display().to_string(), KEEPER.to_owned()])
}

impl From<ProveError> for Failure {
    fn from(error: ProveError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
