//! A restore drill: a backup is restored, recovered to a moment, started, and looked at from all sides; what was
//! measured becomes a proof.
//!
//! The steps stand in [`run`], in their order. What can be decided without doing anything is in [`aim`]; each look at
//! the copy has a file of its own. A step never ends the drill by an error: what it found is told as its result, and
//! the first step that failed decides. Only what keeps a drill from being one (no backup, no room, no program of that
//! major) is an error, and says nothing about the backup.

pub mod aim;
mod bench;
mod invariant;
mod loss;
mod pages;
mod report;
mod restore;
mod rows;
mod step;
mod structure;

pub use invariant::Invariant;
pub use loss::{Loss, Source};
pub use report::{KIND, Measured, Report, Subject, looked_at, proofs, subject};
pub use rows::{Baseline, Counted, baseline};
pub use step::{State, Step};

use crate::{
    engine::{Engine, Landed},
    error::{ProveError, Result},
    limits,
    scratch::{Place, Purpose, Scratch, Swept},
    watchdog::{self, Watchdog},
};
use aim::{Aim, Chosen};
use bench::Bench;
use jiff::Timestamp;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use step::{Found, Steps};
use surus_backup::pace::Pace;
use surus_core::{
    clock::{self, Stopwatch},
    code::{self, Code},
    monitor::Monitor,
    size::{Bytes, human_count},
};
use surus_pg::{Programs, server::Mode};

/// How a drill is to be run.
pub struct Options<'a> {
    /// The target's name or address.
    pub subject: String,
    /// Where in the WAL it goes to.
    pub aim: Aim,
    /// The cluster, for the ledger, where the backups cannot be read.
    pub cluster: Option<String>,
    /// This backup; none: the newest.
    pub backup: Option<String>,
    /// For what is left to chance.
    pub seed: u64,
    /// When the original was lost, where that is known.
    pub lost_at: Option<Timestamp>,
    pub scratch: Scratch,
    /// Bytes that stay free on the scratch filesystem; none: [`aim::reserve`].
    pub reserve: Option<u64>,
    pub jobs: usize,
    /// How fast it goes while others use the machine.
    pub pace: &'a Pace<'a>,
    /// Indexes are compared level by level, too.
    pub deep: bool,
    /// How long recovery may take.
    pub within: Duration,
    pub invariants: Vec<Invariant>,
    /// What earlier drills of a cluster counted, newest first.
    pub baselines: &'a (dyn Fn(&str) -> Vec<Baseline> + Sync),
    /// How often `surus serve` writes a heartbeat, where that is configured.
    pub heartbeat: Option<Duration>,
    /// Go on with what an interrupted drill has restored.
    pub resume: bool,
    /// The command that stops the copy when this process is killed; empty: none does.
    pub watchdog: Vec<String>,
    /// Is told each step when it is done.
    pub on_step: &'a (dyn Fn(&Step) + Sync),
    /// Somebody wants the drill to end early.
    pub cancelled: &'a AtomicBool,
}

impl Options<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Runs a drill. Blocks, for as long as a restore takes.
///
/// # Errors
/// When there is nothing to drill with: no backup, no room, no programs. Whatever else goes wrong is in the report.
pub fn run(engine: &dyn Engine, options: &Options<'_>, monitor: &dyn Monitor) -> Result<Report> {
    let started_at = clock::now();
    let mut steps = Steps::new(options.on_step);
    let limits = limits_said(limits::be_polite(options.jobs), options.pace);
    let watch = Stopwatch::start();
    let left = if options.resume { unfinished(options, engine)? } else { None };
    let swept = options.scratch.sweep()?;
    steps.add("sweep", watch, sweep_found(&swept));
    let watch = Stopwatch::start();
    let of = Subject::of(engine, options);
    let survey = match engine.survey() {
        Err(error) if blames_backups(&error) => {
            steps.add("survey", watch, report::unreadable(&of, error.code(), &error.to_string()));
            let mut report = Report::blank(of, started_at);
            (report.swept, report.limits) = (swept, limits);
            report.finish(steps.into_all());
            return Ok(report);
        }
        survey => survey?,
    };
    // What was restored half can only be completed from the same backup.
    let begun = left.as_ref().and_then(|place| place.mark.detail["backup"].as_str());
    let mut chosen = aim::choose(&survey, options.aim, begun.or(options.backup.as_deref()), options.seed)?;
    if let Some(place) = &left {
        let made = place.mark.made_at.strftime("%Y-%m-%d %H:%M:%S UTC");
        chosen.notes.push(format!("goes on with what an interrupted drill of {made} has restored"));
    }
    Programs::find(survey.major)?;
    steps.add("survey", watch, survey_found(engine, &survey));
    steps.add("choice", Stopwatch::start(), Found::good(chosen.to_string()).with(chosen.notes.clone()));
    let watch = Stopwatch::start();
    let room = aim::room(options.scratch.root(), chosen.backup.size, options.reserve)?;
    steps.add("room", watch, Found::good(room));
    let place = match left {
        Some(place) => place,
        None => options.scratch.make(Purpose::Drill, &what(options, engine), resumable(engine, &chosen))?,
    };
    let dog = Watchdog::over(&place, &options.watchdog)?;
    let mut report = Report::begin(of, options, &survey, &chosen, started_at);
    report.swept = swept;
    report.limits = limits;
    let polite = limits::PoliteServer::of(&place.data());
    let attempted = attempt(engine, options, &chosen, &place, monitor, &mut steps, &mut report);
    drop(polite);
    let watch = Stopwatch::start();
    watchdog::stop_agents(place.dir());
    let removed = place.remove();
    dog.dismiss();
    steps.add(
        "clean-up",
        watch,
        match removed {
            Ok(()) => Found::good("the copy is gone"),
            Err(error) => Found::unknown(format!("something of the copy stays until the next drill: {error}")),
        },
    );
    if options.is_cancelled() {
        return Err(ProveError::refused(code::PROVE_INTERRUPTED, "the drill was interrupted; its copy was removed"));
    }
    attempted?;
    report.finish(steps.into_all());
    Ok(report)
}

/// Codes that say that backups are not what they should be.
const OF_BACKUPS: &[Code] = &[
    code::REPO_DAMAGED,
    code::REPO_BROKEN,
    code::REPO_DENIED,
    code::ENGINE_WAL,
    code::ENGINE_DAMAGED,
    code::ENGINE_ACCESS,
    code::ENGINE_LACKS,
];

/// Do backups that cannot be opened or read for this reason make a drill of them fail? Other reasons are about this
/// machine, the network, or what was asked for, and say nothing about the backups.
pub fn is_of_backups(code: Code) -> bool {
    OF_BACKUPS.contains(&code)
}

/// As [`is_of_backups`]; what a tool says of its own repository when it is asked for its backups is of them, too.
fn blames_backups(error: &ProveError) -> bool {
    is_of_backups(error.code()) || matches!(error, ProveError::Tool { .. })
}

/// A copy's name for those who find it.
fn what(options: &Options<'_>, engine: &dyn Engine) -> String {
    format!("drill of {} from {}", options.subject, engine.address())
}

/// What the mark of a copy keeps for `--resume`.
fn resumable(engine: &dyn Engine, chosen: &Chosen) -> serde_json::Value {
    serde_json::json!({ "engine": engine.kind(), "address": engine.address(), "backup": chosen.backup.label })
}

/// The place that an interrupted drill with the same backups left, taken over.
fn unfinished(options: &Options<'_>, engine: &dyn Engine) -> Result<Option<Place>> {
    let same = |place: &Place| {
        let detail = &place.mark.detail;
        place.mark.purpose == Purpose::Drill
            && !place.mark.lasts
            && !place.mark.maker.lives()
            && detail["address"] == engine.address()
            && options.backup.as_ref().is_none_or(|label| detail["backup"] == *label)
    };
    let Some(mut place) = options.scratch.places()?.into_iter().rfind(same) else { return Ok(None) };
    surus_pg::server::kill_leftover(&place.data());
    // Only what no server has touched is a restore that can go on.
    if !surus_backup::restore::is_unfinished(&place.data()) {
        return Ok(None);
    }
    place.mark.maker = crate::scratch::Maker::myself();
    place.write()?;
    Ok(Some(place))
}

fn sweep_found(swept: &[Swept]) -> Found {
    if swept.is_empty() {
        return Found::good("nothing was left by others");
    }
    let line = |one: &Swept| {
        let server = if one.server_stopped { ", its server was stopped" } else { "" };
        let trouble = one.trouble.as_ref().map(|why| format!("; it stays: {why}")).unwrap_or_default();
        format!("{} of {}{server}{trouble}", one.what, one.made_at.strftime("%Y-%m-%d %H:%M:%S UTC"))
    };
    let gone = swept.iter().filter(|one| one.trouble.is_none()).count();
    let noun = if gone == 1 { "leftover" } else { "leftovers" };
    Found::good(format!("{gone} {noun} of interrupted runs removed")).with(swept.iter().map(line).collect())
}

fn survey_found(engine: &dyn Engine, survey: &crate::engine::Survey) -> Found {
    let fit = survey.backups.iter().filter(|held| held.trouble.is_none()).count();
    let gaps = match survey.gaps.len() {
        0 => String::new(),
        one => format!(", WAL with {one} gap{}", if one == 1 { "" } else { "s" }),
    };
    let noun = if fit == 1 { "backup" } else { "backups" };
    let text = format!("{} at {}: {fit} {noun} that can be restored{gaps}", engine.kind(), engine.address());
    let gap = |gap: &surus_core::protection::WalGap| {
        format!("WAL is missing: {} to {} ({} segments)", gap.first, gap.last, gap.segments)
    };
    Found::good(text).with(survey.gaps.iter().map(gap).chain(survey.notes.iter().cloned()).collect())
}

/// The limits, for the report.
fn limits_said(polite: String, pace: &Pace<'_>) -> String {
    match pace.rate() {
        None => polite,
        Some(rate) => format!("{polite}; {}/s while others use the machine", Bytes(rate)),
    }
}

/// Everything from the restore to the last look at the copy's files.
fn attempt(
    engine: &dyn Engine,
    options: &Options<'_>,
    chosen: &Chosen,
    place: &Place,
    monitor: &dyn Monitor,
    steps: &mut Steps<'_>,
    report: &mut Report,
) -> Result<()> {
    let began = Stopwatch::start();
    let Some(landed) = restore::files(engine, options, chosen, place, monitor, steps)? else { return Ok(()) };
    report.landed(&landed);
    if options.is_cancelled() {
        return Ok(());
    }
    let Some(mut started) = restore::server(options, chosen, &landed, place, monitor, steps, report) else {
        return Ok(());
    };
    let Some(bench) = restore::answers(&started.server, began, options.pace, steps, report) else {
        report.log_excerpt = started.server.log_tail();
        return Ok(());
    };
    look(&bench, options, chosen, &started.arrival, monitor, steps, report);
    let checksums = bench.checksums();
    let names = bench.into_names();
    let watch = Stopwatch::start();
    let stopped = started.server.stop(Mode::Fast);
    let stopped_well = stopped.is_ok();
    if steps.failed() {
        report.log_excerpt = started.server.log_tail();
    }
    steps.add(
        "stop",
        watch,
        match stopped {
            Ok(()) => Found::good("the copy's server was shut down"),
            Err(error) => Found::unknown(error.to_string()),
        },
    );
    if options.is_cancelled() {
        return Ok(());
    }
    let watch = Stopwatch::start();
    steps.add(
        "checksums",
        watch,
        match stopped_well {
            true => {
                let server = report.original();
                let look = pages::Look { data: &landed.data, place, checksums, names: &names, server: &server };
                pages::look(&look, options.pace, monitor, &mut report.measured)
            }
            false => Found::unknown("the server still runs: its files were not looked at"),
        },
    );
    Ok(())
}

/// The looks at the running copy. Each is taken, whatever the one before found.
fn look(
    bench: &Bench,
    options: &Options<'_>,
    chosen: &Chosen,
    arrival: &surus_backup::restore::start::Arrival,
    monitor: &dyn Monitor,
    steps: &mut Steps<'_>,
    report: &mut Report,
) {
    let cluster = report.cluster.clone();
    let server = report.original();
    let measured: &mut Measured = &mut report.measured;
    let mut step = |name: &'static str, act: &mut dyn FnMut(&mut Measured) -> Found| {
        if !options.is_cancelled() {
            let watch = Stopwatch::start();
            let found = act(measured);
            steps.add(name, watch, found);
        }
    };
    step("heap", &mut |measured| structure::heaps(bench, &server, options.pace, monitor, measured));
    step("btree", &mut |measured| structure::indexes(bench, &server, options, monitor, measured));
    step("invariants", &mut |_| invariant::all(bench, &options.invariants));
    let mut counted = Counted::default();
    let recovered = loss::recovered_to(chosen, arrival);
    step("rows", &mut |_| {
        let (found, all) = rows::count(bench, &(options.baselines)(&cluster), recovered, monitor);
        counted = all;
        found
    });
    let mut loss = None;
    step("rpo", &mut |_| {
        let (found, measured) = loss::look(bench, options, chosen, arrival);
        loss = measured;
        found
    });
    report.counted = counted;
    report.recovered_to = recovered;
    report.loss = loss;
}

impl Landed {
    /// In a line.
    fn said(&self) -> String {
        format!("backup {}: {} of PostgreSQL {}", self.label, Bytes(self.bytes), self.major)
    }
}

/// `3 tables`, `1 table`.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", human_count(i64::try_from(count).unwrap_or(i64::MAX)), if count == 1 { one } else { many })
}
