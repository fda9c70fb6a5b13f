//! Whose backups are meant: the one place where the command line becomes an engine.

use crate::{command::restore, config::Config, failure::Failure, repository::RepoArgs};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use surus_core::code;
use surus_pg::{Manners, Target};
use surus_prove::engine::{self, Engine, Kind, Surus, Wish};

/// Whose backups: a target's or a repository's, or those of another tool.
#[derive(Debug, Clone, Args)]
pub struct Meant {
    /// A target of surus.toml: its repository, its invariants, its heartbeat
    #[arg(value_name = "TARGET")]
    pub name: Option<String>,
    /// The repository: a folder, s3://BUCKET/FOLDER, …, or its name in surus.toml [default: the target's, or the only one]
    #[arg(long, value_name = "PLACE", env = "SURUS_REPO")]
    pub repo: Option<String>,
    /// The key of an encrypted repository, by reference: file:/PATH or env:NAME
    #[arg(long = "repo-key", alias = "key", value_name = "REF", env = "SURUS_REPO_KEY")]
    pub key: Option<String>,
    /// The cluster's system identifier, when the repository holds several
    #[arg(long, value_name = "N")]
    pub cluster: Option<u64>,
    #[command(flatten)]
    pub other: OtherArgs,
}

/// Backups that another tool made.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Backups of other tools")]
pub struct OtherArgs {
    /// The tool that made them, where its options below do not tell
    #[arg(long, value_name = "TOOL", value_enum)]
    pub engine: Option<Tool>,
    /// pgBackRest's stanza [default: the only one of its configuration]
    #[arg(long, value_name = "NAME")]
    pub stanza: Option<String>,
    /// Barman's name of the server [default: the only one of its configuration]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
    /// The tool's own configuration, where it is not at its usual place
    #[arg(long, value_name = "FILE")]
    pub engine_config: Option<PathBuf>,
    /// What pg_basebackup made, plain or tar, or a directory of such directories
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The WAL archive that goes with --dir
    #[arg(long, value_name = "DIR", requires = "dir")]
    pub wal: Option<PathBuf>,
    /// What pg_dump or pg_dumpall made; may be given several times, like the globals and one for each database
    #[arg(long, value_name = "FILE")]
    pub dump: Vec<PathBuf>,
    /// The server that a dump is of: what it has and the dump lacks is named
    #[arg(long, value_name = "DSN", requires = "dump")]
    pub compare: Option<String>,
}

/// The tools whose backups can be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    Pgbackrest,
    Barman,
    #[value(name = "wal-g")]
    WalG,
    Basebackup,
    Dump,
}

impl OtherArgs {
    /// Was anything said of other tools?
    pub fn is_given(&self) -> bool {
        self.wish().is_some()
    }

    /// None when nothing was said of other tools.
    fn wish(&self) -> Option<Wish> {
        let kind = self.engine.map(|tool| match tool {
            Tool::Pgbackrest => Kind::Pgbackrest,
            Tool::Barman => Kind::Barman,
            Tool::WalG => Kind::WalG,
            Tool::Basebackup => Kind::Basebackup,
            Tool::Dump => Kind::Dump,
        });
        let wish = Wish {
            kind,
            stanza: self.stanza.clone(),
            server: self.server.clone(),
            config: self.engine_config.clone(),
            dir: self.dir.clone(),
            wal: self.wal.clone(),
            dumps: self.dump.clone(),
            compare: self.compare.clone(),
        };
        (wish != Wish::default()).then_some(wish)
    }
}

/// Which tool, and where its backups are, in words, for when they cannot be opened; none when that is not clear.
pub fn described(args: &Meant, config: &Config) -> Option<(Kind, String)> {
    match args.other.wish() {
        Some(wish) => Some((wish.kind()?, wish.address()?)),
        None => {
            let name = repository_name(args, config)?;
            let named = config.repository.iter().find(|one| one.name == name);
            let address = named.and_then(|one| one.address().ok()).map(|address| address.to_string());
            Some((Kind::Surus, address.unwrap_or(name)))
        }
    }
}

/// Opens what the command line, else the configuration, else this machine's files of other tools name.
pub async fn open(args: &Meant, config: &Config) -> Result<Box<dyn Engine>, Failure> {
    let nothing = || args.repo.is_none() && args.name.is_none() && config.repository.is_empty();
    if let Some(wish) = args.other.wish().or_else(|| nothing().then(Wish::default)) {
        return Ok(tokio::task::block_in_place(|| engine::open(&wish))?);
    }
    let repo = repository(args, config).await?;
    let cluster = tokio::task::block_in_place(|| repo.open_cluster())?;
    let fetch = restore::fetch(&repo, cluster.names.system_identifier)?;
    Ok(Box::new(Surus::new(cluster, fetch)))
}

/// The repository of surus, with its cluster.
async fn repository(args: &Meant, config: &Config) -> Result<RepoArgs, Failure> {
    let Some(repo) = repository_name(args, config) else {
        let text = "nothing was restored: give --repo PLACE, or --engine with its options";
        return Err(Failure::new(code::PROVE_ENGINE, text));
    };
    let mut repo = RepoArgs { repo, key: args.key.clone(), cluster: args.cluster };
    if repo.cluster.is_none()
        && let Some(named) = args.name.as_ref().and_then(|name| config.target.iter().find(|one| one.name == *name))
        && tokio::task::block_in_place(|| repo.open())?.clusters()?.len() > 1
    {
        // Several clusters are in there: the running one says which it is.
        repo.cluster = Some(identifier(&named.resolved_dsn()?).await?);
    }
    Ok(repo)
}

/// The repository of surus that is meant: the flag's, that of the target's backups, or the only one there is.
pub fn repository_name(args: &Meant, config: &Config) -> Option<String> {
    let of_target = || {
        let target = args.name.as_ref()?;
        config.backup.iter().find(|backup| backup.target == *target).map(|backup| backup.repository.clone())
    };
    let only = || match config.repository.as_slice() {
        [only] => Some(only.name.clone()),
        _ => None,
    };
    args.repo.clone().or_else(of_target).or_else(only)
}

async fn identifier(dsn: &str) -> Result<u64, Failure> {
    let odd =
        |text: String| Failure::new(code::REPO_CLUSTER, format!("nothing was restored: {text}; give --cluster N"));
    let session = Target::parse(dsn)?.connect(&Manners::looking()).await?;
    let sql = "SELECT system_identifier::text AS id FROM pg_control_system()";
    let rows = session.ask(sql).await.map_err(|error| odd(error.to_string()))?;
    let id = rows.first().and_then(|row| row.text("id")).map_err(|error| odd(error.to_string()))?;
    session.close().await;
    id.parse().map_err(|_| odd(format!("{id:?} is no system identifier")))
}
