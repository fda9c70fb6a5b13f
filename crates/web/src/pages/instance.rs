//! The overview of a target.

use super::{
    frame::{self, Asked},
    parts, places,
    words::{ago, why},
};
use crate::views::{
    Scene,
    instance::{Instance, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}`
pub async fn page(state: Asked) -> Response {
    frame::show(state, &places::INSTANCE, look, body).await
}

fn body(scene: &Scene, instance: &Instance) -> Markup {
    let path = |page: &str| {
        let page = if page.is_empty() { String::new() } else { format!("/{page}") };
        parts::link(scene, &parts::target_path(&instance.name, &page), &[])
    };
    html! {
        h1.hidden { "Overview of " (instance.name) }
        @if let Some(trouble) = &instance.trouble { p.crit role="alert" { (why(trouble)) } }
        section.wrong aria-label="What is wrong now" {
            @if instance.worries.is_empty() { p.ok { "Nothing is wrong that surus can see." } }
            (parts::worries(scene, &instance.name, &instance.worries, 8, "/findings"))
        }
        div.numbers {
            @for number in &instance.numbers {
                @let promql = parts::explore(scene, &number.query);
                (parts::number(number.name, number.value, number.unit, &path(number.page), &promql))
            }
        }
        @if let Some((hero, others)) = instance.plots.split_first() {
            div.hero { (parts::plot(scene, hero)) }
            p.faint.hint { "Drag over a plot: every panel follows. Its sessions, statements and blockers are under "
                a href=(path("activity")) { "Activity" } "." }
            div.plots { @for plot in others { (parts::plot(scene, plot)) } }
        }
        @if let Some(started_ms) = instance.started_ms {
            p.faint { "PostgreSQL was started " (ago(scene.now_ms, started_ms)) "." }
        }
        // A document of its own, without the script of the pages: the browser loads it as a whole.
        p { a href=(path("report")) hx-boost="false" { "Report of this range as a file" } }
    }
}
