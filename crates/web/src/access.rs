//! Who may ask: a password (HTTP basic authentication or a login page with a session cookie) or a bearer token.
//!
//! Without either, only loopback is listened on, and only questions that were addressed to loopback are answered: a web
//! page elsewhere that makes a browser ask this machine by a name of its own (DNS rebinding) gets nothing.

mod failures;
mod origin;
mod sessions;

use crate::{Site, pages};
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use axum::{
    Form,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};
use base64::Engine;
use failures::Failures;
use serde::Deserialize;
use sessions::{COOKIE, Sessions};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use surus_core::secret::Secret;

/// The SHA-256 of a secret: of equal length for all, so that comparing says nothing about the length.
type Fingerprint = [u8; 32];

/// What is asked of who comes, and who has come.
#[derive(Debug)]
pub struct Access {
    password: Option<Fingerprint>,
    token: Option<Fingerprint>,
    /// Reading needs no login from this machine itself.
    open_reading: bool,
    sessions: Sessions,
    failures: Failures,
}

/// What a page says of the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// None is configured.
    Absent,
    /// Whoever looks has not logged in: reading is open.
    Out,
    In,
}

/// Who asks for something to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Who {
    /// Where the request came from.
    pub address: Option<IpAddr>,
}

/// What the login page sends.
#[derive(Deserialize)]
pub struct LoginForm {
    password: String,
    #[serde(default)]
    next: String,
}

/// What a request shows of itself.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Wrong,
    Right,
}

impl Access {
    /// With a password, a token, both, or neither.
    pub fn new(password: Option<&Secret>, token: Option<&Secret>) -> Self {
        let of = |secret: &Secret| fingerprint(secret.reveal().as_bytes());
        Self {
            password: password.map(of),
            token: token.map(of),
            open_reading: false,
            sessions: Sessions::default(),
            failures: Failures::default(),
        }
    }

    /// Is anything asked of who comes?
    pub fn asks(&self) -> bool {
        self.password.is_some() || self.token.is_some()
    }

    /// Whatever changes nothing needs no login when it was addressed to loopback; the rest still does.
    #[must_use]
    pub fn with_open_reading(self) -> Self {
        Self { open_reading: true, ..self }
    }

    /// How a request with these headers stands to the login.
    pub fn login(&self, headers: &HeaderMap) -> Login {
        match (self.asks(), self.is_logged_in(headers)) {
            (false, _) => Login::Absent,
            (true, false) => Login::Out,
            (true, true) => Login::In,
        }
    }

    /// Is whoever sends these headers logged in, by a cookie, a password or a token?
    pub fn is_logged_in(&self, headers: &HeaderMap) -> bool {
        self.asks() && (self.sessions.knows(headers) || self.authorization(headers) == Shown::Right)
    }

    fn is_password(&self, given: &str) -> bool {
        self.password.is_some_and(|own| same(&own, given))
    }

    fn is_token(&self, given: &str) -> bool {
        self.token.is_some_and(|own| same(&own, given))
    }

    /// The credentials of the `Authorization` header. The user's name does not matter: there is one password.
    fn authorization(&self, headers: &HeaderMap) -> Shown {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Shown::Nothing };
        let right = value.to_str().ok().and_then(|value| value.split_once(' ')).is_some_and(|(scheme, rest)| {
            let rest = rest.trim();
            match scheme.to_ascii_lowercase().as_str() {
                "bearer" => self.is_token(rest),
                "basic" => basic_password(rest).is_some_and(|password| self.is_password(&password)),
                _ => false,
            }
        });
        if right { Shown::Right } else { Shown::Wrong }
    }
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn same(own: &Fingerprint, given: &str) -> bool {
    verify_slices_are_equal(own, &fingerprint(given.as_bytes())).is_ok()
}

/// The password of `base64(user:password)`, RFC 7617.
fn basic_password(encoded: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// May be seen by everybody: it says nothing about a database.
fn is_open(path: &str) -> bool {
    ["/-/healthy", "/-/ready", "/login"].contains(&path) || path.starts_with("/static/")
}

/// Lets a request through, or says what it needs.
pub async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let (access, headers, path) = (&site.access, request.headers(), request.uri().path());
    if !access.asks() && !origin::is_for_loopback(&request) {
        return refused(
            StatusCode::MISDIRECTED_REQUEST,
            "Nothing was answered: without a password surus answers only to localhost and loopback addresses.\n\
             Set [serve] password in surus.toml to reach it under another name.\n",
        );
    }
    // The API of Prometheus only reads, whatever the method.
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && !path.starts_with("/api/v1/") && !origin::is_own(headers) {
        return refused(StatusCode::FORBIDDEN, "Nothing was done: the request comes from another site.\n");
    }
    let reads = !changes || path.starts_with("/api/v1/");
    if access.open_reading && reads && origin::is_for_loopback(&request) {
        return next.run(request).await;
    }
    if !access.asks() || is_open(path) || access.sessions.knows(headers) {
        return next.run(request).await;
    }
    let peer = peer(&request);
    let shown = access.authorization(headers);
    if shown != Shown::Nothing && access.failures.too_many(peer) {
        return too_many();
    }
    match shown {
        Shown::Right => next.run(request).await,
        Shown::Wrong => {
            access.failures.note(peer);
            tracing::warn!(peer = ?peer, "somebody came with a wrong password or token");
            unauthorized()
        }
        Shown::Nothing if wants_page(&request) => {
            let query: String =
                form_urlencoded::Serializer::new(String::new()).append_pair("next", &page_of(&request)).finish();
            Redirect::to(&format!("/login?{query}")).into_response()
        }
        Shown::Nothing => unauthorized(),
    }
}

/// The address that asks; requests that did not come over a socket have none.
fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

/// Is it a browser that opens a page, or sends the form of one?
fn wants_page(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.contains("text/html") && !request.uri().path().starts_with("/api/")
}

/// The page that is opened, or the one whose form is sent: where to go after the login.
fn page_of(request: &Request) -> String {
    let own = |uri: &Uri| uri.path_and_query().map_or_else(|| "/".to_owned(), |path| path.as_str().to_owned());
    if request.method() == Method::GET {
        return own(request.uri());
    }
    let from = request.headers().get(header::REFERER).and_then(|from| from.to_str().ok()?.parse().ok());
    from.as_ref().map_or_else(|| "/".to_owned(), own)
}

fn refused(status: StatusCode, text: &'static str) -> Response {
    (status, text).into_response()
}

fn unauthorized() -> Response {
    let ask = [(header::WWW_AUTHENTICATE, "Basic realm=\"surus\", charset=\"UTF-8\"")];
    (StatusCode::UNAUTHORIZED, ask, "A password or a token is needed.\n").into_response()
}

fn too_many() -> Response {
    let wait = [(header::RETRY_AFTER, failures::WINDOW.as_secs().to_string())];
    (StatusCode::TOO_MANY_REQUESTS, wait, "Too many wrong passwords from this address; wait a minute.\n")
        .into_response()
}

/// `POST /login`: the right password gets a session cookie.
pub async fn log_in(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    let (access, peer) = (&site.access, Some(peer.ip()));
    if access.failures.too_many(peer) {
        return too_many();
    }
    if !access.is_password(&form.password) && !access.is_token(&form.password) {
        access.failures.note(peer);
        tracing::warn!(peer = ?peer, "somebody came with a wrong password");
        return (StatusCode::UNAUTHORIZED, pages::login_form(&form.next, true)).into_response();
    }
    let Some(cookie) = access.sessions.begin() else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "Nobody was logged in: the system has no random numbers.\n");
    };
    // A proxy before surus that encrypts says so; a browser then keeps the cookie from unencrypted requests.
    let encrypted = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
    let cookie = if encrypted { format!("{cookie}; Secure") } else { cookie };
    ([(header::SET_COOKIE, cookie)], Redirect::to(own_path(&form.next))).into_response()
}

/// `POST /logout`: the session ends.
pub async fn log_out(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    site.access.sessions.end(&headers);
    let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response()
}

/// Where to go after the login: a path of this server, never another site.
fn own_path(next: &str) -> &str {
    let own = next.starts_with('/') && !next.starts_with("//") && !next.contains(['\\', '\r', '\n']);
    if own { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn shown(access: &Access, value: &str) -> Shown {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        access.authorization(&headers)
    }

    #[test]
    fn the_password_and_the_token_are_told_apart() {
        let access = Access::new(Some(&Secret::new("geheim:1")), Some(&Secret::new("abc")));
        // surus:geheim:1, surus:geheim, and no colon at all.
        assert_eq!(shown(&access, "Basic c3VydXM6Z2VoZWltOjE="), Shown::Right);
        assert_eq!(shown(&access, "Basic c3VydXM6Z2VoZWlt"), Shown::Wrong);
        assert_eq!(shown(&access, "Basic c3VydXM="), Shown::Wrong);
        assert_eq!(shown(&access, "bearer abc"), Shown::Right);
        assert_eq!(shown(&access, "Bearer geheim:1"), Shown::Wrong);
        assert_eq!(shown(&access, "Bearer"), Shown::Wrong);
        assert_eq!(shown(&access, "Digest x"), Shown::Wrong);
        assert_eq!(access.authorization(&HeaderMap::new()), Shown::Nothing);
        // With a token only, an empty password does not fit.
        let access = Access::new(None, Some(&Secret::new("abc")));
        assert_eq!(shown(&access, "Basic c3VydXM6"), Shown::Wrong);
    }

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(own_path("/collectors?a=b"), "/collectors?a=b");
        for foreign in ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\r\nb"] {
            assert_eq!(own_path(foreign), "/", "{foreign}");
        }
    }
}
