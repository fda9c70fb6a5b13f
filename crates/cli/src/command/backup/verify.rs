//! `surus backup verify`: reads what is in the repository and says what is wrong with it.

use crate::{
    args::{DataFormat, Global},
    config::quantity::Span,
    failure::Failure,
    output::{json, print},
    paint::Paint,
    progress,
    repository::RepoArgs,
};
use clap::Args;
use std::{collections::BTreeSet, fmt::Write, time::Duration};
use surus_backup::{
    catalogue::Catalogue,
    verify::{Fault, Verdict, VerifyOptions, verify_backup, verify_wal},
};
use surus_core::{code, size::Bytes};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup verify --repo /srv/surus                    what is new since the last time
  surus backup verify --repo /srv/surus --again            everything, once more
  surus backup verify --repo /srv/surus --older-than 30d   also what was last read longer ago

Exit status: 0 all is whole · 1 something is damaged or missing · 4 something could not be read")]
pub struct VerifyArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// Only this backup, with those it builds on
    #[arg(value_name = "BACKUP")]
    pub label: Option<String>,
    /// Read everything, whatever was verified before
    #[arg(long, conflicts_with = "older_than")]
    pub again: bool,
    /// Read again what was last read longer ago than this
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = Span::parse)]
    pub older_than: Span,
    /// Threads that read [default: the processors, at most 4]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs the command.
pub fn run(global: &Global, args: &VerifyArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    let catalogue = Catalogue::read(&cluster)?;
    let options = VerifyOptions {
        workers: args.jobs.map_or_else(super::processors, usize::from),
        again_after: if args.again { Duration::ZERO } else { args.older_than.0 },
    };
    let monitor = progress::monitor(global.quiet || args.format == DataFormat::Json);
    let mut verdicts = Vec::new();
    for label in wanted(&catalogue, args.label.as_deref())? {
        verdicts.push(verify_backup(&cluster, &catalogue, &label, options, monitor.as_ref())?);
    }
    verdicts.push(verify_wal(&cluster, options, monitor.as_ref())?);
    match args.format {
        DataFormat::Json => print(&json(&verdicts)?)?,
        DataFormat::Text => print(&as_text(&verdicts))?,
    }
    let faults = || verdicts.iter().flat_map(|verdict| &verdict.faults);
    let unread = faults().all(|fault| matches!(fault, Fault::Unread { .. }));
    Ok(match faults().next() {
        None => 0,
        Some(_) if unread => code::REPO_UNREACHABLE.exit as u8,
        Some(_) => 1,
    })
}

/// The labels to verify, those that others build on first.
fn wanted(catalogue: &Catalogue, label: Option<&str>) -> Result<Vec<String>, Failure> {
    let Some(label) = label else {
        let read = catalogue.backups.iter().map(|listed| listed.about.label.clone());
        return Ok(catalogue.unreadable.keys().cloned().chain(read).collect());
    };
    let mut labels = Vec::new();
    let mut next = Some(label.to_owned());
    while let Some(label) = next.take().filter(|label| !labels.contains(label)) {
        let Some(listed) = catalogue.find(&label) else {
            if catalogue.unreadable.contains_key(&label) {
                labels.push(label);
                break;
            }
            return Err(Failure::new(code::BACKUP_UNKNOWN, format!("there is no backup {label}")));
        };
        next.clone_from(&listed.about.parent);
        labels.push(label);
    }
    labels.reverse();
    Ok(labels)
}

fn as_text(verdicts: &[Verdict]) -> String {
    let mut out = String::new();
    let mut named = BTreeSet::new();
    for verdict in verdicts {
        let what = verdict.backup.clone().unwrap_or_else(|| "WAL".into());
        let state = if verdict.good() { Paint::good("whole") } else { Paint::crit("not whole") };
        let (read, remembered) = (verdict.read, verdict.remembered);
        let bytes = Bytes(verdict.bytes);
        let _ = writeln!(out, "{what:<24} {state}: {read} objects read ({bytes}), {remembered} read before");
        for fault in &verdict.faults {
            named.insert(what.clone());
            let _ = writeln!(out, "  {}", fault_text(fault));
        }
    }
    if !named.is_empty() {
        let _ = writeln!(out, "Take a new full backup now: surus backup run --full");
    }
    out
}

fn fault_text(fault: &Fault) -> String {
    let of = |files: &[String]| match files {
        [] => String::new(),
        some => format!(" (blocks of {} …)", some.join(", ")),
    };
    match fault {
        Fault::Damaged { object, damage, files } => {
            format!("{} {object}: {damage}{}", Paint::crit("damaged"), of(files))
        }
        Fault::Missing { object, files } => format!("{} {object}{}", Paint::crit("missing"), of(files)),
        Fault::MissingWal { segment } => {
            format!("{} WAL segment {segment}, without which it is no backup", Paint::crit("missing"))
        }
        Fault::Unread { object, problem } => format!("{} {object}: {problem}", Paint::warn("unknown")),
    }
}
