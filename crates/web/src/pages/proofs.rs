//! The ledger.

use super::{
    frame::{self, Asked},
    parts, places,
    words::{number, span},
};
use crate::views::{
    Scene,
    proofs::{Proofs, Row, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/proofs`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::PROOFS, look, body).await
}

fn body(scene: &Scene, view: &Proofs) -> Markup {
    let counting = view.rows.iter().filter(|row| row.counts).count();
    html! {
        h1 { @if counting == 1 { "1 proof counts now" } @else { (counting) " proofs count now" } }
        p.faint {
            "Every experiment and every change that surus made, in a chain of hashes: "
            code { "surus proof verify" }
            " checks it."
        }
        @if let Some(why) = &view.empty { (parts::nothing(why)) }
        @for row in &view.rows { (entry(scene, row)) }
    }
}

fn entry(scene: &Scene, row: &Row) -> Markup {
    let class = match row.outcome.as_str() {
        "passed" => "ok",
        "failed" => "crit",
        _ => "faint",
    };
    html! {
        article.finding #{ "entry-" (row.number) } {
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
            @if !row.measured.is_empty() {
                dl.facts {
                    @for one in &row.measured { div { dt { (one.name) } dd { (number(one.value)) " " (one.unit) } } }
                }
            }
            @if !row.steps.is_empty() || !row.log_excerpt.is_empty() {
                details {
                    summary { "What was done" }
                    ol {
                        @for step in &row.steps {
                            li {
                                (step.what)
                                ": "
                                (step.result)
                                " "
                                span.faint { (format!("{:.0} ms", step.duration_ms)) }
                            }
                        }
                    }
                    @if !row.log_excerpt.is_empty() { pre { (row.log_excerpt) } }
                    p.faint { "hash " code { (row.hash) } ", cluster " (row.cluster) }
                }
            }
        }
    }
}
