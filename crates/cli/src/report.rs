//! `surus check` on a terminal: the score, the 14 items, the worst findings, and what could not be seen.

use crate::{paint::Paint, wrap};
use std::{collections::BTreeMap, fmt::Write};
use surus_check::report::{Report, TargetReport};
use surus_core::{
    finding::{Finding, Severity},
    plan::{Interruption, Lock, Plan},
    readiness::{ItemState, State},
};

/// How many findings are shown when not all are asked for.
const WORST: usize = 12;
/// Findings of one check beyond this many are counted, not listed.
const PER_CHECK: usize = 3;

/// The whole report as text with styles.
pub fn text(report: &Report, all: bool, quiet: bool) -> String {
    let mut out = String::new();
    for target in &report.targets {
        target_text(&mut out, target, all, quiet);
    }
    let seconds = report.duration_ms / 1000.0;
    let targets = report.targets.len();
    let queries: usize = report.targets.iter().map(|target| target.queries.len()).sum();
    let line =
        format!("surus {} · {targets} target{} · {queries} queries · {seconds:.1} s", report.surus, plural(targets));
    line_of(&mut out, &Paint::faint(line).to_string());
    out
}

fn target_text(out: &mut String, target: &TargetReport, all: bool, quiet: bool) {
    let role = match (&target.version, target.role) {
        (Some(version), Some(role)) => format!("PostgreSQL {version}, {role}"),
        _ => "not reached".to_owned(),
    };
    line_of(out, &format!("{}  {}", Paint::strong(&target.name), Paint::faint(role)));
    if let Some(error) = &target.error {
        line_of(out, &format!("  {} {}", Paint::crit(error.code), error.message));
        line_of(out, &format!("  {} {}\n", Paint::faint("next:"), error.next));
        return;
    }
    score(out, target);
    findings(out, target, all);
    unseen(out, target, all);
    if !quiet {
        hints(out, target);
    }
    out.push('\n');
}

fn line_of(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn score(out: &mut String, target: &TargetReport) {
    let score = usize::from(target.readiness.score);
    let filled = score * 30 / 100;
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(30 - filled));
    line_of(out, &format!("\n{} {}  {bar}", Paint::strong("Readiness"), Paint::strong(format!("{score} of 100"))));
    for item in &target.readiness.items {
        line_of(out, &item_line(item));
    }
}

fn item_line(item: &ItemState) -> String {
    let sign = match item.state {
        State::Proven => "●",
        State::Configured => "◐",
        State::Missing => "○",
        State::Unknown => "?",
    };
    let state = Paint::state(item.state, format!("{sign} {:<10}", item.state.word()));
    let why = wrap::shortened(&item.why, wrap::width().saturating_sub(50));
    format!("  {state} {:>2} {:<32} {}", item.id, item.title, Paint::faint(why))
}

fn findings(out: &mut String, target: &TargetReport, all: bool) {
    let count = |severity| target.findings.iter().filter(|finding| finding.severity == severity).count();
    let (crit, warn, info) = (count(Severity::Crit), count(Severity::Warn), count(Severity::Info));
    let heading = format!("{}  {crit} crit · {warn} warn · {info} info", Paint::strong("Findings"));
    line_of(out, &format!("\n{heading}  {}", Paint::faint(format!("{} checks ok", target.ok.len()))));
    if target.findings.is_empty() {
        line_of(out, "  nothing to complain about in what could be seen");
    }
    let mut shown_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut shown = 0;
    for finding in &target.findings {
        let of_check = shown_of.entry(finding.id.as_str()).or_default();
        if !all && (shown == WORST || *of_check == PER_CHECK) {
            continue;
        }
        *of_check += 1;
        shown += 1;
        one_finding(out, finding, all);
    }
    if shown < target.findings.len() {
        let rest = target.findings.len() - shown;
        line_of(out, &format!("  {}", Paint::faint(format!("… and {rest} more; show all: --all"))));
    }
    if !target.on_primary_too.is_empty() {
        let text = format!(
            "{} more are about what replication copies; they stand above, at the primary",
            target.on_primary_too.len()
        );
        line_of(out, &format!("  {}", Paint::faint(text)));
    }
    if !target.suppressed.is_empty() {
        let text = format!("{} suppressed by the configuration", target.suppressed.len());
        line_of(out, &format!("  {}", Paint::faint(text)));
    }
}

fn one_finding(out: &mut String, finding: &Finding, all: bool) {
    let word = Paint::severity(finding.severity, format!("{:<4}", finding.severity.word()));
    line_of(out, &format!("  {word} {}  {}", finding.title, Paint::faint(&finding.key)));
    let width = wrap::width() - 7;
    let mut indented = |text: &str| {
        for line in wrap::lines(text, width) {
            line_of(out, &format!("       {line}"));
        }
    };
    if all || finding.severity == Severity::Crit {
        indented(&finding.detail);
    }
    if all && !finding.evidence.is_empty() {
        let seen: Vec<_> = finding.evidence.iter().map(|one| format!("{} {}", one.name, one.shown())).collect();
        indented(&format!("saw: {}", seen.join(" · ")));
    }
    if let Some(plan) = &finding.fix {
        let text = wrap::shortened(&fix_line(plan), if all { usize::MAX } else { width - 5 });
        line_of(out, &format!("       {} {text}", Paint::good("fix:")));
    }
}

/// The fix in one line: what it does, and what it costs.
pub fn fix_line(plan: &Plan) -> String {
    let mut line = plan.summary.clone();
    let cost = cost(plan.strongest_lock(), plan.worst_interruption());
    if plan.is_applicable() && !cost.is_empty() {
        let _ = write!(line, " ({cost})");
    }
    line
}

/// Lock and interruption in words; empty when there is neither.
pub fn cost(lock: Lock, interruption: Interruption) -> String {
    let lock = (lock > Lock::AccessShare).then(|| lock.name().to_owned());
    let stop = match interruption {
        Interruption::None => None,
        Interruption::Reload => Some("reload".to_owned()),
        Interruption::Rewrite => Some("rewrites the table".to_owned()),
        Interruption::Restart => Some("needs a restart".to_owned()),
    };
    [lock, stop].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn unseen(out: &mut String, target: &TargetReport, all: bool) {
    if target.unknown.is_empty() {
        return;
    }
    let mut kinds: BTreeMap<&str, Vec<&surus_check::report::Unknown>> = BTreeMap::new();
    for unknown in &target.unknown {
        kinds.entry(unknown.reason.kind()).or_default().push(unknown);
    }
    let checks: std::collections::BTreeSet<_> = target.unknown.iter().map(|unknown| unknown.id).collect();
    line_of(out, &format!("\n{}  {} checks", Paint::strong("Could not be seen"), checks.len()));
    for (kind, list) in kinds {
        if all {
            by_reason(out, kind, &list);
            continue;
        }
        let mut ids: Vec<_> = list.iter().map(|unknown| unknown.id).collect();
        ids.dedup();
        let names = wrap::shortened(&ids.join(", "), wrap::width().saturating_sub(20));
        line_of(out, &format!("  {kind:<11} {:>3}  {}", ids.len(), Paint::faint(names)));
    }
}

/// Each reason once, with the checks that it blinds.
fn by_reason(out: &mut String, kind: &str, list: &[&surus_check::report::Unknown]) {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for unknown in list {
        let part = if unknown.object.is_empty() { String::new() } else { format!(" ({})", unknown.object) };
        let place =
            if unknown.databases.is_empty() { String::new() } else { format!(" in {}", unknown.databases.join(", ")) };
        reasons.entry(unknown.reason.text()).or_default().push(format!("{}{part}{place}", unknown.id));
    }
    for (reason, checks) in reasons {
        for (at, line) in
            wrap::lines(&format!("{reason}: {}", checks.join(", ")), wrap::width() - 15).iter().enumerate()
        {
            let kind = if at == 0 { kind } else { "" };
            line_of(out, &format!("  {kind:<11}  {line}"));
        }
    }
}

fn hints(out: &mut String, target: &TargetReport) {
    let fixable = target.findings.iter().any(|finding| finding.fix.as_ref().is_some_and(Plan::is_applicable));
    let first = target.findings.first().map(|finding| finding.id.as_str());
    let mut hints = Vec::new();
    if fixable {
        hints.push("surus fix <DSN>".to_owned());
    }
    if let Some(id) = first {
        hints.push(format!("surus check explain {id}"));
    }
    if !hints.is_empty() {
        let commands: Vec<_> = hints.iter().map(|hint| Paint::code(hint).to_string()).collect();
        line_of(out, &format!("\n{} {}", Paint::faint("next:"), commands.join("   ")));
    }
}
