//! Restore drills from a page: behind a login, one at a time, as a process of its own that the binary starts.
//!
//! This room does not know how a drill is run: whoever makes the site says it, as [`Drills`].

use crate::{
    Site,
    access::Who,
    api::answer::{Answer, ApiError, ErrorType},
};
use axum::extract::{ConnectInfo, Path, State};
use schemars::JsonSchema;
use serde::Serialize;
use std::{net::SocketAddr, sync::Arc};

/// What runs drills.
pub trait Drills: Send + Sync {
    /// The repositories that are configured, by name.
    fn repositories(&self) -> Vec<String>;
    /// The command of a drill of this target, as words.
    ///
    /// # Errors
    /// Why it cannot be drilled.
    fn command(&self, target: &str) -> Result<Vec<String>, String>;
    /// Starts it.
    ///
    /// # Errors
    /// Why it was not started: another one runs, or the program does not start.
    fn start(&self, target: &str) -> Result<(), String>;
    /// The target's drill that runs, else its last one since surus started.
    fn last(&self, target: &str) -> Option<Drilling>;
}

/// A drill that was started from a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drilling {
    pub target: String,
    /// As one would type it.
    pub command: String,
    pub started_ms: i64,
    /// None while it runs.
    pub finished_ms: Option<i64>,
    /// None while it runs. 0: proven; 1: the drill failed; else it could not be run.
    pub exit_status: Option<i32>,
    /// What it has said so far.
    pub said: String,
}

/// What came of asking for a drill.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Started {
    pub command: String,
}

/// The command of a drill as one would type it.
///
/// # Errors
/// Why it cannot be drilled.
pub fn command(site: &Site, target: &str) -> Result<String, String> {
    let none = || "this surus was started without the means to run drills".to_owned();
    let words = site.drills.as_ref().ok_or_else(none)?.command(target)?;
    Ok(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-=:@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// May drills be started from here at all?
///
/// # Errors
/// When no login is configured.
pub fn may_start(site: &Site) -> Result<(), ApiError> {
    if site.access.asks() {
        return Ok(());
    }
    let text = "Nothing was done: drills are started only by somebody who is logged in, and no login is configured. Set \
                [serve] password = \"file:/etc/surus/password\" (or token) in surus.toml and restart surus.";
    Err(ApiError::new(ErrorType::Forbidden, text))
}

/// Starts a drill of a target. The caller has seen to it that whoever asks is logged in and that no other site made
/// them ask.
///
/// # Errors
/// When no login is configured, and when the drill was not started.
pub fn start(site: &Site, who: &Who, target: &str) -> Result<Started, ApiError> {
    may_start(site)?;
    if !site.observatory.targets().iter().any(|now| now.name == target) {
        return Err(ApiError::new(ErrorType::NotFound, format!("surus watches no target of the name \"{target}\"")));
    }
    let refused = |why: String| ApiError::new(ErrorType::Forbidden, format!("no drill was started: {why}"));
    let command = command(site, target).map_err(refused)?;
    site.drills.as_ref().map_or(Ok(()), |drills| drills.start(target)).map_err(refused)?;
    tracing::warn!(%target, peer = ?who.address, "a restore drill was started from the pages");
    Ok(Started { command })
}

/// `POST …/targets/{target}/drill`
pub async fn start_one(
    State(site): State<Arc<Site>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(target): Path<String>,
) -> Result<Answer, ApiError> {
    Ok(Answer::data(&start(&site, &Who { address: Some(peer.ip()) }, &target)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_typed() {
        assert_eq!(quoted("/usr/bin/surus"), "/usr/bin/surus");
        assert_eq!(quoted("shop primary"), "'shop primary'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
