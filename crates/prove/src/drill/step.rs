//! What a drill does and finds, step by step.

use serde::Serialize;
use surus_core::clock::Stopwatch;

/// How much evidence a step keeps.
const EVIDENCE_LINES: usize = 60;
/// How long a line of it may be, in characters.
const LINE: usize = 400;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Passed,
    Failed,
    /// It could not look; the reason is its result.
    Unknown,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    pub name: &'static str,
    pub state: State,
    /// In a line.
    pub result: String,
    /// What supports it: relations, blocks, the server's words, notes.
    pub evidence: Vec<String>,
    /// What to do about a failure.
    pub advice: Option<String>,
    pub duration_ms: f64,
}

impl Step {
    /// What it does, for people.
    pub fn title(&self) -> &'static str {
        match self.name {
            "sweep" => "leftovers",
            "survey" => "backups",
            "choice" => "chosen",
            "room" => "room",
            "restore" => "restore",
            "recovery" => "recovery",
            "answer" => "first answer",
            "heap" => "tables",
            "btree" => "indexes",
            "invariants" => "invariants",
            "rows" => "row counts",
            "rpo" => "data loss",
            "stop" => "shutdown",
            "checksums" => "page checksums",
            "clean-up" => "clean-up",
            other => other,
        }
    }
}

/// What a step found, before it is timed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub state: State,
    pub result: String,
    pub evidence: Vec<String>,
    pub advice: Option<String>,
}

impl Found {
    pub fn good(result: impl Into<String>) -> Self {
        Self { state: State::Passed, result: result.into(), evidence: Vec::new(), advice: None }
    }

    pub fn bad(result: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state: State::Failed, result: result.into(), evidence: Vec::new(), advice: Some(advice.into()) }
    }

    pub fn unknown(result: impl Into<String>) -> Self {
        Self { state: State::Unknown, ..Self::good(result) }
    }

    /// With its evidence, as much of it as a proof should carry.
    pub fn with(mut self, lines: Vec<String>) -> Self {
        let more = lines.len().saturating_sub(EVIDENCE_LINES);
        self.evidence = lines.into_iter().take(EVIDENCE_LINES).map(|line| short(&line)).collect();
        if more > 0 {
            self.evidence.push(format!("and {more} more"));
        }
        self
    }
}

/// At most so many characters, in one line.
pub(crate) fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LINE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

/// All steps so far.
pub(crate) struct Steps<'a> {
    all: Vec<Step>,
    on_step: &'a (dyn Fn(&Step) + Sync),
}

impl<'a> Steps<'a> {
    pub fn new(on_step: &'a (dyn Fn(&Step) + Sync)) -> Self {
        Self { all: Vec::new(), on_step }
    }

    /// A step is done; its time is that of the stopwatch.
    pub fn add(&mut self, name: &'static str, watch: Stopwatch, found: Found) {
        let Found { state, result, evidence, advice } = found;
        let step = Step { name, state, result, evidence, advice, duration_ms: watch.elapsed_ms() };
        (self.on_step)(&step);
        self.all.push(step);
    }

    pub fn failed(&self) -> bool {
        self.all.iter().any(|step| step.state == State::Failed)
    }

    pub fn into_all(self) -> Vec<Step> {
        self.all
    }
}
