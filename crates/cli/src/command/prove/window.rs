//! `surus prove window`: which moments can be restored, and which cannot.

use super::engine::{self, Meant};
use crate::{
    args::DataFormat,
    config::Config,
    failure::Failure,
    output::{json, print},
    paint::Paint,
    wrap,
};
use clap::Args;
use jiff::Timestamp;
use serde_json::json as value;
use std::fmt::Write;
use surus_core::code;
use surus_prove::{
    engine::{Engine, Survey},
    window::{self, Line, Stretch, Window},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  surus prove window --repo /srv/surus
  surus prove window --stanza main                 pgBackRest's; --server pg Barman's; --dir DIR --wal DIR
  surus prove window --format json

It reads names and sizes only; that what is there is whole shows surus prove restore.

Exit status: 0 every moment since the oldest backup can be restored · 1 there are holes · 2 usage · 3 there is no such
  repository · 4 it cannot be read")]
pub struct WindowArgs {
    #[command(flatten)]
    pub of: Meant,
    #[arg(long, value_enum, default_value_t = DataFormat::Text)]
    pub format: DataFormat,
}

/// Runs the command.
pub async fn run(args: WindowArgs) -> Result<u8, Failure> {
    let config = Config::load(None)?;
    let engine = engine::open(&args.of, &config).await?;
    let (survey, window) = tokio::task::block_in_place(|| -> Result<_, Failure> {
        let survey = engine.survey()?;
        let window = window::look(&survey, &engine.archive()?);
        Ok((survey, window))
    })?;
    match args.format {
        DataFormat::Json => print(&json(&value!({
            "engine": engine.kind(), "address": engine.address(), "whole": window.is_whole(), "window": window,
            "survey": survey,
        }))?)?,
        DataFormat::Text => print(&text(engine.as_ref(), &survey, &window))?,
    }
    Ok(if window.is_whole() { 0 } else { code::WAL_GAP.exit as u8 })
}

fn text(engine: &dyn Engine, survey: &Survey, window: &Window) -> String {
    let of = survey.system_identifier.map(|id| format!(", cluster {id}")).unwrap_or_default();
    let mut out = format!("{}{of}\n", Paint::strong(format!("{} at {}", engine.kind(), engine.address())));
    if window.lines.is_empty() {
        let _ = writeln!(out, "  {} there is no backup: no moment can be restored", Paint::crit("✗"));
    }
    for line in &window.lines {
        let from = match (line.parent, line.switched_at) {
            (Some(parent), Some(at)) => format!(", from timeline {parent} at {at}"),
            _ => String::new(),
        };
        let _ = writeln!(out, "  timeline {}{from}", line.timeline);
        if let Some(bar) = bar(line, wrap::width().saturating_sub(8)) {
            let _ = writeln!(out, "    {bar}");
        }
        line.stretches.iter().for_each(|stretch| stretch_text(stretch, &mut out));
    }
    for (label, why) in &window.lost {
        let _ = writeln!(out, "  {} backup {label}: {why}", Paint::crit("✗"));
    }
    for trouble in &window.troubles {
        let _ = writeln!(out, "  {} {trouble}", Paint::crit("✗"));
    }
    for note in &survey.notes {
        let _ = writeln!(out, "  {} {note}", Paint::faint("note:"));
    }
    out
}

fn stretch_text(stretch: &Stretch, out: &mut String) {
    let time = |time: Option<Timestamp>| time.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let lsn = |lsn: Option<surus_core::lsn::Lsn>| lsn.map(|lsn| lsn.to_string());
    let place = |at: Option<Timestamp>, position| time(at).or(lsn(position)).unwrap_or_else(|| "?".into());
    let (from, to) = (place(stretch.from_time, stretch.from), place(stretch.to_time, stretch.to));
    let range = match stretch.from == stretch.to && stretch.from_time == stretch.to_time {
        true => from,
        false => format!("{from} to {to}"),
    };
    let wal = match (stretch.from, stretch.to) {
        (Some(from), Some(to)) if from != to => format!("  ({from} to {to})"),
        _ => String::new(),
    };
    let _ = match &stretch.why {
        None => {
            let newest = stretch.backups.last().map_or("", String::as_str);
            let more = stretch.backups.len().saturating_sub(1);
            let more = if more == 0 { String::new() } else { format!(" and {more} older") };
            writeln!(out, "    {} {range}{}, from {newest}{more}", Paint::good("✓"), Paint::faint(wal))
        }
        Some(why) => writeln!(out, "    {} {range}{}: {why}", Paint::crit("✗"), Paint::faint(wal)),
    };
}

/// The window as a bar: by time where all times are known, else by the length of WAL.
fn bar(line: &Line, width: usize) -> Option<String> {
    let ends: Vec<(f64, f64, bool)> = line
        .stretches
        .iter()
        .map(|one| Some((seconds(one.from_time)?, seconds(one.to_time)?, one.is_reached())))
        .collect::<Option<Vec<_>>>()
        .filter(|all| all.windows(2).all(|two| two[0].0 <= two[1].0))
        .or_else(|| {
            let each = line.stretches.iter();
            each.map(|one| Some((one.from?.0 as f64, one.to?.0 as f64, one.is_reached()))).collect()
        })?;
    let (first, last) = (ends.first()?.0, ends.last()?.1);
    if last <= first {
        return None;
    }
    let cell = (last - first) / width as f64;
    let mut bar = String::new();
    let mut run: Option<(bool, usize)> = None;
    let mut flush = |run: Option<(bool, usize)>| match run {
        Some((true, cells)) => {
            let _ = write!(bar, "{}", Paint::good("█".repeat(cells)));
        }
        Some((false, cells)) => {
            let _ = write!(bar, "{}", Paint::crit("░".repeat(cells)));
        }
        None => {}
    };
    for number in 0..width {
        let (from, to) = (first + cell * number as f64, first + cell * (number + 1) as f64);
        // A hole shows, however short it is.
        let holed = ends.iter().any(|(begin, end, reached)| !reached && *begin < to && *end > from);
        run = match run {
            Some((whole, cells)) if whole != holed => Some((whole, cells + 1)),
            other => {
                flush(other);
                Some((!holed, 1))
            }
        };
    }
    flush(run);
    Some(bar)
}

fn seconds(time: Option<Timestamp>) -> Option<f64> {
    time.map(|time| time.as_millisecond() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use surus_core::lsn::Lsn;

    #[test]
    fn a_hole_shows_in_the_bar_however_short_it_is() {
        let stretch = |from: u64, to: u64, why: Option<&str>| Stretch {
            from: Some(Lsn(from)),
            to: Some(Lsn(to)),
            from_time: None,
            to_time: None,
            backups: Vec::new(),
            why: why.map(str::to_owned),
        };
        let line = Line {
            timeline: 1,
            parent: None,
            switched_at: None,
            stretches: vec![stretch(0, 500, None), stretch(500, 501, Some("gone")), stretch(501, 1000, None)],
        };
        let shown: String = bar(&line, 10).unwrap().chars().filter(|c| "█░".contains(*c)).collect();
        assert_eq!(shown, "█████░████");
        let none = Line { stretches: vec![stretch(5, 5, None)], ..line };
        assert_eq!(bar(&none, 10), None);
    }
}
