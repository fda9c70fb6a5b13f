//! Asking a surus that runs, or any Prometheus, over HTTP.

use crate::{config::Config, failure::Failure};
use reqwest::{Client, RequestBuilder, StatusCode, Url, header::AUTHORIZATION, redirect::Policy};
use serde_json::Value as Json;
use std::{net::IpAddr, time::Duration};
use surus_core::{
    code,
    secret::{Secret, masked},
};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(130);
/// How large an answer may be.
const MOST_BYTES: usize = 256 << 20;

/// How to be let in, where the address does not say it.
pub enum Login {
    Token(Secret),
    Password(Secret),
}

/// Who is asked.
pub struct Remote {
    client: Client,
    url: Url,
    login: Option<Login>,
    /// The flag that names the address.
    flag: &'static str,
}

impl Remote {
    /// `flag` is the one that gave the address, for messages. A token is taken from SURUS_TOKEN.
    pub fn new(url: &str, flag: &'static str) -> Result<Self, Failure> {
        let url = Url::parse(url).map_err(|error| unreachable(format!("{flag}: {error}")))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(unreachable(format!("{flag} begins with neither http:// nor https://")));
        }
        // Another one that is installed already is as good.
        let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = Client::builder().timeout(WITHIN).redirect(Policy::none()).build().map_err(unreachable)?;
        let login = std::env::var("SURUS_TOKEN").ok().map(|token| Login::Token(Secret::new(token)));
        Ok(Self { client, url, login, flag })
    }

    /// The surus that runs with this configuration.
    pub fn running(config: &Config, flag: &'static str) -> Result<Self, Failure> {
        let mut address = config.serve.listen;
        if address.ip().is_unspecified() {
            let v4 = address.is_ipv4();
            address.set_ip(if v4 { IpAddr::from([127, 0, 0, 1]) } else { IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]) });
        }
        let login = match (&config.serve.token, &config.serve.password) {
            (Some(token), _) => Some(Login::Token(token.resolve("serve.token")?)),
            (None, Some(password)) => Some(Login::Password(password.resolve("serve.password")?)),
            (None, None) => None,
        };
        Ok(Self::new(&format!("http://{address}"), flag)?.with_login(login))
    }

    /// Lets this in, in place of a token of the environment.
    pub fn with_login(self, login: Option<Login>) -> Self {
        Self { login: login.or(self.login), ..self }
    }

    /// The answer to a GET.
    pub async fn get(&self, path: &str, pairs: &[(&'static str, String)]) -> Result<Json, Failure> {
        let mut url = self.address(path);
        url.query_pairs_mut().clear().extend_pairs(pairs);
        self.answer(self.client.get(url)).await
    }

    /// Whatever is answered to a GET of a path that has these parts, with its status.
    pub async fn text(
        &self,
        parts: &[&str],
        pairs: &[(&'static str, String)],
    ) -> Result<(StatusCode, String), Failure> {
        let mut url = self.address("");
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts);
        }
        url.query_pairs_mut().clear().extend_pairs(pairs);
        let (status, body) = self.bytes(self.client.get(url)).await?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The answer to a POST of JSON.
    pub async fn post(&self, path: &str, body: &Json) -> Result<Json, Failure> {
        let request = self.client.post(self.address(path)).header("content-type", "application/json");
        self.answer(request.body(body.to_string())).await
    }

    /// The address without the login that may stand in it: that goes into a header and not into what is asked for.
    fn address(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
        url.set_query(None);
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Json, Failure> {
        let (status, body) = self.bytes(request).await?;
        serde_json::from_slice(&body).map_err(|_| {
            let flag = self.flag;
            unreachable(format!("what came is no answer of that API (HTTP status {status}); is {flag} right?"))
        })
    }

    async fn bytes(&self, mut request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Failure> {
        let (user, password) = (self.url.username(), self.url.password());
        if !user.is_empty() || password.is_some() {
            request = request.basic_auth(user, password);
        } else {
            request = match &self.login {
                Some(Login::Token(token)) => request.header(AUTHORIZATION, format!("Bearer {}", token.reveal())),
                Some(Login::Password(password)) => request.basic_auth("surus", Some(password.reveal())),
                None => request,
            };
        }
        let mut response = request.send().await.map_err(|error| unreachable(because(&error)))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(because(&error)))? {
            body.extend_from_slice(&chunk);
            if body.len() > MOST_BYTES {
                return Err(unreachable(format!("the answer has more than {MOST_BYTES} bytes")));
            }
        }
        Ok((status, body))
    }
}

/// Nobody answered, or not in the way that was expected.
pub fn unreachable(why: impl std::fmt::Display) -> Failure {
    Failure::new(code::PROMQL_REMOTE, masked(&format!("nothing was answered: {why}")))
}

/// An error with its causes.
fn because(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
