//! The ledger: what was proven and changed, what drills measured over time, and whether the chain holds.

use super::{
    frame::{self, Asked},
    parts, places,
    words::{counted, moment, number, span},
};
use crate::views::{
    Scene,
    proofs::{Drill, Proofs, RESTORE, Row, Step, look},
};
use axum::response::Response;
use maud::{Markup, html};
use surus_core::{readiness::ITEMS, size::human_seconds};

/// The height of a plot, in pixels, and what is left free above its highest point.
const HEIGHT: f64 = 96.0;
const ABOVE: f64 = 14.0;
/// Measures that are shown as what they are, by the kind of entry; the others are behind a click.
const FIRST: &[&str] = &["rto", "rpo", "bytes", "tables", "indexes", "pages", "rows"];
/// Beyond so many they are behind a click.
const MEASURES: usize = 8;

/// `/proofs`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::PROOFS, look, body).await
}

fn body(scene: &Scene, view: &Proofs) -> Markup {
    let counting = view.rows.iter().filter(|row| row.counts).count();
    let filtered = ["kind", "cluster", "item"].iter().any(|name| scene.form.get(name).is_some_and(|at| !at.is_empty()));
    html! {
        h1 {
            @if counting == 1 { "1 proof" } @else { (counting) " proofs" }
            @if filtered { " of these" }
            @if counting == 1 { " counts now" } @else { " count now" }
        }
        p.faint {
            "Every experiment and every change that surus made, in a chain of hashes. "
            @if view.chain.intact {
                span.ok { "The chain holds" }
                ", from the first entry to the last of " (view.chain.entries) "."
            } @else {
                span.crit { "The chain is broken" }
                @if let Some(trouble) = &view.chain.trouble { ": " (trouble) }
                " (" code { "surus proof verify" } ")."
            }
        }
        (drills(view))
        (filters(scene, view))
        @if let Some(why) = &view.empty { (parts::nothing(why)) }
        @let failed = |row: &&Row| row.outcome == "failed" && !row.kind.starts_with("change") && is_newest(view, row);
        @for row in view.rows.iter().filter(|row| failed(row)) { (entry(scene, row)) }
        @for row in view.rows.iter().filter(|row| !failed(row)) { (entry(scene, row)) }
    }
}

/// Has nothing of its kind and subject come after it? A failure that was put right is history.
fn is_newest(view: &Proofs, row: &Row) -> bool {
    let same = |other: &&Row| {
        other.kind == row.kind
            && other.subject == row.subject
            && other.cluster == row.cluster
            && other.items == row.items
    };
    view.rows.iter().find(same).is_some_and(|newest| newest.number == row.number)
}

/// What drills measured, over time.
fn drills(view: &Proofs) -> Markup {
    html! {
        @if !view.drills.is_empty() {
            section.list.wide {
                h2 { "Restore drills" }
                @let failed = view.drills.iter().filter(|drill| !drill.passed).count();
                p.faint {
                    (counted(view.drills.len(), "drill")) ", " (failed) " failed. "
                    "RTO: from the start of the restore until the promoted server answered. RPO: what would have been lost."
                }
                div.plots {
                    (history("RTO", &view.drills, |drill| drill.rto_s))
                    (history("RPO", &view.drills, |drill| drill.rpo_s))
                }
            }
        }
    }
}

/// One of both over time: a point for each drill, which leads to its entry.
fn history(name: &str, drills: &[Drill], value: fn(&Drill) -> Option<f64>) -> Markup {
    let (from, to) = (drills.first().map_or(0, |one| one.finished_ms), drills.last().map_or(0, |one| one.finished_ms));
    let most = drills.iter().filter_map(value).fold(0.0, f64::max).max(0.001);
    // A lone drill stands in the middle.
    let x = |at_ms: i64| if to > from { 2.0 + (at_ms - from) as f64 / (to - from) as f64 * 96.0 } else { 50.0 };
    let y = |value: f64| HEIGHT - value / most * (HEIGHT - ABOVE);
    let points: Vec<_> = drills.iter().map(|drill| (drill, x(drill.finished_ms), value(drill))).collect();
    let known: Vec<_> = points.iter().filter_map(|(_, x, value)| Some((*x, y((*value)?)))).collect();
    let newest = drills.iter().rev().find_map(value);
    html! {
        figure.panel {
            figcaption {
                h3 { (name) }
                @match newest { Some(seconds) => span { (human_seconds(seconds)) " in the newest" }, None => span.faint { "not measured" } }
            }
            svg.history role="img" aria-label={ (name) " of " (counted(drills.len(), "drill")) ", at most " (human_seconds(most)) } {
                line x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
                line x1="0" x2="100%" y1=(ABOVE) y2=(ABOVE) {}
                text x="0" y=(ABOVE - 3.0) { (human_seconds(most)) }
                @for two in known.windows(2) {
                    line.way x1=(format!("{:.2}%", two[0].0)) y1=(format!("{:.1}", two[0].1))
                        x2=(format!("{:.2}%", two[1].0)) y2=(format!("{:.1}", two[1].1)) {}
                }
                @for (drill, x, value) in &points {
                    circle.failed[!drill.passed] cx=(format!("{x:.2}%")) cy=(format!("{:.1}", value.map_or(HEIGHT, y))) r="4" {
                        title {
                            "№ " (drill.number) ", " (moment(drill.finished_ms)) ": "
                            @if !drill.passed { "failed" }
                            @if let Some(value) = value { " " (human_seconds(*value)) }
                        }
                    }
                }
            }
            div.axis aria-hidden="true" { span { (moment(from)) } @if to > from { span { (moment(to)) } } }
        }
    }
}

fn filters(scene: &Scene, view: &Proofs) -> Markup {
    let chosen = |name: &str| scene.form.get(name).unwrap_or_default().to_owned();
    let select = |name: &str, about: &str, options: Vec<(String, String)>| {
        html! {
            label { (about) " "
                select name=(name) {
                    option value="" { "all" }
                    @for (value, text) in &options { option value=(value) selected[*value == chosen(name)] { (text) } }
                }
            }
            " "
        }
    };
    let same = |all: &[String]| all.iter().map(|one| (one.clone(), one.clone())).collect();
    let items = ITEMS.iter().map(|item| (item.id.to_string(), format!("{} {}", item.id, item.title))).collect();
    html! {
        h2 { "The ledger" }
        form.filter method="get" action=(scene.path) {
            (select("kind", "kind", same(&view.kinds)))
            (select("cluster", "cluster", same(&view.clusters)))
            (select("item", "readiness item", items))
            button { "Filter" }
        }
    }
}

fn entry(scene: &Scene, row: &Row) -> Markup {
    let class = match row.outcome.as_str() {
        "passed" => "ok",
        "failed" => "crit",
        _ => "faint",
    };
    let failed = row.outcome == "failed";
    html! {
        article.finding.crit[failed] #{ "entry-" (row.number) } {
            h3 {
                "№ " (row.number) " " (row.kind) ": " (row.subject) " " span class=(class) { (row.outcome) }
            }
            p.faint {
                (parts::time(row.finished_ms)) ", took " (span(row.duration_ms.max(0)))
                @if !row.items.is_empty() {
                    " · items "
                    (row.items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                }
                @match row.expires_ms {
                    Some(at_ms) if row.counts => { " · counts for another " (span(at_ms - scene.now_ms)) },
                    Some(at_ms) if at_ms <= scene.now_ms => " · expired",
                    Some(_) => " · does not count",
                    None => "",
                }
            }
            (measures(row))
            @if !row.steps.is_empty() || !row.log_excerpt.is_empty() {
                details open[failed && row.kind == RESTORE] {
                    summary { "What was done" }
                    (steps(row))
                    @if !row.log_excerpt.is_empty() { pre { (row.log_excerpt) } }
                    p.faint { "hash " code { (row.hash) } ", cluster " (row.cluster) }
                }
            }
        }
    }
}

fn measures(row: &Row) -> Markup {
    let first: Vec<_> = row.measured.iter().filter(|one| FIRST.contains(&one.name.as_str())).collect();
    let shown = if row.measured.len() > MEASURES && !first.is_empty() { first } else { row.measured.iter().collect() };
    let left = row.measured.len() - shown.len();
    html! {
        @if !shown.is_empty() {
            dl.facts { @for one in shown { (measure(&one.name, one.value, &one.unit)) } }
        }
        @if left > 0 {
            details {
                summary { "All that was measured" }
                dl.facts { @for one in &row.measured { (measure(&one.name, one.value, &one.unit)) } }
            }
        }
    }
}

fn measure(name: &str, value: f64, unit: &str) -> Markup {
    html! {
        div {
            dt { (name) }
            dd {
                @match unit {
                    "s" => (human_seconds(value)),
                    "bytes" => (super::words::bytes(value.max(0.0) as u64)),
                    // A whole number that says what it counts.
                    unit if unit == name => (number(value)),
                    unit => { (number(value)) " " (unit) }
                }
            }
        }
    }
}

/// The steps with their times as bars, each where it begins.
fn steps(row: &Row) -> Markup {
    let timed: f64 = row.steps.iter().filter(|step| step.what != "result").map(|step| step.duration_ms).sum();
    let mut begin = 0.0;
    let rows = row.steps.iter().map(|step| {
        let is_whole = step.what == "result";
        let (x, width) = match is_whole {
            true => (0.0, 0.0),
            false => (share(begin, timed), share(step.duration_ms, timed)),
        };
        begin += if is_whole { 0.0 } else { step.duration_ms };
        (step, x, width)
    });
    html! {
        table.steps {
            tbody {
                @for (step, x, width) in rows {
                    tr {
                        th scope="row" { (step.what) }
                        td.bar {
                            @if width > 0.0 {
                                svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
                                    rect.bar-part x=(format!("{x:.2}")) width=(format!("{:.2}", width.max(0.5))) height="6" {}
                                }
                            }
                        }
                        td.number { @if step.duration_ms > 0.0 { (human_seconds(step.duration_ms / 1000.0)) } }
                        td { (result(step)) }
                    }
                }
            }
        }
    }
}

fn share(part: f64, all: f64) -> f64 {
    if all > 0.0 { (part / all * 100.0).clamp(0.0, 100.0) } else { 0.0 }
}

/// What a step said: a failed one with its evidence, commands as they are typed.
fn result(step: &Step) -> Markup {
    if step.what == "commands" {
        return html! { pre { (step.result) } };
    }
    let mut lines = step.result.lines();
    let first = lines.next().unwrap_or_default();
    let (advice, evidence): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("what to do: "));
    let class = if first.starts_with("failed: ") {
        "crit"
    } else if first.starts_with("unknown: ") {
        "warn"
    } else {
        ""
    };
    html! {
        span class=(class) { (first) }
        @if !evidence.is_empty() { pre { (evidence.join("\n")) } }
        @for line in advice { p { (line) } }
    }
}
