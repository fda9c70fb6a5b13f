//! Pages for people.

pub mod activity;
pub mod backups;
pub mod blocking;
mod collectors;
pub mod explore;
pub mod findings;
pub mod fleet;
pub mod frame;
pub mod host;
pub mod indexes;
pub mod instance;
pub mod parts;
pub mod places;
pub mod proofs;
pub mod queries;
pub mod query;
pub mod replication;
pub mod runbook;
pub mod session;
pub mod tables;
pub mod timeline;
pub mod vacuum;
pub mod words;

pub use collectors::collectors;

use crate::access::Login;
use axum::{
    extract::Query,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use frame::plain;
use maud::html;
use serde::Deserialize;

/// Only what this server itself gives may be loaded, run and asked; nothing frames.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Headers that every answer carries.
pub async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut set = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    set(header::CONTENT_SECURITY_POLICY, POLICY);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::REFERRER_POLICY, "same-origin");
    set(header::CACHE_CONTROL, "no-store");
    response
}

/// What the login page is called with.
#[derive(Deserialize)]
pub struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /login`
pub async fn login(Query(Next { next }): Query<Next>) -> Html<String> {
    login_form(&next, false)
}

/// The login page.
pub fn login_form(next: &str, wrong: bool) -> Html<String> {
    plain(
        "Log in",
        Login::Absent,
        html! {
            h1 { "surus" }
            @if wrong {
                p.crit { "That was not the password." }
            }
            form.login method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                // For the browser's memory of passwords; surus has one password and no user names.
                input type="hidden" name="username" autocomplete="username" value="surus";
                label for="password" { "Password or token" }
                input #password type="password" name="password" autocomplete="current-password" required autofocus;
                button { "Log in" }
            }
            p.faint { "It is set by [serve] password or token in surus.toml." }
        },
    )
}

/// Any other address.
pub async fn not_found() -> Response {
    let page = plain(
        "Not found",
        Login::Absent,
        html! {
            h1 { "There is no such page" }
            p { a href="/" { "To the first page" } }
        },
    );
    (StatusCode::NOT_FOUND, page).into_response()
}

#[cfg(test)]
pub mod tests {
    use surus_observe::{TargetNow, Why};

    /// A target without answers.
    pub fn target(up: bool) -> TargetNow {
        TargetNow {
            name: "shop <primary>".into(),
            cluster: Some("shop".into()),
            server: "db1:5432".into(),
            up,
            since_ms: 0,
            trouble: (!up).then(|| Why::error(surus_core::code::CONNECT_REFUSED, "db1:5432 refused")),
            version: None,
            role: Some("primary"),
            system_identifier: None,
            places: None,
            connections: 0,
            skipped: 0,
            answers: Vec::new(),
            collectors: Vec::new(),
            missing: Vec::new(),
        }
    }
}
