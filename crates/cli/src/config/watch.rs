//! The sections of `surus serve`.

use super::{
    quantity::{Size, Span},
    secret_ref::SecretRef,
};
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};
use surus_observe::collectors;

/// `[serve]`: where surus listens and who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    pub listen: SocketAddr,
    pub password: Option<SecretRef>,
    pub token: Option<SecretRef>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7432)), password: None, token: None }
    }
}

/// `[observe]`: how often is looked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObserveConfig {
    pub activity: Span,
    pub counters: Span,
    pub detail: Span,
    pub slow: Span,
    /// Collectors that run only when they are named here.
    pub also: Vec<String>,
}

impl Default for ObserveConfig {
    fn default() -> Self {
        let seconds = |seconds| Span(Duration::from_secs(seconds));
        Self { activity: seconds(1), counters: seconds(10), detail: seconds(30), slow: seconds(600), also: Vec::new() }
    }
}

/// `[samples]`: how much is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SamplesConfig {
    pub keep: Span,
    pub keep_long: Span,
    pub max_bytes: Option<Size>,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        let days = |days: u64| Span(Duration::from_secs(days * 86_400));
        Self { keep: days(15), keep_long: days(400), max_bytes: None }
    }
}

/// A `[[remote_write]]`: another store that gets every sample.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteWriteConfig {
    /// How it is named in logs and metrics.
    pub name: String,
    pub url: String,
    pub username: Option<String>,
    pub password: Option<SecretRef>,
    pub token: Option<SecretRef>,
    /// Put on every series that does not have them.
    #[serde(default)]
    pub external_labels: BTreeMap<String, String>,
    /// Further headers, such as a tenant.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// How much may wait on disk while it does not answer.
    pub max_bytes: Option<Size>,
}

/// Shortest and longest interval that makes sense.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));

impl ObserveConfig {
    /// What is wrong with it.
    pub fn judge(&self) -> Result<(), String> {
        let all =
            [("activity", self.activity), ("counters", self.counters), ("detail", self.detail), ("slow", self.slow)];
        for (name, Span(interval)) in all {
            if interval < INTERVALS.0 || interval > INTERVALS.1 {
                return Err(format!("observe.{name} must be between 1s and 1d"));
            }
        }
        if let Err(unknown) = collectors::with(&self.also) {
            let names: Vec<&str> = collectors::OPT_IN.iter().map(|collector| collector.name).collect();
            return Err(format!("observe.also has \"{unknown}\", which is none of: {}", names.join(", ")));
        }
        Ok(())
    }
}

impl RemoteWriteConfig {
    /// What is wrong with it.
    pub fn judge(&self) -> Result<(), String> {
        let wrong = |why: &str| Err(format!("remote_write \"{}\": {why}", self.name));
        let rest = self.url.strip_prefix("http://").or_else(|| self.url.strip_prefix("https://"));
        match rest {
            None | Some("") => return wrong("url must begin with http:// or https://"),
            Some(rest) if rest.split('/').next().unwrap_or_default().contains('@') => {
                return wrong("url must not hold a password: use username and password = \"file:…\"");
            }
            Some(_) => {}
        }
        if self.token.is_some() && (self.username.is_some() || self.password.is_some()) {
            return wrong("give either token or username and password");
        }
        if self.username.is_some() != self.password.is_some() {
            return wrong("username and password go together");
        }
        match self.external_labels.keys().find(|name| !surus_core::series::is_label_name(name)) {
            Some(bad) => wrong(&format!("\"{bad}\" is no name for a label")),
            None => Ok(()),
        }
    }
}
