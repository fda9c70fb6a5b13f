//! What stands around every page: where one is, where one can go, and the range of time.

use super::{
    parts,
    places::{self, Place},
};
use crate::{
    Site,
    access::Login,
    api::{answer::ApiError, form::Form},
    assets,
    views::{self, Look, Request, Scene},
};
use axum::{
    extract::State,
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};
use std::sync::Arc;

/// Ranges to choose from, with their names.
const RANGES: [(&str, &str); 7] = [
    ("now-15m", "15 min"),
    ("now-1h", "1 h"),
    ("now-6h", "6 h"),
    ("now-24h", "24 h"),
    ("now-7d", "7 d"),
    ("now-30d", "30 d"),
    ("now-365d", "1 y"),
];

/// What every handler of a page takes.
pub type Asked = (State<Arc<Site>>, Request, Form);

/// A page of a view.
pub async fn show<T: Send + 'static>(
    (State(site), request, form): Asked,
    place: &'static Place,
    look: Look<T>,
    body: fn(&Scene, &T) -> Markup,
) -> Response {
    let scene = match Scene::of(&site, request, form) {
        Ok(scene) => scene,
        Err(error) => return failed(None, place, &error),
    };
    match views::look(&site, scene.clone(), look).await {
        Ok(view) => page(&scene, place, &body(&scene, &view)).into_response(),
        Err(error) => failed(Some(&scene), place, &error),
    }
}

/// A page that says why there is none.
pub fn failed(scene: Option<&Scene>, place: &'static Place, error: &ApiError) -> Response {
    let body = html! {
        h1 { "Nothing can be shown" }
        p.crit { (error.message) }
        p { a href="/" { "To the first page" } }
    };
    let page = match scene {
        Some(scene) => page(scene, place, &body),
        None => plain("Nothing can be shown", Login::Absent, body),
    };
    (error.kind.status(), page).into_response()
}

/// A page that stays as it is, however long it is looked at.
pub fn still(scene: &Scene, place: &'static Place, body: &Markup) -> Html<String> {
    let title = format!("{} · surus", scene.path);
    document(&title, Some(place), scene.login, Some(scene), None, &target_bar(scene, place), body)
}

/// A page with everything around it.
fn page(scene: &Scene, place: &'static Place, body: &Markup) -> Html<String> {
    let target = scene.target.as_ref().map(|target| target.name.as_str());
    let title = match target {
        Some(target) => format!("{} · {target} · surus", place.name),
        None => format!("{} · surus", place.name),
    };
    let above = html! {
        @if target.is_some() { (target_bar(scene, place)) }
        @if place.ranged { (range_bar(scene)) }
    };
    let refresh = place.refreshes(&scene.range, scene.form.get("live"));
    document(&title, Some(place), scene.login, Some(scene), refresh, &above, body)
}

/// A page that is about no range and no target.
pub fn plain(title: &str, login: Login, body: Markup) -> Html<String> {
    document(title, None, login, None, None, &html! {}, &body)
}

fn document(
    title: &str,
    place: Option<&'static Place>,
    login: Login,
    scene: Option<&Scene>,
    refresh: Option<u32>,
    above: &Markup,
    body: &Markup,
) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href=(assets::style_path());
                script src=(assets::theme_path()) {}
                script defer src=(assets::script_path()) {}
            }
            body {
                a.skip href="#main" { "To the content" }
                header.top {
                    nav aria-label="All targets" {
                        a.name href="/" { "surus" }
                        @for other in places::FLEET {
                            a href=(linked(other.path, scene)) data-key=(other.key)
                                aria-current=[place.filter(|own| own.id == other.id).map(|_| "page")] { (other.name) }
                        }
                        span.grow {}
                        button type="button" data-theme-toggle aria-label="Light or dark" { "◐" }
                        button type="button" data-keys aria-label="Keys" { "?" }
                        @match login {
                            Login::Absent => {},
                            Login::Out => a href=(login_path(scene)) hx-boost="false" { "Log in" },
                            Login::In => form method="post" action="/logout" hx-boost="false" { button { "Log out" } },
                        }
                    }
                }
                main #main data-refresh=[refresh] data-title=(title) {
                    (above)
                    div.body { (body) }
                    footer { "surus " (env!("CARGO_PKG_VERSION")) " · times are UTC" span data-stale {} }
                }
            }
        }
    };
    Html(page.into_string())
}

/// Where to log in, and then come back to this page.
pub fn login_path(scene: Option<&Scene>) -> String {
    let here = scene.map_or_else(|| "/".to_owned(), |scene| parts::here(scene, &[]));
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &here).finish();
    format!("/login?{query}")
}

/// An address with the range that is shown.
fn linked(path: &str, scene: Option<&Scene>) -> String {
    match scene {
        Some(scene) => parts::link(scene, path, &[]),
        None => path.to_owned(),
    }
}

fn target_bar(scene: &Scene, place: &'static Place) -> Markup {
    let Some(target) = &scene.target else { return html! {} };
    let base = parts::target_path(&target.name, "");
    html! {
        div.target {
            a.target-name href=(parts::link(scene, &base, &[])) { (target.name) }
            @if target.up { span.state.ok { "up" } } @else { span.state.crit { "down" } }
            span.faint {
                @if let Some(role) = target.role { (role) " · " }
                @if let Some(version) = &target.version { "PostgreSQL " (version) " · " }
                (target.server)
            }
        }
        nav.tabs aria-label="This target" {
            @for other in places::TARGET {
                a href=(parts::link(scene, &parts::target_path(&target.name, other.path), &[])) data-key=(other.key)
                    aria-current=[(other.id == place.id).then_some("page")] { (other.name) }
            }
        }
    }
}

fn range_bar(scene: &Scene) -> Markup {
    let (range, now_ms) = (&scene.range, scene.now_ms);
    let to = |query: &str| format!("{}?{}", scene.path, with_range(scene, query));
    let live = scene.form.get("live") != Some("off");
    let toggle = scene.form.with(&[("live", live.then_some("off"))]);
    html! {
        div.range role="group" aria-label="Range of time" {
            a data-range="back" href=(to(&range.moved(-1, now_ms))) aria-label="Earlier" title="Earlier ([)" { "‹" }
            @for (from, name) in RANGES {
                a href=(to(&format!("from={from}&to=now"))) aria-current=[(range.from == from && range.is_live()).then_some("true")] {
                    (name)
                }
            }
            a data-range="forward" href=(to(&range.moved(1, now_ms))) aria-label="Later" title="Later (])" { "›" }
            a data-range="out" href=(to(&range.wider(now_ms))) aria-label="Zoom out" title="Zoom out (-)" { "−" }
            @if range.is_live() {
                a.live data-live-toggle href=(format!("{}?{toggle}", scene.path)) aria-current=[live.then_some("true")] title="Follow the present (l)" {
                    @if live { "● live" } @else { "○ live" }
                }
            }
            form method="get" action=(scene.path) {
                @for (name, value) in scene.form.pairs().filter(|(name, _)| !["from", "to", "live"].contains(name)) {
                    input type="hidden" name=(name) value=(value);
                }
                label {
                    span.hidden { "from" }
                    input name="from" value=(parts::told(&range.from)) size="16" autocomplete="off";
                }
                label {
                    span.hidden { "to" }
                    input name="to" value=(parts::told(&range.to)) size="16" autocomplete="off";
                }
                button { "Go" }
            }
        }
    }
}

/// The parameters of this address, with another range.
fn with_range(scene: &Scene, range: &str) -> String {
    let form = Form::of(range);
    scene.form.with(&[("from", form.get("from")), ("to", form.get("to")), ("live", None)])
}
