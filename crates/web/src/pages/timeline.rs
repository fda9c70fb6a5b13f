//! What happened, to one target or to all.

use super::{
    frame::{self, Asked},
    parts::{self, here},
    places::{self, Place},
    words::counted,
};
use crate::views::{
    Scene,
    timeline::{Happened, Timeline, look},
};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::Value;

/// `/timeline`
pub async fn all(asked: Asked) -> Response {
    page(asked, &places::TIMELINE).await
}

/// `/t/{target}/events`
pub async fn of_target(asked: Asked) -> Response {
    page(asked, &places::EVENTS).await
}

async fn page(asked: Asked, place: &'static Place) -> Response {
    frame::show(asked, place, look, body).await
}

fn body(scene: &Scene, timeline: &Timeline) -> Markup {
    let all: usize = timeline.kinds.values().sum();
    html! {
        h1 { (counted(all, "event")) " in this range" }
        p.faint {
            "They are drawn on every plot. Say when something was deployed: "
            code { "surus event add \"deployed v42\"" }
            " "
            surus-copy text="surus event add \"deployed v42\"" {}
        }
        nav.kinds aria-label="Kinds of events" {
            a.chip href=(here(scene, &[("kind", None)])) aria-current=[timeline.kind.is_none().then_some("true")] {
                "all "
                (all)
            }
            @for (kind, count) in &timeline.kinds {
                @let chosen = (timeline.kind.as_ref() == Some(kind)).then_some("true");
                a.chip href=(here(scene, &[("kind", Some(kind))])) aria-current=[chosen] {
                    span class=(format!("kind kind-{}", parts::segment(kind))) {} (kind) " " (count)
                }
            }
        }
        (parts::filter(scene, "events"))
        @if timeline.rows.is_empty() { (parts::nothing("Nothing happened in this range that surus noticed or was told.")) } @else {
            ol.timeline { @for one in &timeline.rows { (row(scene, one)) } }
            @if timeline.more > 0 { p.faint { (timeline.more) " older ones are not shown: choose a shorter range." } }
        }
    }
}

fn row(scene: &Scene, one: &Happened) -> Markup {
    // A quarter of an hour around it shows what changed with it.
    let (from, to) = ((one.at_ms - 450_000).to_string(), (one.at_ms + 450_000).min(scene.now_ms).to_string());
    let around = |target: &str| {
        let path = parts::target_path(target, "");
        format!("{path}?from={from}&to={to}")
    };
    html! {
        li {
            (parts::time(one.at_ms))
            span class=(format!("kind kind-{}", parts::segment(&one.kind))) {}
            span.kind-word { (one.kind) }
            div {
                b { (one.title) }
                @if !one.target.is_empty() { " " a href=(around(&one.target)) { (one.target) " around then" } }
                (detail(&one.detail))
            }
        }
    }
}

fn detail(detail: &Value) -> Markup {
    let empty = match detail {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    html! {
        @if !empty {
            details { summary { "more" } pre { code { (serde_json::to_string_pretty(detail).unwrap_or_default()) } } }
        }
    }
}
