//! `surus wal get`: brings a file back from the archive.

use super::{UNCERTAIN, agent};
use crate::{config::quantity::Span, failure::Failure, repository::RepoArgs};
use clap::{Args, ValueEnum};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use surus_backup::{
    BackupError, Cluster,
    wal::{
        agent::{Home, ask, words::Answer},
        fetch::{self, Spooled},
        name::{FileKind, file_kind},
        owner::cluster_of,
    },
};
use surus_core::code;

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
In postgresql.conf:
  restore_command = 'surus wal get --repo /srv/surus %f %p'

A server that is told that a file is not in the archive takes that for the end of its WAL: it opens for writing, without
what came later. So 1 is said only when the absence was proven; whatever is uncertain stops the recovery, which can be
started again. A standby that streams as well may go on instead: --on-uncertain absent.

Exit status: 0 the file is there, complete and verified · 1 it is proven not to be in the archive · 255 anything else")]
pub struct GetArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The file's name: %f in restore_command
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Where it is wanted: %p in restore_command
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// What to say when it is uncertain whether the file is there. With `absent`, a server without a primary to stream
    /// from can end its recovery too early: for standbys only
    #[arg(long, value_enum, value_name = "HOW", default_value_t = OnUncertain::Fatal)]
    pub on_uncertain: OnUncertain,
    /// How long to try again while it is uncertain
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = Span::parse)]
    pub patience: Span,
    /// Where a whole segment is not there, take the part of it that its timeline ended with
    #[arg(long)]
    pub partial: bool,
    /// Segments that the agent fetches before the server asks for them, at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub ahead: u16,
    /// Where the agent keeps them: on the filesystem of pg_wal [default: a hidden folder in pg_wal]
    #[arg(long, value_name = "DIR")]
    pub spool: Option<PathBuf>,
    /// Do without the agent
    #[arg(long)]
    pub no_agent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnUncertain {
    /// Stop the recovery
    Fatal,
    /// Say that the file is not there
    Absent,
}

/// Runs the command; the number is the exit status.
pub fn run(args: &GetArgs) -> u8 {
    match bring(args) {
        Ok(true) => 0,
        Ok(false) => code::WAL_ABSENT.exit as u8,
        Err(failure) => {
            failure.show();
            match args.on_uncertain {
                OnUncertain::Fatal => UNCERTAIN,
                OnUncertain::Absent => code::WAL_ABSENT.exit as u8,
            }
        }
    }
}

/// Brings the file; `false` when it is proven not to be there.
fn bring(args: &GetArgs) -> Result<bool, Failure> {
    let kind = file_kind(&args.name).ok_or_else(|| {
        BackupError::refused(code::WAL_NAME, format!("{:?} is not the name of a file of pg_wal", args.name))
    })?;
    let known = cluster_of(&args.path, args.repo.cluster)?;
    let home = args.home(known).ok().filter(|_| kind == FileKind::Segment && !args.no_agent);
    let answer = home.as_ref().and_then(|home| ask(home, &args.name));
    let unanswered = answer.is_none();
    if let (Some(Answer::Ready { path, hash }), Some(known)) = (answer, known)
        && fetch::hand_out(&Spooled { path, hash }, &args.name, known, &args.path)?
    {
        return Ok(true);
    }
    let patience = args.patience.0;
    let cluster = fetch::patiently(patience, || args.cluster(known))?;
    let mut found = fetch::look_patiently(&cluster, &args.name, patience)?;
    if found.is_none() && args.partial && kind == FileKind::Segment {
        found = fetch::look_patiently(&cluster, &format!("{}.partial", args.name), patience)?;
    }
    let Some(content) = found else { return Ok(false) };
    fetch::put(&content, &args.path)?;
    if let Some(home) = home.filter(|_| unanswered) {
        agent::start(&home);
    }
    Ok(true)
}

impl GetArgs {
    /// Where the agent for this command is.
    pub fn home(&self, cluster: Option<u64>) -> Result<Home, Failure> {
        let options = format!("{} {:?} {cluster:?}", self.ahead, self.repo);
        let folder = std::path::absolute(&self.repo.repo).map(PathBuf::into_os_string).unwrap_or_default();
        let spool = self.spool(Path::new("")).map(PathBuf::into_os_string)?;
        let words = [OsString::from("get"), spool, folder, options.into()];
        Ok(Home::of(&words.each_ref().map(OsString::as_os_str))?)
    }

    /// The spool of the agent with this name.
    pub fn spool(&self, key: &Path) -> Result<PathBuf, Failure> {
        let path = std::path::absolute(&self.path).map_err(BackupError::file("cannot find", &self.path))?;
        let mut name = OsString::from(".surus-spool-");
        name.push(key);
        Ok(match &self.spool {
            Some(folder) => std::path::absolute(folder).map_err(BackupError::file("cannot find", folder))?,
            None => path.parent().unwrap_or(Path::new("/")).to_owned(),
        }
        .join(name))
    }

    /// The cluster in the repository: the one that is known, or else the only one.
    pub fn cluster(&self, known: Option<u64>) -> surus_backup::Result<Cluster> {
        let repo = self.repo.open().map_err(|failure| BackupError::refused(failure.code, failure.message))?;
        match known {
            Some(id) => Ok(repo.cluster(id)),
            None => repo.choose(None),
        }
    }
}
