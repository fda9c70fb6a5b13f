//! `surus backup run`: takes a backup.

use crate::{
    args::{DataFormat, Global},
    config::{Config, quantity::Span},
    failure::Failure,
    output::{json, print},
    paint::Paint,
    progress,
    repository::RepoArgs,
};
use clap::{Args, ValueEnum};
use std::{fmt::Write, sync::Arc};
use surus_backup::{
    hook,
    manifest::{BackupKind, Method},
    repo::codec::Codec,
    take::{TakeOptions, Taken, take},
};
use surus_core::{clock::Stopwatch, code, monitor::Monitor, size::Bytes};
use surus_pg::Target;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup run --repo /srv/surus postgresql://postgres@/shop    full the first time, then what changed
  surus backup run --repo /srv/surus --full \"$DSN\"                   all of it
  surus backup run --repo /srv/surus --throttle 50MB \"$DSN\"          at most 50 MB a second

What a backup that was broken off has stored is taken over.

Exit status: 0 complete · 1 complete, with damaged pages · 2 usage · 3 it cannot be taken now
  4 it was broken off; nothing counts as a backup")]
pub struct RunArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Connection string of the primary or of a standby, or the name of a target of surus.toml
    #[arg(value_name = "DSN")]
    pub dsn: String,
    /// All of it, whatever there is already
    #[arg(long, conflicts_with = "incremental")]
    pub full: bool,
    /// Only what changed since the newest backup
    #[arg(long)]
    pub incremental: bool,
    /// Compression: none, lz4, zstd or zstd:LEVEL
    #[arg(long, value_name = "METHOD", default_value = "zstd:3", value_parser = |text: &str| text.parse::<Codec>())]
    pub compress: Codec,
    /// Threads that read and compress [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Bytes read per second at most, e.g. 50MB
    #[arg(long, value_name = "SIZE", value_parser = crate::args::size)]
    pub throttle: Option<u64>,
    /// Let the server spread its checkpoint over time
    #[arg(long)]
    pub spread: bool,
    /// Read the files from the data directory, or over the network [default: from the directory where it is here]
    #[arg(long, value_enum)]
    pub method: Option<ReadMethod>,
    /// How long to wait at the end for WAL to come into the archive
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = Span::parse)]
    pub wal_timeout: Span,
    /// A command to run before; when it fails there is no backup
    #[arg(long, value_name = "COMMAND")]
    pub before: Option<String>,
    /// A command to run afterwards, also when the backup failed: SURUS_BACKUP_RESULT says complete or failed
    #[arg(long, value_name = "COMMAND")]
    pub after: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// How the files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadMethod {
    /// From the data directory, which must be on this machine
    Local,
    /// Over the replication protocol; the role needs REPLICATION
    Stream,
}

/// Runs the command.
pub async fn run(global: &Global, args: RunArgs) -> Result<u8, Failure> {
    let target = target(global, &args.dsn)?;
    let repo = tokio::task::block_in_place(|| args.repo.open_or_create())?;
    let kind = match (args.full, args.incremental) {
        (true, _) => Some(BackupKind::Full),
        (_, true) => Some(BackupKind::Incremental),
        _ => None,
    };
    let options = TakeOptions {
        kind,
        codec: args.compress,
        workers: args.jobs.map_or_else(super::processors, usize::from),
        throttle: args.throttle,
        fast: !args.spread,
        wal_within: args.wal_timeout.0,
        method: args.method.map(|method| match method {
            ReadMethod::Local => Method::Local,
            ReadMethod::Stream => Method::Stream,
        }),
        ..TakeOptions::default()
    };
    let monitor: Arc<dyn Monitor> = Arc::from(progress::monitor(global.quiet || args.format == DataFormat::Json));
    let watch = Stopwatch::start();
    let repository = ("SURUS_REPOSITORY", repo.address());
    if let Some(command) = &args.before {
        tokio::task::block_in_place(|| hook::run(command, std::slice::from_ref(&repository), hook::WITHIN))?;
    }
    let taken = take(&repo, &target, &options, &monitor).await;
    let after = args.after.as_ref().map_or(Ok(()), |command| {
        let label = taken.as_ref().map_or_else(|_| String::new(), |taken| taken.about.label.clone());
        let result = if taken.is_ok() { "complete" } else { "failed" };
        let about = [repository, ("SURUS_BACKUP", label), ("SURUS_BACKUP_RESULT", result.to_owned())];
        tokio::task::block_in_place(|| hook::run(command, &about, hook::WITHIN))
    });
    let taken = taken?;
    let seconds = watch.elapsed().as_secs_f64();
    match args.format {
        DataFormat::Json => print(&json(&as_json(&taken, seconds))?)?,
        DataFormat::Text => print(&as_text(&taken, seconds))?,
    }
    // The backup is complete and told; that the hook failed is told, too.
    after?;
    Ok(if taken.about.bad_pages.is_empty() { 0 } else { code::BACKUP_PAGES.exit as u8 })
}

/// The target: a name of the configuration, else a connection string.
fn target(global: &Global, text: &str) -> Result<Target, Failure> {
    if !text.contains(['=', '/', ':']) {
        let config = Config::load(global.config.as_deref())?;
        if let Some(named) = config.target.iter().find(|target| target.name == text) {
            return Ok(Target::parse(&named.resolved_dsn()?)?);
        }
    }
    Ok(Target::parse(text)?)
}

fn as_json(taken: &Taken, seconds: f64) -> serde_json::Value {
    serde_json::json!({
        "backup": taken.about, "files": taken.files, "taken_over_bytes": taken.taken_over,
        "segments_pushed": taken.segments_pushed, "received_bytes": taken.received, "seconds": seconds,
    })
}

fn as_text(taken: &Taken, seconds: f64) -> String {
    let about = &taken.about;
    let mut out = String::new();
    let kind = match &about.parent {
        None => "full backup".to_owned(),
        Some(parent) => format!("incremental backup on {parent}"),
    };
    let rate = Bytes((about.size as f64 / seconds.max(0.001)) as u64);
    let _ = writeln!(out, "{} {}: {kind} of {}", Paint::good("complete"), about.label, Bytes(about.size));
    let _ = writeln!(out, "  stored {} in {seconds:.1} s ({rate}/s), {} files", Bytes(about.stored), taken.files);
    let _ = writeln!(out, "  WAL {} to {} on timeline {}", about.start_lsn, about.stop_lsn, about.timeline);
    if taken.segments_pushed > 0 {
        let _ = writeln!(
            out,
            "  {} WAL segments were archived by this command: nobody else does it yet. For every moment after it, set\n  \
             archive_command = 'surus wal push --repo … %p', or run surus wal receive.",
            taken.segments_pushed
        );
    }
    for page in &about.bad_pages {
        let _ = writeln!(
            out,
            "  {} page {} of {} does not fit its checksum",
            Paint::crit("damaged"),
            page.block,
            page.path
        );
    }
    out
}
