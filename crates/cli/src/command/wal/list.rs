//! `surus wal list`: what WAL is in the archive, and what is missing.

use crate::{
    args::DataFormat,
    failure::Failure,
    output::{json, print},
    paint::Paint,
    repository::RepoArgs,
};
use clap::Args;
use std::fmt::Write;
use surus_backup::{
    Cluster,
    wal::{
        gaps::{self, Gap, TimelineWal},
        hole::{self, HoleNote},
        survey::survey,
    },
};
use surus_core::code;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus wal list --repo /srv/surus
  surus wal list --repo /srv/surus --format json

Exit status: 0 nothing is missing · 1 there is a gap · 2 usage · 3 there is no repository · 4 it cannot be read")]
pub struct ListArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// What is known of one cluster's WAL.
struct Seen {
    cluster: Cluster,
    timelines: Vec<TimelineWal>,
    holes: Vec<HoleNote>,
}

/// Runs the command.
pub fn run(args: &ListArgs) -> Result<u8, Failure> {
    let repo = args.repo.open()?;
    let clusters = match args.repo.cluster {
        Some(_) => vec![repo.choose(args.repo.cluster)?],
        None => repo.clusters()?,
    };
    let mut all = Vec::new();
    for cluster in clusters {
        let timelines = gaps::look(&survey(&cluster)?);
        all.push(Seen { holes: hole::list(&cluster)?, cluster, timelines });
    }
    match args.format {
        DataFormat::Json => print(&json(&all.iter().map(as_json).collect::<Vec<_>>())?)?,
        DataFormat::Text if all.is_empty() => print("there is no WAL yet\n")?,
        DataFormat::Text => print(&all.iter().map(as_text).collect::<String>())?,
    }
    let whole = all.iter().flat_map(|seen| &seen.timelines).all(|timeline| timeline.gaps.is_empty());
    Ok(if whole { 0 } else { code::WAL_GAP.exit as u8 })
}

fn as_json(seen: &Seen) -> serde_json::Value {
    serde_json::json!({
        "system_identifier": seen.cluster.names.system_identifier, "timelines": seen.timelines, "holes": seen.holes,
    })
}

fn as_text(seen: &Seen) -> String {
    let mut out = format!("cluster {}\n", seen.cluster.names.system_identifier);
    for timeline in &seen.timelines {
        let from = match (timeline.parent, timeline.switched_at) {
            (Some(parent), Some(at)) => format!(", from timeline {parent} at {at}"),
            _ => String::new(),
        };
        let _ = match (timeline.first, timeline.last) {
            (Some(first), Some(last)) => {
                writeln!(out, "  timeline {}{from}: {first} to {last}, {} segments", timeline.timeline, timeline.count)
            }
            _ => writeln!(out, "  timeline {}{from}: no segment", timeline.timeline),
        };
        timeline.gaps.iter().for_each(|gap| gap_as_text(gap, &mut out));
    }
    for hole in &seen.holes {
        let _ = writeln!(out, "  {} was given up at {:.0}", hole.segment, hole.given_up_at);
    }
    out
}

fn gap_as_text(gap: &Gap, out: &mut String) {
    let names = match gap.count {
        1 => format!("{} is missing", gap.range.first),
        count => format!("{} to {}, {count} segments, are missing", gap.range.first, gap.range.last),
    };
    let _ = write!(out, "    {} {names}", Paint::crit("gap"));
    if gap.given_up {
        out.push_str(", given up by --queue-max");
    }
    for label in &gap.breaks {
        let _ = write!(out, "; backup {label} cannot be restored");
    }
    out.push('\n');
}
