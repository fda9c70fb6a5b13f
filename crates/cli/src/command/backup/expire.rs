//! `surus backup expire` and `surus backup keep`: what stays and what goes.

use crate::{
    args::{DataFormat, Global},
    config::quantity::Span,
    failure::Failure,
    output::{json, print},
    paint::Paint,
    progress,
    repository::RepoArgs,
};
use clap::{ArgGroup, Args};
use std::fmt::Write;
use surus_backup::{
    catalogue::Keep,
    expire::{
        Expired, carry_out, decide,
        plan::{Plan, Retention, Why},
    },
};
use surus_core::{clock, code, size::Bytes};

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("rule").required(true).multiple(true).args(["full", "age", "window"]))]
#[command(after_help = "\
Examples:
  surus backup expire --repo /srv/surus --window 14d --dry-run    what would go
  surus backup expire --repo /srv/surus --full 2 --window 14d     a backup stays when any rule wants it

The newest full backup, the newest verified one, kept ones, what others build on and what a backup that is being taken
builds on never go.")]
pub struct ExpireArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Keep this many full backups, with what builds on them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub full: Option<u16>,
    /// Keep backups that are younger
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub age: Option<Span>,
    /// Keep what is needed to go back to any moment of this long
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub window: Option<Span>,
    /// Only show what would go
    #[arg(long)]
    pub dry_run: bool,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup keep --repo /srv/surus 20261122T003115Z-full --reason 'audit 2026'
  surus backup keep --repo /srv/surus 20261122T003115Z-full --release")]
pub struct KeepArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub label: String,
    /// Why it is kept
    #[arg(long, value_name = "TEXT", default_value = "asked for")]
    pub reason: String,
    /// For how long [default: for good]
    #[arg(long = "for", value_name = "TIME", value_parser = Span::parse)]
    pub span: Option<Span>,
    /// Keep it no longer than the retention does
    #[arg(long, conflicts_with_all = ["reason", "span"])]
    pub release: bool,
}

/// Runs `expire`.
pub fn expire(global: &Global, args: &ExpireArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    let retention = Retention {
        full: args.full.map(usize::from),
        age: args.age.map(|span| span.0),
        window: args.window.map(|span| span.0),
    };
    let (catalogue, plan) = decide(&cluster, retention)?;
    let done = match args.dry_run {
        true => None,
        false => {
            let monitor = progress::monitor(global.quiet || args.format == DataFormat::Json);
            Some(carry_out(&cluster, &catalogue, &plan, monitor.as_ref())?)
        }
    };
    match args.format {
        DataFormat::Json => {
            let segments: Vec<_> = plan.segments.iter().map(ToString::to_string).collect();
            print(&json(&serde_json::json!({ "plan": plan, "segments": segments, "done": done }))?)?;
        }
        DataFormat::Text => print(&as_text(&plan, done.as_ref()))?,
    }
    Ok(0)
}

fn as_text(plan: &Plan, done: Option<&Expired>) -> String {
    let mut out = String::new();
    for (label, why) in &plan.stay {
        let why = match why {
            Why::Wanted => "the retention wants it",
            Why::Needed => "another one builds on it",
            Why::Kept => "it is marked to be kept",
            Why::InProgress => "a backup that is being taken builds on it",
            Why::Last => "it is the newest, or the newest that was verified",
        };
        let _ = writeln!(out, "{}  {label:<24} {}", Paint::good("stays"), Paint::faint(why));
    }
    let verb = if done.is_some() { "gone" } else { "goes" };
    for label in &plan.backups {
        let _ = writeln!(out, "{}   {label}", Paint::warn(verb));
    }
    if let (Some(from), count @ 1..) = (&plan.wal_from, plan.segments.len()) {
        let _ = writeln!(out, "{}   {count} WAL segments before {from}", Paint::warn(verb));
    }
    match done {
        None => {
            let _ = writeln!(out, "Nothing was removed; leave out --dry-run to do it.");
        }
        Some(expired) => {
            for label in &expired.leftovers {
                let _ = writeln!(out, "{}   what {label} left, which was broken off", Paint::warn(verb));
            }
            let _ = writeln!(out, "about {} freed", Bytes(expired.bytes));
        }
    }
    out
}

/// Runs `keep`.
pub fn keep(_: &Global, args: &KeepArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    if surus_backup::catalogue::read_about(&cluster, &args.label)?.is_none() {
        return Err(Failure::new(code::BACKUP_UNKNOWN, format!("there is no backup {}", args.label)));
    }
    if args.release {
        cluster.release(&args.label)?;
        return print(&format!("{} stays as long as the retention wants it\n", args.label)).map(|()| 0);
    }
    let now = clock::now();
    let until = args.span.and_then(|span| now.checked_add(span.0).ok());
    cluster.keep(&args.label, &Keep { reason: args.reason.clone(), since: now, until })?;
    let end = until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {until}"));
    print(&format!("{} is kept {end}\n", args.label)).map(|()| 0)
}
