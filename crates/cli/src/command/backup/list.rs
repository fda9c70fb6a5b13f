//! `surus backup list` and `surus backup info`: what a repository holds.

use crate::{
    args::{DataFormat, Global},
    failure::Failure,
    output::{json, print},
    paint::Paint,
    repository::RepoArgs,
};
use clap::Args;
use std::fmt::Write;
use surus_backup::{
    Cluster,
    catalogue::Catalogue,
    chain::Chain,
    manifest::{Changes, Method},
    wal::name::Segment,
};
use surus_core::{clock, code, size::Bytes, size::human_duration, version::Version};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup list --repo /srv/surus
  surus backup list --repo /srv/surus --format json

Exit status: 0 all can be restored · 1 a backup is damaged or lacks something, or there is none
  2 usage · 3 no repository · 4 it cannot be read")]
pub struct ListArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus backup info --repo /srv/surus                              the newest
  surus backup info --repo /srv/surus 20261122T003115Z-full")]
pub struct InfoArgs {
    #[command(flatten)]
    pub repo: RepoArgs,
    /// The backup [default: the newest]
    #[arg(value_name = "BACKUP")]
    pub label: Option<String>,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs `list`.
pub fn list(_: &Global, args: &ListArgs) -> Result<u8, Failure> {
    let repo = args.repo.open()?;
    let clusters = match args.repo.cluster {
        Some(_) => vec![args.repo.open_cluster()?],
        None => repo.clusters()?,
    };
    let mut all = Vec::new();
    for cluster in clusters {
        let catalogue = Catalogue::read(&cluster)?;
        all.push((cluster, catalogue));
    }
    match args.format {
        DataFormat::Json => {
            let value: Vec<_> = all.iter().map(|(cluster, catalogue)| as_json(cluster, catalogue)).collect();
            print(&json(&serde_json::json!({ "repository": repo.address(), "clusters": value }))?)?;
        }
        DataFormat::Text => {
            let mut out = String::new();
            all.iter().for_each(|(cluster, catalogue)| as_text(&mut out, cluster, catalogue));
            if all.is_empty() {
                let _ = writeln!(out, "{} holds nothing yet.", repo.address());
            }
            print(&out)?;
        }
    }
    let good = |catalogue: &Catalogue| {
        let some = catalogue.unreadable.is_empty() && !catalogue.backups.is_empty();
        some && catalogue.backups.iter().all(|one| catalogue.trouble(one).is_none())
    };
    let all_good = !all.is_empty() && all.iter().all(|(_, catalogue)| good(catalogue));
    Ok(u8::from(!all_good))
}

fn as_json(cluster: &Cluster, catalogue: &Catalogue) -> serde_json::Value {
    let backups = catalogue.backups.iter().map(|listed| {
        let mut value = serde_json::to_value(listed).unwrap_or_default();
        value["trouble"] = serde_json::json!(catalogue.trouble(listed));
        value
    });
    let wal = catalogue.wal.iter().map(|(timeline, wal)| {
        let name = |number: Option<&u64>| {
            number.map(|number| {
                Segment { timeline: *timeline, number: *number, size: catalogue.segment_size }.to_string()
            })
        };
        serde_json::json!({
            "timeline": timeline, "segments": wal.segments.len(), "stored": wal.stored,
            "first": name(wal.segments.first()), "last": name(wal.segments.last()),
        })
    });
    serde_json::json!({
        "system_identifier": cluster.names.system_identifier.to_string(),
        "backups": backups.collect::<Vec<_>>(),
        "unreadable": catalogue.unreadable,
        "begun": catalogue.begun,
        "wal": wal.collect::<Vec<_>>(),
    })
}

fn as_text(out: &mut String, cluster: &Cluster, catalogue: &Catalogue) {
    let _ = writeln!(out, "cluster {}", cluster.names.system_identifier);
    let now = clock::now();
    for listed in &catalogue.backups {
        let about = &listed.about;
        let age = human_duration(now.duration_since(about.stopped_at).unsigned_abs());
        let state = match catalogue.trouble(listed) {
            Some(why) => Paint::crit(why),
            None if !about.bad_pages.is_empty() => Paint::warn(format!("{} damaged pages", about.bad_pages.len())),
            None if listed.verified_at.is_some() => Paint::good("verified".to_owned()),
            None => Paint::faint("not verified".to_owned()),
        };
        let kept = listed.keep.as_ref().map_or_else(String::new, |keep| format!(" · kept: {}", keep.reason));
        let (size, stored) = (Bytes(about.size).to_string(), Bytes(about.stored).to_string());
        let _ = writeln!(out, "  {:<24} {age:>10} ago  {size:>9}, stored {stored:<9} {state}{kept}", about.label);
        if let Some(parent) = &about.parent {
            let _ = writeln!(out, "    {} {parent}", Paint::faint("builds on"));
        }
    }
    for (label, why) in &catalogue.unreadable {
        let _ = writeln!(out, "  {label:<24} {}", Paint::crit(why));
    }
    if catalogue.backups.is_empty() && catalogue.unreadable.is_empty() {
        let _ = writeln!(out, "  no backup; surus backup run takes one");
    }
    for begun in &catalogue.begun {
        let state = if begun.alive() { "is being taken" } else { "was broken off; the next one takes it over" };
        let _ = writeln!(out, "  {} {state} (process {} on {})", begun.label, begun.pid, begun.host);
    }
    for (timeline, wal) in &catalogue.wal {
        let (Some(first), Some(last)) = (wal.segments.first(), wal.segments.last()) else { continue };
        let name = |number: u64| Segment { timeline: *timeline, number, size: catalogue.segment_size };
        let gaps: u64 = catalogue.missing_between(wal, 0).iter().map(|(first, last)| last - first + 1).sum();
        let gap = if gaps == 0 { String::new() } else { format!(", {}", Paint::crit(format!("{gaps} missing"))) };
        let stored = Bytes(wal.stored);
        let count = wal.segments.len();
        let _ = writeln!(out, "  WAL {} to {}: {count} segments, {stored}{gap}", name(*first), name(*last));
    }
}

/// Runs `info`.
pub fn info(_: &Global, args: &InfoArgs) -> Result<u8, Failure> {
    let cluster = args.repo.open_cluster()?;
    let catalogue = Catalogue::read(&cluster)?;
    let newest = catalogue.backups.last().map(|listed| listed.about.label.clone());
    let Some(label) = args.label.clone().or(newest) else {
        return Err(Failure::new(code::BACKUP_UNKNOWN, "the repository holds no backup of this cluster"));
    };
    let Some(listed) = catalogue.find(&label) else {
        if let Some(why) = catalogue.unreadable.get(&label) {
            return Err(Failure::new(code::REPO_DAMAGED, format!("backup {label}: {why}")));
        }
        return Err(Failure::new(code::BACKUP_UNKNOWN, format!("there is no backup {label}")));
    };
    let chain = Chain::read(&cluster, &label)?;
    if args.format == DataFormat::Json {
        let mut value = serde_json::to_value(listed).unwrap_or_default();
        value["trouble"] = serde_json::json!(catalogue.trouble(listed));
        value["files"] = serde_json::json!(chain.newest().files.len());
        let labels: Vec<_> = chain.backups.iter().map(|one| &one.about.label).collect();
        value["chain"] = serde_json::json!(labels);
        return print(&json(&value)?).map(|()| 0);
    }
    let about = &listed.about;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{} {text}", Paint::faint(format!("{name:<13}")));
    };
    line("backup", about.label.clone());
    let labels: Vec<_> = chain.backups.iter().rev().skip(1).map(|one| one.about.label.as_str()).collect();
    line("builds on", if labels.is_empty() { "nothing: it is full".into() } else { labels.join(", ") });
    line(
        "server",
        format!("PostgreSQL {}, a {:?}", Version::from_num(about.server_version), about.origin).to_lowercase(),
    );
    line("taken", format!("{} to {} by the server's clock", about.started_at, about.stopped_at));
    let way = if about.method == Method::Local { "from the data directory" } else { "over the network" };
    let changes = match about.changes {
        Some(Changes::Summaries) => "; the server sent what changed by its WAL summaries",
        Some(Changes::Compared) => "; every block was compared with the backup before",
        None => "",
    };
    line("read", format!("{way}{changes}"));
    line("WAL", format!("{} to {} on timeline {}", about.start_lsn, about.stop_lsn, about.timeline));
    line("size", format!("{} in {} files", Bytes(about.size), chain.newest().files.len()));
    line("stored", format!("{} for {} of its own, with {}", Bytes(about.stored), Bytes(about.own), about.codec));
    let checksums = if about.checksums { "verified while reading" } else { "the cluster has none" };
    line("page sums", format!("{checksums}, {} damaged", about.bad_pages.len()));
    for space in &about.tablespaces {
        line("tablespace", format!("{} at {}", space.oid, space.path));
    }
    line("verified", listed.verified_at.map_or_else(|| "never; surus backup verify".into(), |at| at.to_string()));
    line("state", catalogue.trouble(listed).unwrap_or_else(|| "can be restored".into()));
    print(&out)?;
    Ok(u8::from(catalogue.trouble(listed).is_some()))
}
