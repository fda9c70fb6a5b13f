//! Running scripts.

use super::memory::Memory;
use super::series::{Described, Item};
use super::{Command, Eval, ScriptError, Times, compare, read};
use crate::answer::{Answer, Sample, Value};
use crate::error::QueryError;
use crate::options::Options;
use crate::plan::Query;
use surus_core::series::{Labels, METRIC_NAME, stale};

/// What came of one query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Counted from 1.
    pub line: usize,
    pub query: String,
    /// Why it failed or was skipped.
    pub why: String,
}

/// What came of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub passed: usize,
    pub failed: Vec<Case>,
    pub skipped: Vec<Case>,
}

/// How a query ended, when not as expected.
enum Outcome {
    Failed(String),
    Skipped(String),
}

/// Runs a script.
///
/// # Errors
/// When it cannot be read; nothing was run then.
pub fn run(text: &str, options: &Options) -> Result<Report, ScriptError> {
    let commands = read(text)?;
    let mut report = Report::default();
    let mut memory = Memory::new();
    for command in &commands {
        match command {
            Command::Clear => memory = Memory::new(),
            Command::Load { step_ms, with_native, series } => {
                series.iter().for_each(|series| load(&mut memory, series, *step_ms, *with_native));
            }
            Command::Eval(eval) => {
                let case = |why: String| Case { line: eval.line, query: eval.query.clone(), why };
                match evaluate(eval, &memory, options) {
                    Ok(()) => report.passed += 1,
                    Err(Outcome::Failed(why)) => report.failed.push(case(why)),
                    Err(Outcome::Skipped(why)) => report.skipped.push(case(why)),
                }
            }
        }
    }
    Ok(report)
}

fn load(memory: &mut Memory, series: &Described, step_ms: i64, with_native: bool) {
    let native = if with_native { native(&series.labels) } else { None };
    let mut at_ms = 0;
    for item in &series.items {
        match item {
            Item::Value(value) => memory.add(&series.labels, at_ms, *value),
            Item::Stale => memory.add(&series.labels, at_ms, stale()),
            Item::Histogram => memory.add_histogram(&series.labels, at_ms),
            Item::Missing => {}
        }
        if let (Some(native), Item::Value(_)) = (&native, item) {
            memory.add_histogram(native, at_ms);
        }
        at_ms += step_ms;
    }
}

/// The native histogram that is made of a series of a classic one.
fn native(labels: &Labels) -> Option<Labels> {
    let metric = labels.metric()?;
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|ending| metric.strip_suffix(ending))?;
    Some(labels.with("le", "").with(METRIC_NAME, base))
}

fn evaluate(eval: &Eval, memory: &Memory, options: &Options) -> Result<(), Outcome> {
    memory.met_histograms();
    let has_histograms = eval.expected.series.iter().any(|series| series.items.contains(&Item::Histogram));
    let native = || Outcome::Skipped("native histograms".to_owned());
    let query = match Query::parse(&eval.query) {
        Ok(query) => query,
        Err(error) => {
            return match unsupported(&error) {
                Some(why) => Err(Outcome::Skipped(why)),
                None => expected_failure(eval, &error),
            };
        }
    };
    let mut outcome = match eval.times {
        Times::Range { .. } => ask(&query, eval, memory, options, eval.times),
        Times::At(at_ms) => instant(&query, eval, at_ms, memory, options),
    };
    // The runner's own repetitions may meet native histograms elsewhere; only what came of all of them counts.
    if memory.met_histograms() || has_histograms {
        outcome = Err(native());
    }
    outcome
}

/// Why a query that is not understood may be skipped.
fn unsupported(error: &QueryError) -> Option<String> {
    let listed = ["is experimental and not supported", "native histograms"];
    listed.iter().any(|text| error.message.contains(text)).then(|| error.message.clone())
}

fn expected_failure(eval: &Eval, error: &QueryError) -> Result<(), Outcome> {
    match &eval.expected.fail {
        Some(text) if text.fits(&error.message) => Ok(()),
        Some(text) => Err(Outcome::Failed(format!("the error {} was expected, not {:?}", text.shown(), error.message))),
        None => Err(Outcome::Failed(format!("{}: {error}", error.kind.as_str()))),
    }
}

/// An instant query; also held by `@` and asked at other moments.
fn instant(query: &Query, eval: &Eval, at_ms: i64, memory: &Memory, options: &Options) -> Result<(), Outcome> {
    ask_around(query, eval, at_ms, memory, options)?;
    let Some(held) = query.held_at(at_ms) else { return Ok(()) };
    let moments = match at_ms {
        0 => vec![-1000, 0, 1000],
        _ => vec![-10 * at_ms, 0, at_ms / 5, at_ms, 10 * at_ms],
    };
    moments.into_iter().try_for_each(|moment| {
        ask_around(&held, eval, moment, memory, options).map_err(|outcome| match outcome {
            Outcome::Failed(why) => Outcome::Failed(format!("held by `@`, at {moment} ms: {why}")),
            skipped @ Outcome::Skipped(_) => skipped,
        })
    })
}

fn ask_around(query: &Query, eval: &Eval, at_ms: i64, memory: &Memory, options: &Options) -> Result<(), Outcome> {
    ask(query, eval, memory, options, Times::At(at_ms))?;
    let excluded = eval.expected.range_vector.is_some()
        || eval.expected.text.is_some()
        || eval.expected.fail.is_some()
        || eval.expected.ordered
        || ["start()", "end()", "range()", "step()"].iter().any(|name| eval.query.contains(name));
    if excluded {
        return Ok(());
    }
    // The middle of a range must say the same.
    let failed = |why: String| Outcome::Failed(format!("as a range: {why}"));
    let answer = query.range(memory, at_ms - 60_000, at_ms + 60_000, 60_000, options);
    let answer = answer.map_err(|error| failed(error.to_string()))?;
    let Value::Matrix(lines) = answer.value else { return Err(failed("it is no matrix".to_owned())) };
    let samples = lines.into_iter().filter_map(|line| {
        let (_, value) = line.points.into_iter().find(|(time, _)| *time == at_ms)?;
        Some(Sample { labels: line.labels, at_ms, value })
    });
    let samples: Vec<Sample> = samples.collect();
    match (eval.expected.scalar, &samples[..]) {
        (Some(_), [only]) => {
            compare::compare(&Value::Scalar { at_ms, value: only.value }, &eval.expected, Times::At(at_ms))
        }
        _ => compare::vector(&samples, &eval.expected),
    }
    .map_err(failed)
}

fn ask(query: &Query, eval: &Eval, memory: &Memory, options: &Options, times: Times) -> Result<(), Outcome> {
    let answer = match times {
        Times::At(at_ms) => query.instant(memory, at_ms, options),
        Times::Range { start_ms, end_ms, step_ms } => query.range(memory, start_ms, end_ms, step_ms, options),
    };
    let Answer { value, warnings, infos } = match answer {
        Ok(_) if eval.expected.fail.is_some() => return Err(Outcome::Failed("an error was expected".to_owned())),
        Ok(answer) => answer,
        Err(error) => return expected_failure(eval, &error),
    };
    eval.expected.check_annotations(&warnings, &infos).map_err(Outcome::Failed)?;
    compare::compare(&value, &eval.expected, times).map_err(Outcome::Failed)
}
