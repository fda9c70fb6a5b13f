//! `surus query`: asking in PromQL what was measured.

mod plot;
mod remote;
mod table;
mod times;

use crate::{
    args::{DataFormat, Global, QueryArgs},
    config::Config,
    failure::Failure,
    ledger,
    output::{json, print},
    paint::Paint,
    remote::Remote,
    wrap,
};
use std::{io::Write, path::Path};
use surus_core::clock;
use surus_promql::{Answer, Options, QueryError, Value};
use surus_store::samples::{self, SampleStore, Settings};
use times::Range;
pub(super) use times::{moment, shown};

/// For which moments is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    At(i64),
    Over(Range),
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::new(error.code(), format!("the query was not answered: {error}"))
    }
}

/// Runs the command.
pub async fn run(global: &Global, args: QueryArgs) -> Result<u8, Failure> {
    let now_ms = clock::now().as_millisecond();
    let when = match &args.from {
        None => When::At(args.at.as_deref().map_or(Ok(now_ms), |at| moment(at, now_ms))?),
        Some(from) => {
            let (from, to) = (from.as_str(), args.to.as_deref());
            When::Over(Range::read(from, to, args.step.as_deref(), now_ms, plot::columns(wrap::width()))?)
        }
    };
    let answer = match &args.url {
        Some(url) => remote::ask(&Remote::new(url, "--url")?, &args.query, when).await?,
        None => {
            let config = Config::load(global.config.as_deref())?;
            let ledger = ledger::path(global, &config)?;
            let path = samples::path_in(ledger.parent().unwrap_or(Path::new(".")));
            let query = args.query.clone();
            let asked = tokio::task::spawn_blocking(move || from_file(&path, &query, when));
            asked.await.map_err(|error| Failure::bug(error.to_string()))??
        }
    };
    if args.format == DataFormat::Json {
        print(&json(&as_json(&answer))?)?;
        return Ok(0);
    }
    let width = wrap::width();
    print(&match (&answer.value, when) {
        (Value::Matrix(lines), When::Over(range)) if !lines.is_empty() => plot::drawn(lines, range, width),
        (value, _) => table::of(value),
    })?;
    if !global.quiet {
        say(&answer);
    }
    Ok(0)
}

fn from_file(path: &Path, query: &str, when: When) -> Result<Answer, Failure> {
    // The query is read first: a slip in it is said without opening a file.
    let query = surus_promql::Query::parse(query)?;
    let store = SampleStore::open_read_only(path, Settings::default())?;
    let options = Options::default();
    Ok(match when {
        When::At(at_ms) => query.instant(&store, at_ms, &options)?,
        When::Over(range) => query.range(&store, range.start_ms, range.end_ms, range.step_ms, &options)?,
    })
}

/// What the user should know about the answer, beside it.
fn say(answer: &Answer) {
    let mut out = anstream::stderr().lock();
    // Nothing can be done about a closed standard error.
    for text in answer.warnings.iter().chain(&answer.infos) {
        let _ = writeln!(out, "{}", Paint::faint(text));
    }
    if table::is_empty(&answer.value) {
        let _ = writeln!(out, "No series: nothing that fits was measured then, or a comparison left nothing.");
    }
}

/// As Prometheus's HTTP API has it.
fn as_json(answer: &Answer) -> serde_json::Value {
    use serde_json::json;
    let labels = |labels: &surus_core::series::Labels| -> serde_json::Value {
        labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>().into()
    };
    let point = |at_ms: i64, value: f64| json!([at_ms as f64 / 1000.0, surus_promql::number_text(value)]);
    let result = match &answer.value {
        Value::Scalar { at_ms, value } => point(*at_ms, *value),
        Value::Text { at_ms, text } => json!([*at_ms as f64 / 1000.0, text]),
        Value::Vector(samples) => samples
            .iter()
            .map(|sample| json!({ "metric": labels(&sample.labels), "value": point(sample.at_ms, sample.value) }))
            .collect(),
        Value::Matrix(lines) => lines
            .iter()
            .map(|line| {
                let values: Vec<_> = line.points.iter().map(|(at_ms, value)| point(*at_ms, *value)).collect();
                json!({ "metric": labels(&line.labels), "values": values })
            })
            .collect(),
    };
    json!({
        "resultType": answer.value.kind(),
        "result": result,
        "warnings": answer.warnings,
        "infos": answer.infos,
    })
}
