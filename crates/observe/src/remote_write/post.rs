//! One request over HTTP, and what its answer means.

use super::{Login, Receiver, ReceiverError};
use reqwest::{
    Client, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use std::time::Duration;

/// How long a request may take.
const WITHIN: Duration = Duration::from_secs(30);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// As much of a refusal is shown.
const REASON_CHARS: usize = 300;
/// The longest pause that a receiver may ask for.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(300);

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Received,
    /// Worth trying again, after this pause if the receiver named one.
    Later {
        why: String,
        after: Option<Duration>,
    },
    /// The same would be refused again.
    Never {
        why: String,
    },
}

/// Sends requests to one receiver.
#[derive(Debug)]
pub struct Post {
    client: Client,
    url: reqwest::Url,
    login: Login,
}

impl Post {
    /// Makes everything ready.
    pub fn new(receiver: &Receiver) -> Result<Self, ReceiverError> {
        let wrong = |why: String| ReceiverError { name: receiver.name.clone(), why };
        let url = reqwest::Url::parse(&receiver.url).map_err(|error| wrong(format!("its url: {error}")))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &receiver.headers {
            let header = name.parse::<HeaderName>().map_err(|error| wrong(format!("header {name}: {error}")))?;
            // The value may be a secret: it is not repeated.
            let value =
                HeaderValue::from_str(value).map_err(|_| wrong(format!("header {name}: not a header's value")))?;
            headers.insert(header, value);
        }
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert("x-prometheus-remote-write-version", HeaderValue::from_static("0.1.0"));
        // Without encryption no certificates of the system are needed, and a small container may have none.
        let builder = match url.scheme() {
            "http" => Client::builder().tls_certs_only([]),
            _ => Client::builder(),
        };
        let client = builder
            .user_agent(concat!("surus/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // A redirect would make a GET of it, or send the password elsewhere.
            .redirect(Policy::none())
            .timeout(WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| wrong(because(&error)))?;
        Ok(Self { client, url, login: receiver.login.clone() })
    }

    /// Sends a body.
    pub async fn send(&self, body: Vec<u8>) -> Outcome {
        let request = self.client.post(self.url.clone()).body(body);
        let request = match &self.login {
            Login::None => request,
            Login::Basic { username, password } => request.basic_auth(username, Some(password.reveal())),
            Login::Bearer(token) => request.bearer_auth(token.reveal()),
        };
        match request.send().await {
            Err(error) => Outcome::Later { why: because(&error.without_url()), after: None },
            Ok(response) => {
                let (status, after) = (response.status(), retry_after(response.headers()));
                if status.is_success() {
                    return Outcome::Received;
                }
                judged(status, after, reason(response).await)
            }
        }
    }
}

/// What a status other than success means: the specification has 5xx tried again and allows it for 429.
fn judged(status: StatusCode, after: Option<Duration>, reason: String) -> Outcome {
    let why = format!("{status}{}{reason}", if reason.is_empty() { "" } else { ": " });
    // A login can be mended without a change here, and what was dropped for it would be gone.
    let temporary =
        [StatusCode::TOO_MANY_REQUESTS, StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::REQUEST_TIMEOUT];
    if status.is_server_error() || temporary.contains(&status) {
        Outcome::Later { why, after }
    } else {
        Outcome::Never { why }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_AT_MOST))
}

/// The beginning of what the receiver says, in one line.
async fn reason(mut response: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > 4 * REASON_CHARS {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(REASON_CHARS).collect()
}

/// The error with what caused it.
fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        let of = |status: u16| judged(StatusCode::from_u16(status).unwrap(), None, "no".into());
        for status in [500, 502, 503, 504, 429, 401, 403, 408] {
            assert!(matches!(of(status), Outcome::Later { .. }), "{status}");
        }
        for status in [400, 404, 409, 413, 422, 301] {
            assert!(matches!(of(status), Outcome::Never { .. }), "{status}");
        }
    }
}
