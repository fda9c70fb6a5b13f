//! The report as one HTML file that needs nothing else: no script, no network, light and dark, and it prints well.

use super::{Query, Report, TargetReport, Unknown};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use std::collections::BTreeMap;
use surus_core::{
    finding::{Finding, Severity},
    plan::{Action, Interruption, Lock, Plan, Step, Undo},
    readiness::{ItemState, Readiness},
    size::human_seconds,
};

/// The whole page.
pub fn page(report: &Report) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { "surus check · " (report.started_at.strftime("%Y-%m-%d %H:%M UTC")) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "PostgreSQL check" }
                    p.faint {
                        "made by surus " (report.surus) " on " (report.started_at.strftime("%Y-%m-%d at %H:%M UTC"))
                        " in " (human_seconds(report.duration_ms / 1000.0))
                        ", reading only. It also lists what could not be seen, and every query that was asked."
                    }
                    @if report.targets.len() > 1 { (contents(report)) }
                }
                main { @for (at, target) in report.targets.iter().enumerate() { (one(at, target)) } }
            }
        }
    };
    markup.into_string()
}

fn contents(report: &Report) -> Markup {
    html! {
        table {
            thead { tr { th { "target" } th { "version" } th { "role" } th.number { "readiness" } th.number { "crit" } th.number { "warn" } } }
            tbody {
                @for (at, target) in report.targets.iter().enumerate() {
                    tr {
                        td { a href={ "#target-" (at) } { (target.name) } }
                        td { (target.version.as_deref().unwrap_or("not reached")) }
                        td { (target.role.unwrap_or("")) }
                        td.number { (target.readiness.score) }
                        td.number { (count(target, Severity::Crit)) }
                        td.number { (count(target, Severity::Warn)) }
                    }
                }
            }
        }
    }
}

fn count(target: &TargetReport, severity: Severity) -> usize {
    target.findings.iter().filter(|finding| finding.severity == severity).count()
}

fn one(at: usize, target: &TargetReport) -> Markup {
    html! {
        section id={ "target-" (at) } {
            h2 { (target.name) }
            @if let Some(error) = &target.error {
                p.crit { strong { (error.code) } " " (error.message) }
                p { (error.next) }
            } @else {
                p.faint { "PostgreSQL " (target.version.as_deref().unwrap_or("?")) ", " (target.role.unwrap_or("?")) }
                (readiness(&target.readiness))
                h3 {
                    "Findings: " (count(target, Severity::Crit)) " crit, " (count(target, Severity::Warn)) " warn, "
                    (count(target, Severity::Info)) " info"
                }
                @if target.findings.is_empty() { p { "Nothing to complain about in what could be seen." } }
                @for finding in &target.findings { (one_finding(finding)) }
                @if !target.on_primary_too.is_empty() {
                    p.faint { (target.on_primary_too.len()) " more findings are about what replication copies; they stand at the primary." }
                }
                (unseen(&target.unknown))
                (quiet(target))
                (queries(&target.queries))
            }
        }
    }
}

fn readiness(readiness: &Readiness) -> Markup {
    html! {
        div.score {
            div.big { (readiness.score) }
            div {
                "of 100: readiness for production"
                div.bar role="img" aria-label={ (readiness.score) " of 100" } { div style={ "width:" (readiness.score) "%" } {} }
            }
        }
        table {
            thead { tr { th.number { "#" } th { "item" } th { "state" } th { "why" } } }
            tbody { @for item in &readiness.items { (one_item(item)) } }
        }
    }
}

fn one_item(item: &ItemState) -> Markup {
    html! {
        tr {
            td.number { (item.id) }
            td { (item.title) }
            td { span class={ "tag " (item.state.word()) } { (item.state.word()) } }
            td {
                (item.why)
                @if !item.proofs.is_empty() {
                    span.faint { " · ledger " @for number in &item.proofs { "#" (number) " " } }
                }
            }
        }
    }
}

fn one_finding(finding: &Finding) -> Markup {
    html! {
        article class={ "finding " (finding.severity.word()) } {
            h4 { span class={ "tag " (finding.severity.word()) } { (finding.severity.word()) } " " (finding.title) }
            p.key { code { (finding.key) } }
            @if !finding.detail.is_empty() { p { (finding.detail) } }
            @if !finding.evidence.is_empty() {
                dl { @for one in &finding.evidence { div { dt { (one.name) } dd { (one.shown()) } } } }
            }
            @if let Some(plan) = &finding.fix { (fix(plan)) }
        }
    }
}

fn fix(plan: &Plan) -> Markup {
    html! {
        div.fix {
            p { strong { "Fix: " } (plan.summary) }
            @if !is_summary_only(plan) { ol { @for step in &plan.steps { li { (one_step(step)) } } } }
        }
    }
}

/// Advice whose one step only says the summary again.
fn is_summary_only(plan: &Plan) -> bool {
    matches!(plan.steps.as_slice(), [Step { action: Action::Manual { text }, .. }] if *text == plan.summary)
}

fn one_step(step: &Step) -> Markup {
    html! {
        @match &step.action {
            Action::Setting { name, value } => pre { "ALTER SYSTEM SET " (name) " = '" (value) "';" },
            Action::ResetSetting { name } => pre { "ALTER SYSTEM RESET " (name) ";" },
            Action::Sql { sql, .. } => pre { (sql) ";" },
            Action::HbaLine { line, old, new } => p {
                "pg_hba.conf line " (line) ": " code { (old) } " becomes " code { (new.as_deref().unwrap_or("a comment")) }
            },
            Action::Manual { text } => p { (text) },
        }
        @if !step.is_manual() { p.faint { (step.effect) " · " (cost(step)) } }
    }
}

fn cost(step: &Step) -> String {
    let mut parts = Vec::new();
    match step.lock {
        Lock::None => parts.push("no table lock".to_owned()),
        lock => parts.push(format!("{} ({})", lock.name(), lock.blocks())),
    }
    match step.interrupts {
        Interruption::None => {}
        Interruption::Reload => parts.push("reload".into()),
        Interruption::Rewrite => parts.push("rewrites the table".into()),
        Interruption::Restart => parts.push("needs a restart".into()),
    }
    parts.extend(step.seconds.map(|seconds| format!("about {}", human_seconds(seconds))));
    parts.push(match &step.undo {
        Undo::Sql { sql } => format!("undo: {sql}"),
        Undo::PreImage => "undo: what was there before".into(),
        Undo::Never { why } => format!("no undo: {why}"),
    });
    parts.join(" · ")
}

fn unseen(unknown: &[Unknown]) -> Markup {
    let mut kinds: BTreeMap<&str, Vec<&Unknown>> = BTreeMap::new();
    for one in unknown {
        kinds.entry(one.reason.kind()).or_default().push(one);
    }
    html! {
        h3 { "Could not be seen" }
        @if unknown.is_empty() { p { "Every check could look." } }
        @for (kind, list) in kinds {
            h5 { (kind) " (" (list.len()) ")" }
            ul {
                @for one in list {
                    li {
                        code { (one.id) }
                        @if !one.object.is_empty() { " " (one.object) }
                        @if !one.databases.is_empty() { span.faint { " in " (one.databases.join(", ")) } }
                        ": " (one.reason)
                    }
                }
            }
        }
    }
}

fn quiet(target: &TargetReport) -> Markup {
    html! {
        h3 { "Looked at and found nothing to complain about" }
        p.faint { @for id in &target.ok { code { (id) } " " } }
        @if !target.not_applicable.is_empty() {
            h3 { "Does not apply here" }
            ul { @for one in &target.not_applicable { li { code { (one.id) } ": " (one.why) } } }
        }
        @if !target.suppressed.is_empty() {
            h3 { "Suppressed by the configuration" }
            ul { @for one in &target.suppressed { li { code { (one.key) } ": " (one.reason) } } }
        }
    }
}

fn queries(queries: &[Query]) -> Markup {
    let total: f64 = queries.iter().map(|query| query.duration_ms).sum();
    html! {
        details {
            summary { "Every query that was asked: " (queries.len()) ", " (format!("{total:.0}")) " ms together" }
            table {
                thead { tr { th { "for" } th { "database" } th.number { "ms" } th.number { "rows" } th { "SQL" } } }
                tbody {
                    @for query in queries {
                        tr {
                            td { (query.id) }
                            td { (query.database.as_deref().unwrap_or("")) }
                            td.number { (format!("{:.1}", query.duration_ms)) }
                            td.number { (query.rows) }
                            td { code { (query.sql) } }
                        }
                    }
                }
            }
        }
    }
}

const STYLE: &str = "
:root { --ink:#1b1f24; --faint:#5b6570; --paper:#fff; --line:#d9dee4; --soft:#f5f7f9; --crit:#b3261e; --warn:#8a5a00; --info:#1f5f99;
  --good:#1d6b3a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6e9ed; --faint:#9aa5b1; --paper:#14181d; --line:#333b45; --soft:#1c2229;
  --crit:#ff8a80; --warn:#f0b95b; --info:#7cb8ee; --good:#7bd09a; } }
* { box-sizing: border-box; }
body { margin:0 auto; padding:2rem 1.2rem 4rem; max-width:64rem; font:16px/1.5 system-ui, sans-serif; color:var(--ink); background:var(--paper); }
h1 { margin:0; font-size:1.9rem; } h2 { margin:2.5rem 0 0; font-size:1.45rem; overflow-wrap:anywhere; } h3 { margin:2.2rem 0 .6rem; font-size:1.15rem; }
h4 { margin:0; font-size:1rem; } h5 { margin:1rem 0 .2rem; font-size:.95rem; }
.faint { color:var(--faint); } .number { text-align:right; font-variant-numeric:tabular-nums; }
table { width:100%; border-collapse:collapse; margin:.8rem 0; font-size:.93rem; }
th { text-align:left; font-weight:600; color:var(--faint); } th, td { padding:.3rem .6rem .3rem 0; border-bottom:1px solid var(--line); vertical-align:top; }
td { overflow-wrap:anywhere; } td.number, .tag { white-space:nowrap; overflow-wrap:normal; }
code, pre { font:0.86em/1.45 ui-monospace, monospace; overflow-wrap:anywhere; white-space:pre-wrap; }
pre { margin:.3rem 0; padding:.5rem .7rem; background:var(--soft); border-radius:.3rem; }
.tag { display:inline-block; min-width:3.2em; padding:0 .5em; border-radius:.3rem; border:1px solid currentColor; font-size:.8rem; font-weight:600; text-align:center; }
.tag.crit, p.crit { color:var(--crit); } .tag.warn, .tag.configured { color:var(--warn); } .tag.info, .tag.unknown { color:var(--info); }
.tag.proven { color:var(--good); } .tag.missing { color:var(--crit); }
.finding { margin:.9rem 0; padding:.8rem 1rem; border:1px solid var(--line); border-left-width:.3rem; border-radius:.3rem; break-inside:avoid; }
.finding.crit { border-left-color:var(--crit); } .finding.warn { border-left-color:var(--warn); } .finding.info { border-left-color:var(--info); }
.finding p { margin:.4rem 0; } .key { color:var(--faint); }
dl { display:flex; flex-wrap:wrap; gap:.2rem 1.6rem; margin:.5rem 0; font-size:.93rem; } dl div { display:flex; gap:.5rem; }
dt { color:var(--faint); } dd { margin:0; overflow-wrap:anywhere; }
.fix { margin-top:.6rem; padding-top:.4rem; border-top:1px dashed var(--line); } .fix ol { margin:.3rem 0; padding-left:1.4rem; }
.score { display:flex; align-items:center; gap:1rem; margin:1rem 0; } .big { font-size:3.4rem; font-weight:700; line-height:1; }
.score > div:last-child { flex:1; } .bar { height:.7rem; margin-top:.3rem; background:var(--line); border-radius:.4rem; overflow:hidden; }
.bar div { height:100%; background:var(--good); } ul { padding-left:1.2rem; } summary { cursor:pointer; margin-top:2rem; font-weight:600; }
@media print { body { max-width:none; padding:0; font-size:11px; } a { color:inherit; } details { display:none; } }
";
