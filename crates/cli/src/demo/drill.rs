//! A restore is proven before the user's eyes, by the command that a user has, as a process of its own.

use super::{
    repository::Repository,
    stop::{Ended, Stop},
};
use crate::{failure::Failure, paint::Paint};
use serde::Serialize;
use serde_json::Value;
use std::{path::PathBuf, process::Stdio};
use surus_core::{clock::Stopwatch, code, size::human_seconds};
use surus_pg::{LocalServer, Session};
use tokio::process::Command;

/// A drill, and what it did to the score.
#[derive(Debug, Clone, Serialize)]
pub struct Proven {
    pub outcome: String,
    pub rto_seconds: Option<f64>,
    pub rpo_seconds: Option<f64>,
    pub entries: Vec<i64>,
    pub seconds: f64,
    pub score_before: u8,
    pub score_after: u8,
}

/// Who carries it out.
pub struct Actor<'a> {
    pub repository: &'a Repository,
    pub primary: &'a LocalServer,
    pub session: &'a Session,
    pub data_dir: PathBuf,
    pub stop: &'a Stop,
}

impl Actor<'_> {
    /// Proves that the backup comes back; the scores are for the caller to fill in.
    pub async fn prove(&self) -> Result<Proven, Ended> {
        let watch = Stopwatch::start();
        let said = self.surus(&["prove", "restore", "primary", "--format", "json"]).await?;
        let value: Value = serde_json::from_str(&said).map_err(|error| Failure::bug(format!("{error}: {said}")))?;
        let entries = value["ledger"].as_array().into_iter().flatten().filter_map(Value::as_i64).collect();
        Ok(Proven {
            outcome: value["outcome"].as_str().unwrap_or_default().to_owned(),
            rto_seconds: value["report"]["measured"]["rto_seconds"].as_f64(),
            rpo_seconds: value["report"]["loss"]["rpo_seconds"].as_f64(),
            entries,
            seconds: watch.elapsed().as_secs_f64(),
            score_before: 0,
            score_after: 0,
        })
    }

    /// One of surus's own commands; gives what it says.
    pub async fn surus(&self, words: &[&str]) -> Result<String, Ended> {
        let mut command = Command::new(self.repository.program());
        command.arg("--config").arg(self.repository.config()).arg("--data-dir").arg(&self.data_dir).arg("--quiet");
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        self.said(command, words[0]).await
    }

    /// What a command says, when it succeeds.
    pub async fn said(&self, mut command: Command, name: &str) -> Result<String, Ended> {
        let running = async {
            let output = command.output().await;
            let output = output.map_err(|error| Failure::bug(format!("{name} did not start: {error}")))?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(Failure::new(code::PROVE_FAILED, format!("{name}: {said}")))
        };
        self.stop.or(running).await
    }
}

/// The drill, for people.
pub fn proven_text(proven: &Proven) -> String {
    let time = |seconds: Option<f64>| seconds.map_or_else(|| "not measured".to_owned(), human_seconds);
    let mark = match proven.outcome.as_str() {
        "passed" => Paint::good("✓ proven"),
        _ => Paint::crit("✗ it failed"),
    };
    let entries: Vec<String> = proven.entries.iter().map(ToString::to_string).collect();
    format!(
        "{}\n  {}  {mark} in {}: RTO {}, RPO {}  {}\n  readiness {} → {} of 100\n",
        Paint::strong("A restore, proven"),
        Paint::code("surus prove restore primary"),
        human_seconds(proven.seconds),
        time(proven.rto_seconds),
        time(proven.rpo_seconds),
        Paint::faint(format!("entry {} of the ledger", entries.join(", "))),
        proven.score_before,
        Paint::good(proven.score_after.to_string()),
    )
}
