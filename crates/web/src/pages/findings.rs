//! Readiness and findings.

use super::{
    frame::{self, Asked},
    parts, places,
    words::{ago, counted},
};
use crate::views::{
    Scene,
    findings::{Findings, Fix, Found, Item, NotSeen, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/findings`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::FINDINGS, look, body).await
}

fn body(scene: &Scene, view: &Findings) -> Markup {
    html! {
        h1 { (headline(view)) }
        @if let Some(trouble) = &view.trouble { p.warn { (trouble) } }
        @if let Some(at_ms) = view.at_ms {
            p.faint {
                "Checked "
                (ago(scene.now_ms, at_ms))
                ", in "
                (format!("{:.1} s", view.duration_ms.unwrap_or_default() / 1000.0))
                ": "
                (counted(view.ok, "check")) " found nothing"
                @if view.suppressed > 0 {
                    ", "
                    (counted(view.suppressed, "finding"))
                    " suppressed by the configuration"
                }
                "."
            }
            section aria-label="Readiness" {
                p {
                    span.score { (view.score.unwrap_or_default()) }
                    " of 100: how ready it is for production. Configured is not proven."
                }
                ul.items { @for item in &view.items { (production_item(item)) } }
            }
            h2 { "Findings" }
            (parts::filter(scene, "findings"))
            @let none = view.counts.iter().all(|(_, count)| *count == 0);
            @if view.findings.is_empty() { (parts::nothing(if none { "Nothing was found." } else { "No finding fits the filter." })) }
            @for finding in &view.findings { (one(finding)) }
            (not_seen(&view.unknown))
        }
    }
}

fn headline(view: &Findings) -> String {
    if view.at_ms.is_none() {
        return "It was not checked yet".to_owned();
    }
    let told: Vec<String> = view
        .counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {severity}"))
        .collect();
    let unknown =
        if view.unknown.is_empty() { String::new() } else { format!(", {} could not be seen", view.unknown.len()) };
    match told.is_empty() {
        true => format!("Nothing was found{unknown}"),
        false => format!("Findings: {}{unknown}", told.join(", ")),
    }
}

fn production_item(item: &Item) -> Markup {
    let (class, mark) = match item.state {
        "proven" => ("ok", "✓"),
        "configured" => ("warn", "½"),
        "missing" => ("crit", "✗"),
        _ => ("faint", "?"),
    };
    html! {
        li title=(format!("Proven by: {}", item.proven_by)) {
            span class=(class) { b { (mark) " " (item.state) } } " " (item.id) ". " (item.title)
            div.faint {
                (item.why)
                @for proof in &item.proofs { " " a href=(format!("/proofs#entry-{proof}")) { "entry " (proof) } }
            }
        }
    }
}

fn one(finding: &Found) -> Markup {
    html! {
        article class=(format!("finding {}", finding.severity)) id=(finding.key) {
            h3 { span class=(format!("mark {}", finding.severity)) { (finding.severity) } " " (finding.title) }
            p.faint { code { (finding.key) } @if let Some(database) = &finding.database { " in " (database) } }
            @if !finding.detail.is_empty() { p { (finding.detail) } }
            @if !finding.evidence.is_empty() {
                dl.facts { @for (name, value) in &finding.evidence { div { dt { (name) } dd { (value) } } } }
            }
            @if let Some(plan) = &finding.fix { (fix(plan)) }
            @if !finding.page.is_empty() {
                details { summary { "What " (finding.id) " looks at" } pre { (finding.page) } }
            }
        }
    }
}

fn fix(plan: &Fix) -> Markup {
    html! {
        details open[plan.steps.len() == 1] {
            summary { "Fix: " (plan.summary) }
            ol {
                @for step in &plan.steps {
                    li { (step.effect) pre { code { (step.what) } } p.faint { (step.costs.join(" · ")) } }
                }
            }
            p.command { code { (plan.command) } surus-copy {} span.faint { "shows the plan; --apply carries it out" } }
        }
    }
}

fn not_seen(unknown: &[NotSeen]) -> Markup {
    html! {
        @if !unknown.is_empty() {
            h2 { "What could not be seen" }
            div.scroll { table {
                thead { tr { th scope="col" { "Check" } th scope="col" { "Why" } } }
                tbody { @for one in unknown {
                    tr {
                        th.name scope="row" { (one.id) @if !one.object.is_empty() { div.faint { (one.object) } } }
                        td {
                            span.mark { (one.kind) }
                            " "
                            (one.reason)
                            @if !one.databases.is_empty() { " " span.faint { "in " (one.databases.join(", ")) } }
                        }
                    }
                } }
            } }
        }
    }
}
