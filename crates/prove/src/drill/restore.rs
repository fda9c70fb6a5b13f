//! The files come back, the server starts, recovers, is promoted and answers.

use super::{
    Options,
    aim::Chosen,
    bench::Bench,
    report::Report,
    step::{Found, Steps, short},
};
use crate::{
    copy::{self, Started, Wish},
    engine::{Engine, Landed, Order},
    error::{ProveError, Result},
    scratch::Place,
};
use surus_backup::{
    pace::Pace,
    restore::{
        start::Arrival,
        target::{Action, Goal},
    },
    wal::name::Segment,
};
use surus_core::{
    clock::Stopwatch,
    code::{self, Code},
    lsn::Lsn,
    monitor::Monitor,
    size::{Bytes, human_seconds},
};
use surus_pg::LocalServer;

/// Errors that say something about the machine that drills, and nothing about the backup.
const OF_THIS_MACHINE: &[Code] = &[
    code::RESTORE_ROOM,
    code::RESTORE_FETCH,
    code::BACKUP_NO_ROOM,
    code::PROVE_ROOM,
    code::PROVE_SCRATCH,
    code::LOCAL_PROGRAMS,
    code::LOCAL_ROOT,
    code::LOCAL_DIRECTORY,
    code::REPO_UNREACHABLE,
];

/// What the server says when no transaction after the target time is in the archive.
const NOT_REACHED: &str = "recovery ended before configured recovery target was reached";
/// Seconds held back that are worth a word.
const TOLD: f64 = 0.1;
/// How much of the server's log a proof keeps, in lines.
const LOG_LINES: usize = 30;

/// Restores the files.
pub fn files(
    engine: &dyn Engine,
    options: &Options<'_>,
    chosen: &Chosen,
    place: &Place,
    monitor: &dyn Monitor,
    steps: &mut Steps<'_>,
) -> Result<Option<Landed>> {
    let watch = Stopwatch::start();
    let label = Some(chosen.backup.label.as_str()).filter(|label| !label.is_empty());
    let order =
        Order { backup: label, target: &chosen.target, place, jobs: options.jobs, pace: Some(options.pace), monitor };
    match engine.restore(&order) {
        Ok(landed) => {
            let rate = landed.bytes as f64 / watch.elapsed().as_secs_f64().max(0.001);
            let result = format!("{}, {}/s", landed.said(), Bytes(rate as u64));
            // A copy never archives: that is no news here.
            let notes = landed.notes.iter().filter(|note| !note.contains("--keep-archiving")).cloned().collect();
            steps.add("restore", watch, Found::good(result).with(notes));
            Ok(Some(landed))
        }
        // That is no fault of the backup.
        Err(error) if OF_THIS_MACHINE.contains(&error.code()) => Err(error),
        Err(error) => {
            let lines = error.to_string().lines().map(str::to_owned).collect();
            let text = format!("{} did not come back: {}", chosen.backup.label, short(&error.to_string()));
            steps.add("restore", watch, Found::bad(text, restore_advice(engine, &error)).with(lines));
            Ok(None)
        }
    }
}

fn restore_advice(engine: &dyn Engine, error: &ProveError) -> String {
    let own = engine.kind() == crate::engine::Kind::Surus;
    match error.code() {
        code if code.id == code::RESTORE_TARGET.id && own => {
            "See what is missing with surus wal list; a new backup begins a new, whole window: surus backup run --full."
                .into()
        }
        code if code.id == code::REPO_DAMAGED.id => {
            "surus backup verify says what else is damaged; take a full backup now: surus backup run --full.".into()
        }
        code => code.next.to_owned(),
    }
}

/// Starts the server and waits until it has recovered and takes writes.
pub fn server(
    options: &Options<'_>,
    chosen: &Chosen,
    landed: &Landed,
    place: &Place,
    monitor: &dyn Monitor,
    steps: &mut Steps<'_>,
    report: &mut Report,
) -> Option<Started> {
    let watch = Stopwatch::start();
    let mut wish = Wish {
        action: Action::Promote,
        within: options.within,
        port: None,
        settings: vec![("log_timezone".into(), "UTC".into())],
    };
    let mut started = copy::start(landed, place, &wish, monitor);
    let mut notes = Vec::new();
    let mut to_the_end = chosen.target.goal == Goal::Latest;
    if chosen.by_chance && started.as_ref().is_err_and(|error| error.to_string().contains(NOT_REACHED)) {
        // A moment after the last transaction is no worse a target than the end itself.
        notes.push("no transaction after the moment is in the WAL: recovery went to its end".into());
        wish.settings.push(("recovery_target_time".into(), String::new()));
        to_the_end = true;
        started = copy::start(landed, place, &wish, monitor);
    }
    match started {
        Ok(started) => {
            notes.extend(arrival_notes(&started.arrival));
            notes.extend(started.notes.iter().cloned());
            report.arrived(&started.arrival, &excerpt(&started.server.log()));
            if let Some(why) = falls_short(landed, &started.arrival).filter(|_| to_the_end) {
                let advice = "That segment is damaged in the archive, or holds other WAL than its name says. Moments \
                    before it can be reached; a new backup begins a new window.";
                steps.add("recovery", watch, Found::bad(why, advice).with(notes));
                return None;
            }
            steps.add("recovery", watch, Found::good(recovered(landed, &started.arrival)).with(notes));
            Some(started)
        }
        Err(error) => {
            let text = error.to_string();
            let log = std::fs::read_to_string(landed.data.join("postgresql.log")).unwrap_or_default();
            let lines: Vec<String> = match complaints(&log) {
                lines if lines.is_empty() => text.lines().map(str::to_owned).collect(),
                lines => lines,
            };
            report.log_excerpt = last_lines(if log.is_empty() { &text } else { &log });
            let first = text.lines().next().unwrap_or_default();
            let why = lines.first().map_or(first, String::as_str);
            let advice = "The server's own words are above. Missing WAL: surus wal list shows the gap, and a new full \
                backup begins a new window. A file that is missing or cannot be read was not in the backup: take a new \
                one, and drill it.";
            steps.add(
                "recovery",
                watch,
                Found::bad(format!("it does not come up: {}", short(why)), advice).with(lines),
            );
            None
        }
    }
}

/// Did the replay end before the last segment that is archived? The server takes damaged WAL for the end of it.
fn falls_short(landed: &Landed, arrival: &Arrival) -> Option<String> {
    let newest = landed.replays_to?;
    let reached: Lsn = arrival.lsn.as_ref()?.parse().ok()?;
    let at = Segment::at(newest.timeline, reached, newest.size);
    (at.number < newest.number).then(|| {
        format!("WAL could be replayed up to {reached} in segment {at} only, and the archive goes on to {newest}: {at} or {} is damaged", at.next())
    })
}

fn recovered(landed: &Landed, arrival: &Arrival) -> String {
    if !landed.recovers {
        return format!("the server came up in {}", human_seconds(arrival.seconds));
    }
    let to = arrival.lsn.as_ref().map(|lsn| format!("replayed up to {lsn}, ")).unwrap_or_default();
    let timeline = arrival.timeline.map_or_else(|| "promoted".into(), |line| format!("promoted on timeline {line}"));
    format!("{to}{timeline}")
}

fn arrival_notes(arrival: &Arrival) -> Vec<String> {
    let last = arrival.time.as_ref().map(|time| format!("last transaction at {time}"));
    arrival.stopped.iter().cloned().chain(last).collect()
}

/// The lines in which a server says that something is wrong; the gravest first.
fn complaints(log: &str) -> Vec<String> {
    let of = |mark: &'static str| log.lines().filter(move |line| line.contains(mark)).map(str::to_owned);
    let mut all: Vec<String> = of("PANIC: ").chain(of("FATAL: ")).chain(of("ERROR: ")).collect();
    all.extend(of("WARNING: ").chain(of("HINT: ")).chain(of("DETAIL: ")));
    all.dedup();
    all
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// What a log says of recovery.
fn excerpt(log: &str) -> String {
    let telling = [
        "starting point-in-time recovery",
        "starting archive recovery",
        "starting backup recovery",
        "consistent recovery state reached",
        "completed backup recovery",
        "recovery stopping",
        "redo done",
        "last completed transaction",
        "selected new timeline",
        "archive recovery complete",
        "ready to accept connections",
    ];
    let lines: Vec<&str> = log.lines().filter(|line| telling.iter().any(|words| line.contains(words))).collect();
    last_lines(&lines.join("\n"))
}

/// The first answer, which ends the recovery time; then what there is to be looked at is read.
pub fn answers(
    server: &LocalServer,
    began: Stopwatch,
    pace: &Pace<'_>,
    steps: &mut Steps<'_>,
    report: &mut Report,
) -> Option<Bench> {
    let watch = Stopwatch::start();
    match Bench::open(server) {
        Ok(mut bench) => {
            let rto = began.elapsed().as_secs_f64();
            report.measured.rto_seconds = Some(rto);
            bench.read_all();
            let held = pace.held().as_secs_f64();
            let mut text = format!("{} after the restore began", human_seconds(rto));
            if held >= TOLD {
                report.measured.held_seconds = Some(held);
                text += &format!(", {} of them held back while others used the machine", human_seconds(held));
            }
            steps.add("answer", watch, Found::good(text));
            Some(bench)
        }
        Err(error) => {
            let advice = "The server came up and lets nobody in: its log is in the proof.";
            steps.add("answer", watch, Found::bad(short(&error.to_string()), advice));
            None
        }
    }
}
