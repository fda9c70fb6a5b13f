//! Drills of healthy and of damaged backups, counted: the damaged ones must be refused with the defect named.

use crate::scene::directory;
use std::{sync::atomic::AtomicBool, time::Duration};
use surus_backup::pace::Pace;
use surus_core::{monitor::Silent, proof::Outcome};
use surus_prove::{
    drill::{self, Options, State, Step, aim::Aim},
    engine::Engine,
    scratch::Scratch,
};

/// Which cases are run, and what came of them.
pub struct Tally {
    /// All of them, or one of each kind.
    pub whole: bool,
    pub refused: u32,
    pub accepted: u32,
    pub wrong: Vec<String>,
}

impl Tally {
    pub fn new(whole: bool) -> Self {
        Self { whole, refused: 0, accepted: 0, wrong: Vec::new() }
    }

    /// Is this case run? One of each kind stands for it in the short form; `SURUS_DEFECTS='GROUP: NAME'` takes those
    /// cases only whose names hold NAME, of groups that begin with GROUP.
    pub fn wants(&self, name: &str, short: bool) -> bool {
        (self.whole || short) && only().is_none_or(|(_, only)| name.is_empty() || name.contains(&only))
    }

    /// May cases of this group be run?
    pub fn may_want(&self, group: &str) -> bool {
        only().is_none_or(|(prefix, _)| group.starts_with(&prefix) || prefix.starts_with(group))
    }

    fn wrong(&mut self, text: String) {
        eprintln!("WRONG     {text}");
        self.wrong.push(text);
    }

    /// A backup with a defect: the drill must fail, and name it.
    pub fn defect(&mut self, name: &str, engine: Result<&dyn Engine, String>, named: &[String]) {
        let text = match engine.map(|engine| drill(engine, Aim::Latest, None)) {
            Err(error) | Ok(Err(error)) => Some(error),
            Ok(Ok(report)) => (report.outcome == Outcome::Failed).then(|| failures(&report.steps)),
        };
        match text {
            None => self.wrong(format!("{name}: ACCEPTED")),
            Some(text) => match named.iter().find(|part| !text.contains(part.as_str())) {
                Some(part) => self.wrong(format!("{name}: {part:?} is not named in:\n{text}")),
                None => {
                    self.refused += 1;
                    let line = text.lines().next().unwrap_or_default();
                    eprintln!("refused   {name}: {}", line.chars().take(230).collect::<String>());
                }
            },
        }
    }

    /// A healthy backup: the drill must pass.
    pub fn healthy(&mut self, name: &str, engine: &dyn Engine, aim: Aim, label: Option<&str>) {
        match drill(engine, aim, label) {
            Ok(report) if report.outcome == Outcome::Passed && rows(&report) => {
                self.accepted += 1;
                eprintln!("accepted  {name}: {}", report.target);
            }
            Ok(report) => {
                let steps: Vec<String> =
                    report.steps.iter().map(|step| format!("{} {}", step.name, step.result)).collect();
                self.wrong(format!("{name}: REFUSED:\n{}\n{}", failures(&report.steps), steps.join("\n")));
            }
            Err(error) => self.wrong(format!("{name}: REFUSED:\n{error}")),
        }
    }

    /// Fails when something was not as it should be.
    pub fn end(self) {
        eprintln!(
            "{} defects refused and named, {} healthy accepted, {} wrong",
            self.refused,
            self.accepted,
            self.wrong.len()
        );
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n\n"));
    }
}

fn only() -> Option<(String, String)> {
    let wish = std::env::var("SURUS_DEFECTS").ok()?;
    let (prefix, name) = wish.split_once(": ")?;
    Some((prefix.to_owned(), name.to_owned()))
}

/// Were there the tables that the scene makes?
fn rows(report: &drill::Report) -> bool {
    report.measured.tables.is_some_and(|tables| tables > 3)
}

/// What the failed steps say.
fn failures(steps: &[Step]) -> String {
    let failed = steps.iter().filter(|step| step.state == State::Failed);
    failed
        .map(|step| format!("{}: {}\n{}", step.name, step.result, step.evidence.join("\n")))
        .collect::<Vec<_>>()
        .join("\n")
}

fn drill(engine: &dyn Engine, aim: Aim, label: Option<&str>) -> Result<drill::Report, String> {
    let dir = directory();
    let cancelled = AtomicBool::new(false);
    let seed = u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() % 1_000_003).unwrap();
    let options = Options {
        subject: "shop".into(),
        aim,
        cluster: None,
        backup: label.map(str::to_owned),
        seed,
        lost_at: None,
        scratch: Scratch::at(dir.path().join("scratch")),
        reserve: Some(0),
        jobs: 2,
        pace: &Pace::new(None, &cancelled),
        deep: false,
        within: Duration::from_secs(120),
        invariants: Vec::new(),
        baselines: &|_| Vec::new(),
        heartbeat: None,
        resume: false,
        watchdog: Vec::new(),
        on_step: &|_| {},
        cancelled: &cancelled,
    };
    drill::run(engine, &options, &Silent).map_err(|error| error.to_string())
}

/// The parts of a text that must be there.
pub fn named(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|&part| part.to_owned()).collect()
}
