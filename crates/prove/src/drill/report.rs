//! What a drill found, as data, and the proofs that the ledger keeps of it.

use super::{
    Options,
    aim::Chosen,
    loss::{Loss, Source},
    rows::{self, Counted},
    step::{Found, State, Step, Steps, short},
};
use crate::{
    engine::{Engine, Kind, Landed, Survey},
    scratch::Swept,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use surus_backup::restore::start::Arrival;
use surus_core::{
    clock::{self, Stopwatch},
    code::Code,
    proof::{Measure, Outcome, Proof, ProofStep},
    readiness::ITEMS,
    size::{human_count, human_seconds},
};
use surus_pg::quote::shell as word;

/// What the kind of these proofs is called in the ledger.
pub const KIND: &str = "restore";
/// The item "restores tested".
const RESTORES: u8 = 5;
/// The item "disaster recovery".
const DISASTER: u8 = 14;
/// The steps that make up the recovery time.
const OF_RTO: &[&str] = &["restore", "recovery", "answer"];

/// Numbers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Measured {
    /// From the start of the restore until the promoted server answered.
    pub rto_seconds: Option<f64>,
    /// How much of that the drill waited because others used the machine.
    pub held_seconds: Option<f64>,
    /// Of the restored files.
    pub bytes: Option<u64>,
    pub tables: Option<u64>,
    pub tables_damaged: Option<u64>,
    pub indexes: Option<u64>,
    pub indexes_damaged: Option<u64>,
    pub pages: Option<u64>,
    pub pages_damaged: Option<u64>,
}

/// A drill that was run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub outcome: Outcome,
    pub engine: Kind,
    /// Where the backups are.
    pub address: String,
    pub off_site: Option<bool>,
    /// The system identifier, where it is known.
    pub cluster: String,
    pub subject: String,
    /// Its label; empty where none was chosen.
    pub backup: String,
    pub target: String,
    pub seed: u64,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    pub measured: Measured,
    /// What would have been lost.
    pub loss: Option<Loss>,
    pub counted: Counted,
    /// The moment that the copy was of.
    pub recovered_to: Option<Timestamp>,
    pub steps: Vec<Step>,
    pub log_excerpt: String,
    /// What was run to restore, for the runbook.
    pub commands: Vec<String>,
    /// How the drill was held back.
    pub limits: String,
    /// What others had left.
    pub swept: Vec<Swept>,
}

/// Whose backups a drill is of, as far as that is known before they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub engine: Kind,
    /// Where the backups are.
    pub address: String,
    pub off_site: Option<bool>,
    /// The system identifier; where nobody knows it, the name.
    pub cluster: String,
    /// The target's name or address.
    pub name: String,
}

impl Subject {
    pub(super) fn of(engine: &dyn Engine, options: &Options<'_>) -> Self {
        let known = engine.system_identifier().map(|id| id.to_string()).or_else(|| options.cluster.clone());
        Self {
            engine: engine.kind(),
            address: engine.address(),
            off_site: engine.off_site(),
            cluster: known.unwrap_or_else(|| options.subject.clone()),
            name: options.subject.clone(),
        }
    }
}

impl Report {
    pub(super) fn begin(
        of: Subject,
        options: &Options<'_>,
        survey: &Survey,
        chosen: &Chosen,
        started_at: Timestamp,
    ) -> Self {
        Self {
            cluster: survey.system_identifier.map_or_else(|| of.cluster.clone(), |id| id.to_string()),
            backup: chosen.backup.label.clone(),
            target: chosen.target.goal.to_string(),
            seed: options.seed,
            ..Self::blank(of, started_at)
        }
    }

    /// A drill that came to an end before a backup was chosen: they cannot be read.
    ///
    /// `error` is why, with its code; it is told as the only step, which failed.
    pub fn unread(of: Subject, started_at: Timestamp, code: Code, error: &str) -> Self {
        let mut steps = Steps::new(&|_| {});
        steps.add("survey", Stopwatch::start(), unreadable(&of, code, error));
        let mut report = Self::blank(of, started_at);
        report.finish(steps.into_all());
        report
    }

    pub(super) fn blank(of: Subject, started_at: Timestamp) -> Self {
        Self {
            outcome: Outcome::Failed,
            engine: of.engine,
            address: of.address,
            off_site: of.off_site,
            cluster: of.cluster,
            subject: of.name,
            backup: String::new(),
            target: String::new(),
            seed: 0,
            started_at,
            finished_at: started_at,
            measured: Measured::default(),
            loss: None,
            counted: Counted::default(),
            recovered_to: None,
            steps: Vec::new(),
            log_excerpt: String::new(),
            commands: Vec::new(),
            limits: String::new(),
            swept: Vec::new(),
        }
    }

    /// The server that the backup is of, as a word for surus's own commands.
    pub(super) fn original(&self) -> String {
        if self.subject == self.address { "TARGET".to_owned() } else { word(&self.subject) }
    }

    pub(super) fn landed(&mut self, landed: &Landed) {
        self.backup.clone_from(&landed.label);
        self.commands.clone_from(&landed.commands);
        self.measured.bytes = Some(landed.bytes);
    }

    pub(super) fn arrived(&mut self, _: &Arrival, log: &str) {
        log.clone_into(&mut self.log_excerpt);
    }

    pub(super) fn finish(&mut self, steps: Vec<Step>) {
        self.finished_at = clock::now();
        // What was never come to is not proven either: there is a failed step in that case.
        let failed = steps.iter().any(|step| step.state == State::Failed);
        self.outcome = if failed || self.measured.rto_seconds.is_none() { Outcome::Failed } else { Outcome::Passed };
        self.steps = steps;
    }

    /// The step that decided against the backup.
    pub fn first_failure(&self) -> Option<&Step> {
        self.steps.iter().find(|step| step.state == State::Failed)
    }

    /// The part of the recovery time that took longest.
    pub fn slowest(&self) -> Option<&Step> {
        let of_rto = self.steps.iter().filter(|step| OF_RTO.contains(&step.name));
        of_rto.max_by(|one, other| one.duration_ms.total_cmp(&other.duration_ms))
    }

    /// The recovery time in words, with what took longest.
    pub fn rto_text(&self) -> Option<String> {
        let rto = human_seconds(self.measured.rto_seconds?);
        let slowest = self
            .slowest()
            .map(|step| format!("; the {} took longest ({})", step.title(), human_seconds(step.duration_ms / 1000.0)));
        Some(rto + &slowest.unwrap_or_default())
    }

    /// The data loss in words.
    pub fn rpo_text(&self) -> Option<String> {
        let loss = self.loss?;
        let seconds = human_seconds(loss.rpo_seconds);
        Some(match loss.source {
            Source::Heartbeat => seconds,
            Source::LastTransaction | Source::BackupEnd => format!("at most {seconds}"),
        })
    }

    /// All of it in a sentence.
    pub fn summary(&self) -> String {
        if let Some(step) = self.first_failure() {
            return format!("{}: {}", step.title(), step.result);
        }
        let rto = self.rto_text().map(|text| format!(", RTO {text}")).unwrap_or_default();
        let rpo = self.rpo_text().map(|text| format!(", RPO {text}")).unwrap_or_default();
        let blind: Vec<&str> = self.steps.iter().filter(|step| step.state == State::Unknown).map(Step::title).collect();
        let blind = if blind.is_empty() { String::new() } else { format!("; not looked at: {}", blind.join(", ")) };
        format!("backup {} restored up to {}{rto}{rpo}{blind}", self.backup, self.target)
    }
}

/// How the ledger calls the backups of a drill.
pub fn subject(engine: Kind, address: &str) -> String {
    format!("{engine} at {address}")
}

/// The step that says that the backups cannot be read.
pub(super) fn unreadable(of: &Subject, code: Code, error: &str) -> Found {
    let lines: Vec<String> = error.lines().map(str::to_owned).collect();
    let text = format!("{} at {} cannot be read: {}", of.engine, of.address, short(error));
    let found = Found::bad(text, code.next);
    if lines.len() > 1 { found.with(lines) } else { found }
}

/// The ledger's entries: one for the item "restores tested", and for an off-site repository one for "disaster
/// recovery", which counts longer.
pub fn proofs(report: &Report, surus_version: &str) -> Vec<Proof> {
    let subject = subject(report.engine, &report.address);
    let mut all = vec![proof(report, surus_version, RESTORES, subject.clone())];
    if report.off_site == Some(true) {
        all.push(proof(report, surus_version, DISASTER, format!("{subject}, off-site")));
    }
    all
}

fn proof(report: &Report, surus_version: &str, item: u8, subject: String) -> Proof {
    let life = ITEMS.iter().find(|one| one.id == item).map_or(1, |one| i64::from(one.life_days));
    Proof {
        kind: KIND.into(),
        items: vec![item],
        cluster: report.cluster.clone(),
        subject,
        started_at: report.started_at,
        finished_at: report.finished_at,
        outcome: report.outcome,
        measured: measures(report),
        steps: steps(report),
        log_excerpt: report.log_excerpt.clone(),
        surus_version: surus_version.to_owned(),
        expires_at: report.finished_at.checked_add(SignedDuration::from_hours(24 * life)).ok(),
        undo: None,
    }
}

fn steps(report: &Report) -> Vec<ProofStep> {
    let told = |step: &Step| {
        let head = match step.state {
            State::Passed => "",
            State::Failed => "failed: ",
            State::Unknown => "unknown: ",
        };
        let evidence: String = step.evidence.iter().map(|line| format!("\n{line}")).collect();
        let advice = step.advice.as_ref().map(|advice| format!("\nwhat to do: {advice}")).unwrap_or_default();
        let result = format!("{head}{}{evidence}{advice}", step.result);
        ProofStep { what: step.title().to_owned(), result, duration_ms: step.duration_ms }
    };
    let mut all: Vec<ProofStep> = report.steps.iter().map(told).collect();
    if !report.commands.is_empty() {
        let result = report.commands.join("\n");
        all.push(ProofStep { what: "commands".into(), result, duration_ms: 0.0 });
    }
    // The last one is what the readiness item says of itself.
    let took = report.finished_at.duration_since(report.started_at).as_secs_f64() * 1000.0;
    all.push(ProofStep { what: "result".into(), result: report.summary(), duration_ms: took });
    all
}

fn measures(report: &Report) -> Vec<Measure> {
    let measured = &report.measured;
    let mut all = Vec::new();
    let mut put = |name: &str, value: Option<f64>, unit: &str| {
        all.extend(value.map(|value| Measure::new(name, value, unit)));
    };
    let count = |value: Option<u64>| value.map(|value| value as f64);
    put("rto", measured.rto_seconds, "s");
    put("rto_held_back", measured.held_seconds, "s");
    put("rpo", report.loss.map(|loss| loss.rpo_seconds), "s");
    let exact = report.loss.map(|loss| f64::from(u8::from(loss.source == Source::Heartbeat)));
    put("rpo_is_exact", exact, "bool");
    put("bytes", count(measured.bytes), "bytes");
    put("tables", count(measured.tables), "tables");
    put("tables_damaged", count(measured.tables_damaged), "tables");
    put("indexes", count(measured.indexes), "indexes");
    put("indexes_damaged", count(measured.indexes_damaged), "indexes");
    put("pages", count(measured.pages), "pages");
    put("pages_damaged", count(measured.pages_damaged), "pages");
    put("rows", (!report.counted.tables.is_empty()).then_some(report.counted.total as f64), "rows");
    put(rows::RECOVERED, report.recovered_to.map(|time| time.as_second() as f64), "s since 1970");

    all.extend(rows::measures(&report.counted).map(|(name, rows)| Measure::new(name, rows, "rows")));
    all
}

/// What a reader sees of the numbers: `41 tables, 63 indexes, 12 345 pages`.
pub fn looked_at(measured: &Measured) -> String {
    let parts = [(measured.tables, "tables"), (measured.indexes, "indexes"), (measured.pages, "pages")];
    let said = |(count, noun): &(Option<u64>, &str)| {
        count.map(|count| format!("{} {noun}", human_count(i64::try_from(count).unwrap_or(i64::MAX))))
    };
    parts.iter().filter_map(said).collect::<Vec<_>>().join(", ")
}
