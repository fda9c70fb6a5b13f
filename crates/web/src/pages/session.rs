//! One session, asked for when the page is opened, and ending it after a look at what it does.

use super::{
    activity::wait_mark,
    frame,
    parts::{self, target_path},
    places,
    words::quantity,
};
use crate::{
    Site,
    access::{Login, Who},
    api::{
        answer::{ApiError, ErrorType},
        form::Form,
    },
    sessions::{self, Acted, Wanted},
    views::{Request, Scene, plot::Unit},
};
use axum::{
    extract::{ConnectInfo, Path, State},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};
use std::{net::SocketAddr, sync::Arc};
use surus_observe::live::{ending::Act, one::SessionNow};

/// `GET /t/{target}/sessions/{pid}`
pub async fn page(
    State(site): State<Arc<Site>>,
    request: Request,
    Path((target, pid)): Path<(String, i64)>,
    form: Form,
) -> Response {
    let scene = match Scene::of(&site, request, form) {
        Ok(scene) => scene,
        Err(error) => return frame::failed(None, &places::ACTIVITY, &error),
    };
    // The answer is of this moment, so the page is not fetched again by itself: each time costs the server a question.
    let body = match sessions::session_now(&site, &target, pid).await {
        Ok(session) => shown(&site, &scene, &target, &session, scene.form.get("do")),
        Err(error) if error.kind == ErrorType::NotFound => {
            html! { (back(&scene, &target)) h1 { "Process " (pid) " has ended" } p { "Nothing is left to do." } }
        }
        Err(error) => html! { (back(&scene, &target)) h1 { "The session cannot be shown" } p.crit { (error.message) } },
    };
    frame::still(&scene, &places::ACTIVITY, &body).into_response()
}

fn back(scene: &Scene, target: &str) -> Markup {
    html! { p { a href=(parts::link(scene, &target_path(target, "/activity"), &[])) { "‹ Activity" } } }
}

fn shown(site: &Site, scene: &Scene, target: &str, session: &SessionNow, wanted: Option<&str>) -> Markup {
    let seconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| quantity(value, Unit::Seconds));
    let wait = match session.wait_event_type.as_str() {
        "" => String::new(),
        class => format!("{class}:{}", session.wait_event),
    };
    html! {
        (back(scene, target))
        h1 {
            "Process "
            (session.pid)
            ": "
            (if session.application.is_empty() { &session.backend_type } else { &session.application })
        }
        (actions(site, scene, session, wanted))
        dl.facts {
            (fact("user", &session.user)) (fact("database", &session.database))
            (fact("client", if session.client.is_empty() { "local socket" } else { &session.client }))
            (fact("state", &session.state)) (fact("in this state for", &seconds(session.state_s)))
            (fact("transaction open for", &seconds(session.transaction_s)))
            div { dt { "waits for" } dd { @if wait.is_empty() { "–" } @else { (wait_mark(&wait)) } } }
            (fact("connected since", &session.backend_start))
        }
        (others(target, "It waits for", &session.blocked_by))
        (others(target, "These wait for it", &session.blocks))
        h2 { @if session.state == "active" { "Its statement" } @else { "Its last statement" } }
        @if session.query.is_empty() { (parts::nothing("surus's role may not see it, or there was none: pg_read_all_stats (in pg_monitor) lets it.")) }
        @else { div.text { pre { code { (session.query) } } surus-copy {} } }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { @if value.is_empty() { "–" } @else { (value) } } } }
}

fn others(target: &str, title: &str, pids: &[i64]) -> Markup {
    html! {
        @if !pids.is_empty() {
            p {
                (title)
                ": "
                @for pid in pids {
                    @if *pid == 0 {
                        "a prepared transaction "
                    } @else {
                        a href=(target_path(target, &format!("/sessions/{pid}"))) { (pid) }
                        " "
                    }
                }
            }
        }
    }
}

/// What can be done about it: first a link, then the question with the statement before one's eyes.
fn actions(site: &Site, scene: &Scene, session: &SessionNow, wanted: Option<&str>) -> Markup {
    if let Err(error) = sessions::may_act(site) {
        return html! {
            details {
                summary { "Cancel or terminate" }
                p.faint { (error.message) }
                p.faint { "From a terminal: " code { "surus top" } "." }
            }
        };
    }
    if scene.login == Login::Out {
        return html! { p { a.chip href=(frame::login_path(Some(scene))) hx-boost="false" { "Log in to cancel or terminate it" } } };
    }
    let to = |act: &str| parts::here(scene, &[("do", Some(act))]);
    let question = match wanted {
        Some("cancel") => Some((
            "cancel",
            "Cancel its statement?",
            "Cancel the statement",
            "pg_cancel_backend: the statement ends with an error, the session and its transaction stay.",
        )),
        Some("terminate") => Some((
            "terminate",
            "Terminate the session?",
            "Terminate the session",
            "pg_terminate_backend: the connection is closed and its transaction is rolled back; its locks are free then.",
        )),
        _ => None,
    };
    html! {
        @if let Some((act, title, verb, what)) = question {
            section.confirm role="alertdialog" aria-label=(title) {
                h2 { (title) }
                p { (what) }
                pre { code { (session.query) } }
                form method="post" action=(format!("{}/{act}", scene.path)) {
                    input type="hidden" name="backend_start" value=(session.backend_start);
                    @if act == "cancel" { input type="hidden" name="query_start" value=(session.query_start.as_deref().unwrap_or_default()); }
                    label { "Why (goes into the ledger) " input name="reason" maxlength="500" size="40"; }
                    " " button.danger { (verb) }
                }
                a href=(parts::here(scene, &[("do", None)])) { "No" }
            }
        } @else {
            p.command {
                @if session.state == "active" { a.chip href=(to("cancel")) { "Cancel its statement …" } }
                a.chip href=(to("terminate")) { "Terminate the session …" }
            }
        }
    }
}

/// `POST /t/{target}/sessions/{pid}/{act}`: from the form above.
pub async fn end(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((target, pid, act)): Path<(String, i64, String)>,
    form: Form,
) -> Response {
    let act = match act.as_str() {
        "cancel" => Act::Cancel,
        _ => Act::Terminate,
    };
    let text = |name: &str| form.get(name).map(str::to_owned);
    let wanted = Wanted {
        backend_start: text("backend_start").unwrap_or_default(),
        query_start: text("query_start"),
        reason: text("reason"),
    };
    let who = Who { address: Some(peer.ip()) };
    let acted = sessions::act(&site, who, &target, pid, act, wanted).await;
    told(&target, acted)
}

fn told(target: &str, acted: Result<Acted, ApiError>) -> Response {
    let to = target_path(target, "/activity");
    let after = html! {
        p {
            a href=(to) { "‹ Activity" }
            " · "
            a href=(target_path(target, "/blocking")) { "Blocking" }
            " · "
            a href="/proofs" { "The ledger" }
        }
    };
    let body = match &acted {
        Ok(acted) => html! {
            h1 { @if acted.done { "Done" } @else { "Nothing was done" } }
            p { (acted.said) }
            @if !acted.entries.is_empty() {
                p.faint {
                    "Recorded in the ledger: "
                    @for entry in &acted.entries { a href=(format!("/proofs#entry-{entry}")) { "entry " (entry) } " " }
                }
            }
            @if let Some(why) = &acted.not_recorded { p.crit { "The outcome was not recorded: " (why) } }
            (after)
        },
        Err(error) => html! { h1 { "Nothing was done" } p.crit { (error.message) } (after) },
    };
    let status = acted.as_ref().err().map_or(axum::http::StatusCode::OK, |error| error.kind.status());
    (status, frame::plain("Ending a session", Login::In, body)).into_response()
}
