//! A drill as a person reads it.

use crate::{paint::Paint, wrap};
use std::{fmt::Write, time::Duration};
use surus_core::{
    proof::Outcome,
    size::{human_duration, human_seconds},
};
use surus_prove::{
    drill::{Report, State, Step, looked_at},
    engine::Engine,
};

/// Where the results begin.
const INDENT: usize = 20;

/// What is drilled.
pub fn head(engine: &dyn Engine, subject: &str) -> String {
    let place = format!("{} at {}", engine.kind(), engine.address());
    let of = if subject == engine.address() { String::new() } else { format!(" of {subject}") };
    format!("{}\n", Paint::strong(format!("Restore drill{of}: {place}")))
}

/// A step that is done.
pub fn step(step: &Step) -> String {
    let mut out = String::new();
    let mark = match step.state {
        State::Passed => Paint::good("✓").to_string(),
        State::Failed => Paint::crit("✗").to_string(),
        State::Unknown => Paint::warn("?").to_string(),
    };
    let took = human_duration(Duration::from_secs_f64(step.duration_ms.max(0.0) / 1000.0));
    let width = wrap::width().saturating_sub(INDENT + 12).max(30);
    let mut lines = wrap::lines(&step.result, width).into_iter();
    let first = lines.next().unwrap_or_default();
    let pad = " ".repeat(width.saturating_sub(first.chars().count()));
    let _ = writeln!(out, "  {mark} {:<16}{first}{pad} {}", step.title(), Paint::faint(format!("{took:>9}")));
    for line in lines {
        let _ = writeln!(out, "{:INDENT$}{line}", "");
    }
    for line in &step.evidence {
        for (at, part) in wrap::lines(line, width).into_iter().enumerate() {
            let bullet = if at == 0 { "· " } else { "  " };
            let _ = writeln!(out, "{:INDENT$}{}", "", Paint::faint(format!("{bullet}{part}")));
        }
    }
    if let Some(advice) = &step.advice {
        for (at, part) in wrap::lines(advice, width).into_iter().enumerate() {
            let arrow = if at == 0 { "→ " } else { "  " };
            let _ = writeln!(out, "{:INDENT$}{arrow}{part}", "");
        }
    }
    out
}

/// What came of it all.
pub fn verdict(report: &Report, entries: &[i64]) -> String {
    let mut out = String::from("\n");
    let took = report.finished_at.duration_since(report.started_at).unsigned_abs();
    if report.outcome == Outcome::Passed {
        let _ = writeln!(out, "{} backup {} comes back, up to {}", Paint::good("PROVEN"), report.backup, report.target);
    } else {
        let what = match report.backup.as_str() {
            "" => "no backup could be looked at".to_owned(),
            label => format!("backup {label}"),
        };
        let _ = writeln!(out, "{} {what}", Paint::crit("FAILED"));
    }
    let mut row = |name: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {name:<8}{text}");
        }
    };
    row("RTO", report.rto_text().unwrap_or_default());
    row("RPO", report.rpo_text().unwrap_or_default());
    row("looked", looked_at(&report.measured));
    let blind: Vec<String> = report
        .steps
        .iter()
        .filter(|step| step.state == State::Unknown)
        .map(|step| format!("{}: {}", step.title(), step.result))
        .collect();
    row("unknown", blind.join("; "));
    let numbers: Vec<String> = entries.iter().map(ToString::to_string).collect();
    let noun = if numbers.len() == 1 { "entry" } else { "entries" };
    if !numbers.is_empty() {
        row("ledger", format!("{noun} {}: surus proof show {}", numbers.join(", "), numbers[0]));
    }
    row("took", format!("{}, {}", human_seconds(took.as_secs_f64()), report.limits));
    out
}
