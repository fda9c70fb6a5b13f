//! The runbook "restore after data loss".

use super::{
    frame::{self, Asked},
    parts, places,
    words::{ago, moment},
};
use crate::views::{
    Scene,
    runbook::{Runbook, Step, look},
};
use axum::response::Response;
use maud::{Markup, html};
use surus_core::size::human_seconds;

/// `/t/{target}/runbook`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::BACKUPS, look, body).await
}

fn body(scene: &Scene, view: &Runbook) -> Markup {
    html! {
        p { a href=(parts::link(scene, &parts::target_path(&view.target, "/backups"), &[])) { "‹ Backups" } }
        h1 { "Restore after data loss" }
        @if let Some(why) = &view.no_drill { p.nothing { (why) } }
        @if let Some(drill) = &view.drill {
            p {
                "The restore below is what the drill of " (moment(drill.finished_ms)) " ran ("
                (ago(scene.now_ms, drill.finished_ms)) "; "
                a href=(format!("/proofs?kind=restore#entry-{}", drill.number)) { "entry " (drill.number) }
                "), from " (drill.subject)
                ". Only the directory is this server's own."
                @if !drill.counts { " " span.warn { "That drill no longer counts: run another." } }
            }
            dl.facts {
                @if let Some(rto) = drill.rto_s { div { dt { "RTO, measured" } dd { (human_seconds(rto)) } } }
                @if let Some(rpo) = drill.rpo_s { div { dt { "RPO, measured" } dd { (human_seconds(rpo)) } } }
            }
        }
        ol.runbook { @for step in &view.steps { (one(step)) } }
    }
}

fn one(step: &Step) -> Markup {
    html! {
        li {
            h2 {
                (step.what)
                @match (step.drilled, step.measured_s) {
                    (true, Some(seconds)) => { " " span.ok { "drilled, " (human_seconds(seconds)) } }
                    (true, None) => { " " span.ok { "drilled" } }
                    (false, Some(seconds)) => { " " span.faint { "took " (human_seconds(seconds)) " in the drill" } }
                    (false, None) => { " " span.faint { "not part of a drill" } }
                }
            }
            p { (step.why) }
            div.text { pre { code { (step.commands.join("\n")) } } surus-copy {} }
        }
    }
}
