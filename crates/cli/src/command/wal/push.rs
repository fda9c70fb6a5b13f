//! `surus wal push`: archives a file of pg_wal.

use super::agent;
use crate::{args::size, failure::Failure, repository::RepoArgs};
use clap::Args;
use std::{
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    thread,
};
use surus_backup::{
    BackupError, Repo,
    repo::codec::Codec,
    wal::{
        agent::{
            Home,
            words::{Answer, refusal},
        },
        hole::{self, Marked},
        name::{FileKind, Segment, file_kind},
        owner::cluster_of,
        push::Archiver,
        ready::{has_backlog, waiting_segments},
    },
};
use surus_core::{code, size::Bytes};

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
In postgresql.conf:
  archive_mode = on
  archive_command = 'surus wal push --repo /srv/surus %p'

It succeeds only when the file is durable in the repository under its own name, or was there already with the same
content. Another file of that name is never replaced. With more segments waiting, an agent that it starts archives the
next ones in parallel; the agent ends by itself. The repository must be there: surus backup init makes one. Until then
each try fails, and the server keeps its WAL.

Exit status: 0 archived, or given up as --queue-max says · 2 usage · 3 the file is not what its name says, or there is
  no repository · 4 not archived")]
pub struct PushArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The file: %p in archive_command
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Compression: none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "METHOD", default_value = "zstd:1", value_parser = |text: &str| text.parse::<Codec>())]
    pub compress: Codec,
    /// Threads that compress [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Segments that the agent archives before the server asks for them, at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub ahead: u16,
    /// Give a segment up when more WAL than this waits, so that the server's disk does not fill: it is marked as a
    /// hole, and only a backup that begins later leads beyond it
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub queue_max: Option<u64>,
    /// Do without the agent
    #[arg(long)]
    pub no_agent: bool,
}

/// Runs the command; the number is the exit status.
pub fn run(args: &PushArgs) -> Result<u8, Failure> {
    let name = args.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pg_wal = args.pg_wal()?;
    let is_segment = file_kind(name) == Some(FileKind::Segment);
    if is_segment && give_up(args, name, &pg_wal)? {
        return Ok(0);
    }
    // Where no agent can be, the work is done without one.
    let home = args.home(&pg_wal).ok().filter(|_| is_segment && !args.no_agent);
    if let Some(home) = &home {
        match surus_backup::wal::agent::ask(home, name) {
            Some(Answer::Archived) => return Ok(0),
            // It opened the repository some time ago: which one is there now, and with which rights, is asked here.
            Some(Answer::Refused { code, .. }) if of_the_repository(&code) => {}
            Some(Answer::Refused { code, text }) => return Err(refusal(&code, text).into()),
            Some(Answer::Pass | Answer::Ready { .. }) => {}
            None if has_backlog(&pg_wal, name) => agent::start(home),
            None => {}
        }
    }
    let archiver = args.archiver()?;
    archiver.push_file(&args.path, args.threads())?;
    bring_holes(args, archiver.repo(), &pg_wal);
    Ok(0)
}

impl PushArgs {
    /// The directory of the file, in full.
    pub fn pg_wal(&self) -> Result<PathBuf, Failure> {
        let path = std::path::absolute(&self.path).map_err(BackupError::file("cannot find", &self.path))?;
        Ok(path.parent().unwrap_or(Path::new("/")).to_owned())
    }

    /// Where the agent for this command is.
    pub fn home(&self, pg_wal: &Path) -> Result<Home, Failure> {
        let options = format!("{} {:?} {} {:?}", self.compress, self.jobs, self.ahead, self.repo);
        let folder = std::path::absolute(&self.repo.repo).map(PathBuf::into_os_string).unwrap_or_default();
        let words = [OsString::from("push"), pg_wal.as_os_str().to_owned(), folder, options.into()];
        Ok(Home::of(&words.each_ref().map(OsString::as_os_str))?)
    }

    /// Opens the repository and finds out whose WAL it is.
    pub fn archiver(&self) -> Result<Archiver, Failure> {
        let cluster = cluster_of(&self.path, self.repo.cluster)?;
        Ok(Archiver::new(self.repo.open()?, cluster, self.compress))
    }

    /// How many threads compress.
    pub fn threads(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(2, usize::from).min(4);
        self.jobs.map_or_else(processors, usize::from)
    }
}

/// Is it about the repository, or how it was opened, and not about the file?
fn of_the_repository(id: &str) -> bool {
    let codes = [
        code::REPO_ADDRESS,
        code::REPO_ABSENT,
        code::REPO_FOREIGN,
        code::REPO_NEWER,
        code::REPO_UNREACHABLE,
        code::REPO_DENIED,
        code::REPO_FULL,
        code::REPO_BROKEN,
        code::REPO_KEY,
        code::REPO_CLUSTER,
        code::CONFIG_READ,
        code::CONFIG_SYNTAX,
        code::CONFIG_TARGET,
    ];
    codes.iter().any(|code| code.id == id)
}

/// When more WAL waits than may: marks the segment as a hole, durably, and says so.
fn give_up(args: &PushArgs, name: &str, pg_wal: &Path) -> Result<bool, Failure> {
    let Some(allowed) = args.queue_max else { return Ok(false) };
    let about = fs::metadata(&args.path).map_err(BackupError::file("cannot read", &args.path))?;
    let waiting = waiting_segments(pg_wal).len() as u64 * about.len();
    let segment = Segment::parse(name, about.len().max(1).next_power_of_two().max(1 << 20));
    let Some(segment) = segment.filter(|_| waiting > allowed) else { return Ok(false) };
    let cluster = cluster_of(&args.path, args.repo.cluster)?;
    let repo = args.repo.open().ok();
    let cluster = cluster.and_then(|id| repo.as_ref().map(|repo| repo.cluster(id)));
    let marked = hole::mark(cluster.as_ref(), pg_wal, segment, waiting, allowed)?;
    let place = match marked {
        Marked::InRepository => "in the repository",
        Marked::Here => "beside it, for the repository cannot be reached",
    };
    let text = format!(
        "{name} was given up: {} of WAL wait and --queue-max allows {}. It is marked {place}; take a backup: \
         surus backup run",
        Bytes(waiting),
        Bytes(allowed)
    );
    // For the server's log. When it is closed there is nobody to tell, and the mark stands all the same.
    let _ = writeln!(std::io::stderr(), "warning[{}]: {text}", code::WAL_GAP);
    Ok(true)
}

/// Marks that could not be brought before. What cannot be brought now is brought the next time.
fn bring_holes(args: &PushArgs, repo: &Repo, pg_wal: &Path) {
    if let Ok(Some(id)) = cluster_of(&args.path, args.repo.cluster)
        && let Err(error) = hole::carry_over(&repo.cluster(id), pg_wal)
    {
        // As above.
        let _ = writeln!(std::io::stderr(), "warning[{}]: {error}", error.code());
    }
}
