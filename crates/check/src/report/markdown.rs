//! The report as Markdown, for tickets and chats.

use super::{Report, TargetReport};
use std::fmt::Write;

/// The whole report. Writing to a String cannot fail, so results of `write!` are dropped.
pub fn page(report: &Report) -> String {
    let mut out = format!("# surus check, {}\n", report.started_at.strftime("%Y-%m-%d %H:%M UTC"));
    for target in &report.targets {
        one(&mut out, target);
    }
    out
}

fn one(out: &mut String, target: &TargetReport) {
    let _ = writeln!(out, "\n## {}\n", cell(&target.name));
    if let Some(error) = &target.error {
        let _ = writeln!(out, "**Could not be looked at** ({}): {} {}", error.code, cell(&error.message), error.next);
        return;
    }
    let version = target.version.as_deref().unwrap_or("?");
    let _ = writeln!(
        out,
        "PostgreSQL {version}, {}. Readiness **{} of 100**.\n",
        target.role.unwrap_or("?"),
        target.readiness.score
    );
    let _ = writeln!(out, "| # | item | state | why |\n|---|---|---|---|");
    for item in &target.readiness.items {
        let _ = writeln!(out, "| {} | {} | {} | {} |", item.id, item.title, item.state.word(), cell(&item.why));
    }
    let _ = writeln!(out, "\n### Findings\n");
    if target.findings.is_empty() {
        let _ = writeln!(out, "None in what could be seen.");
    }
    for finding in &target.findings {
        let _ = writeln!(out, "- **{}** {} (`{}`)", finding.severity, cell(&finding.title), finding.key);
        if !finding.detail.is_empty() {
            let _ = writeln!(out, "  {}", cell(&finding.detail));
        }
        if !finding.evidence.is_empty() {
            let seen: Vec<_> = finding.evidence.iter().map(|one| format!("{} {}", one.name, one.shown())).collect();
            let _ = writeln!(out, "  Saw: {}.", cell(&seen.join(", ")));
        }
        if let Some(plan) = &finding.fix {
            let _ = writeln!(out, "  Fix: {}.", cell(&plan.summary));
        }
    }
    let _ = writeln!(out, "\n### Could not be seen\n");
    for unknown in &target.unknown {
        let _ = writeln!(out, "- `{}`: {}", unknown.id, cell(unknown.reason.text()));
    }
    let _ = writeln!(out, "\n{} checks found nothing to complain about.", target.ok.len());
}

/// Text that cannot break a table or start markup of its own.
fn cell(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '*' | '_' | '`' | '<' | '[' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' | '\r' => out.push(' '),
            other => out.push(other),
        }
    }
    out
}
