//! `surus event`: marks on the timeline, and what is on it.

use crate::{
    args::{DataFormat, EventAdd, EventList, EventVerb, Global},
    command::query::{moment, shown},
    config::Config,
    failure::Failure,
    ledger,
    output::{json, print},
    remote::Remote,
};
use serde_json::{Value, json};
use std::{path::PathBuf, time::Duration};
use surus_core::{clock, code, series::Window};
use surus_store::samples::{self, Event, EventError, SampleStore, Settings};

/// Where events are in surus's own API.
const PATH: &str = "api/surus/v1/events";

/// How often the file is tried while somebody who does not answer has it, and the pause between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Runs the command.
pub async fn run(global: &Global, verb: EventVerb) -> Result<u8, Failure> {
    match verb {
        EventVerb::Add(args) => add(global, args).await,
        EventVerb::List(args) => list(global, args).await,
    }
}

fn refused(why: impl std::fmt::Display) -> Failure {
    Failure::new(code::EVENT_REFUSED, format!("the event was not kept: {why}"))
}

async fn add(global: &Global, args: EventAdd) -> Result<u8, Failure> {
    let now_ms = clock::now_ms();
    let event = Event {
        at_ms: args.at.as_deref().map_or(Ok(now_ms), |at| moment(at, now_ms))?,
        target: args.target.unwrap_or_default(),
        kind: args.kind,
        title: args.title,
        detail: match &args.detail {
            Some(text) => {
                serde_json::from_str(text).map_err(|error| refused(format!("--detail is no JSON: {error}")))?
            }
            None => Value::Null,
        },
        key: args.key,
    };
    event.check(now_ms).map_err(|EventError(why)| refused(why))?;
    let kept = match &args.server {
        Some(url) => post(&Remote::new(url, "--server")?, &event).await?,
        None => keep(global, event).await?,
    };
    if !global.quiet {
        print(if kept { "Kept.\n" } else { "An event with this key is there already; nothing was added.\n" })?;
    }
    Ok(0)
}

/// Writes it into the store, or gives it to the surus that holds the store.
async fn keep(global: &Global, event: Event) -> Result<bool, Failure> {
    let config = Config::load(global.config.as_deref())?;
    let path = store_path(global, &config)?;
    let mut tries = 0;
    loop {
        let (path, written) = (path.clone(), event.clone());
        let direct = tokio::task::spawn_blocking(move || {
            SampleStore::open(&path, Settings::default()).and_then(|store| store.append_event(&written))
        });
        match direct.await.map_err(|error| Failure::bug(error.to_string()))? {
            Err(error) if error.is_taken() => {}
            other => return Ok(other?),
        }
        tries += 1;
        match post(&Remote::running(&config, "--server")?, &event).await {
            // Another `surus event add` has the file for a moment only.
            Err(failure) if failure.code.id == code::PROMQL_REMOTE.id && tries < TRIES => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(failure) if failure.code.id == code::PROMQL_REMOTE.id => {
                let at = config.serve.listen;
                let text = format!("the file is held by a surus that does not answer at {at}, name it with --server");
                return Err(Failure::new(failure.code, format!("the event was not kept: {text}: {}", failure.message)));
            }
            other => return other,
        }
    }
}

async fn post(remote: &Remote, event: &Event) -> Result<bool, Failure> {
    let mut body = json!({ "at_ms": event.at_ms, "target": event.target, "kind": event.kind, "title": event.title,
                           "detail": event.detail });
    if let Some(key) = &event.key {
        body["key"] = json!(key);
    }
    let answer = success(remote.post(PATH, &body).await?)?;
    answer["kept"].as_bool().ok_or_else(|| refused("the answer has a shape that is not known"))
}

/// The data of an answer that is one.
fn success(mut answer: Value) -> Result<Value, Failure> {
    if answer["status"] == "success" {
        return Ok(answer["data"].take());
    }
    let why = answer["error"].as_str().unwrap_or("no reason was given").to_owned();
    Err(Failure::new(code::EVENT_REFUSED, why))
}

async fn list(global: &Global, args: EventList) -> Result<u8, Failure> {
    let now_ms = clock::now_ms();
    let from = moment(&args.from, now_ms)?;
    // A mark may be a little ahead of this machine's clock.
    let to = args.to.as_deref().map_or(Ok(now_ms + 60_000), |to| moment(to, now_ms))?;
    if to < from {
        return Err(Failure::new(code::PROMQL_TIME, "nothing was asked: the range ends before it begins"));
    }
    let window = Window { after_ms: from.saturating_sub(1), until_ms: to };
    let events = match &args.server {
        Some(url) => asked(&Remote::new(url, "--server")?, &args, window).await?,
        None => {
            let path = store_path(global, &Config::load(global.config.as_deref())?)?;
            let target = args.target.clone();
            let read = tokio::task::spawn_blocking(move || {
                let store = SampleStore::open_read_only(&path, Settings::default())?;
                let mut events = store.events(target.as_deref(), window)?;
                if target.is_some() {
                    events.extend(store.events(Some(""), window)?);
                    events.sort_by_key(|event| event.at_ms);
                }
                Ok::<_, Failure>(events)
            });
            let events = read.await.map_err(|error| Failure::bug(error.to_string()))??;
            let wanted = events.into_iter().filter(|event| args.kind.as_ref().is_none_or(|kind| *kind == event.kind));
            let one = |event: Event| {
                json!({ "at_ms": event.at_ms, "target": event.target, "kind": event.kind, "title": event.title,
                        "detail": event.detail })
            };
            wanted.map(one).collect()
        }
    };
    if args.format == DataFormat::Json {
        print(&json(&json!({ "events": events }))?)?;
        return Ok(0);
    }
    print(&table(&events))?;
    Ok(0)
}

async fn asked(remote: &Remote, args: &EventList, window: Window) -> Result<Vec<Value>, Failure> {
    let seconds = |at_ms: i64| format!("{}.{:03}", at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
    let mut pairs = vec![("from", seconds(window.after_ms.saturating_add(1))), ("to", seconds(window.until_ms))];
    pairs.extend(args.target.clone().map(|target| ("target", target)));
    pairs.extend(args.kind.clone().map(|kind| ("kind", kind)));
    let mut data = success(remote.get(PATH, &pairs).await?)?;
    match data["events"].take() {
        Value::Array(events) => Ok(events),
        _ => Err(Failure::new(code::PROMQL_REMOTE, "nothing was listed: the answer has a shape that is not known")),
    }
}

fn store_path(global: &Global, config: &Config) -> Result<PathBuf, Failure> {
    let ledger = ledger::path(global, config)?;
    Ok(samples::path_in(&ledger.parent().map(PathBuf::from).unwrap_or_default()))
}

fn table(events: &[Value]) -> String {
    if events.is_empty() {
        return "No events: nothing was noticed or marked then.\n".to_owned();
    }
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let width = |key: &str| events.iter().map(|event| text(event, key).chars().count()).max().unwrap_or(0);
    let (targets, kinds) = (width("target"), width("kind"));
    let line = |event: &Value| {
        let at = shown(event["at_ms"].as_i64().unwrap_or_default());
        let (target, kind, title) = (text(event, "target"), text(event, "kind"), text(event, "title"));
        format!("{at}  {target:targets$}  {kind:kinds$}  {title}\n")
    };
    events.iter().map(line).collect()
}
