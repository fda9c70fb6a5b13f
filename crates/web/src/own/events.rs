//! Events: what happened, for the timeline; and marks that people and deployments set on it.

use crate::{
    Site,
    api::{
        answer::{Answer, ApiError, ErrorType},
        form::Form,
        work,
    },
    views::timeline::Happened,
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use surus_core::{clock, code};
use surus_store::samples::{Event, EventError};

/// Events that are taken in a minute: a timeline with more shows nothing.
const PER_MINUTE: u32 = 60;

/// What a POST brings. Keys that are not known are refused: a slip would otherwise be lost silently.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Given {
    at_ms: Option<i64>,
    #[serde(default)]
    target: String,
    kind: String,
    title: String,
    #[serde(default)]
    detail: Value,
    key: Option<String>,
}

/// What a GET answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Events {
    events: Vec<Happened>,
}

/// What a POST answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Kept {
    /// False when an event with its key was there already.
    kept: bool,
}

/// How many events were taken in this minute.
#[derive(Debug, Default)]
pub(crate) struct Adding(Mutex<(i64, u32)>);

impl Adding {
    fn allows(&self, now_ms: i64) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_ms.div_euclid(60_000);
        if taken.0 != minute {
            *taken = (minute, 0);
        }
        taken.1 += 1;
        taken.1 <= PER_MINUTE
    }
}

fn wrong(why: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorType::BadData, format!("the event was not kept: {why} ({})", code::EVENT_REFUSED))
}

/// `GET /events`: those of one target and those of none, or all; oldest first, at most the newest ten thousand.
pub async fn list(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    let window = form.window_named("from", "to")?;
    let target = form.get("target").map(str::to_owned);
    let kind = form.get("kind").map(str::to_owned);
    let store = Arc::clone(&site.store);
    let events = work::run(&site, work::LONGEST, move |_, _| {
        let mut events = store.events(target.as_deref(), window)?;
        if target.as_deref().is_some_and(|target| !target.is_empty()) {
            // What concerns no target in particular concerns each.
            events.extend(store.events(Some(""), window)?);
            events.sort_by_key(|event| event.at_ms);
        }
        events.retain(|event| kind.as_ref().is_none_or(|kind| *kind == event.kind));
        Ok(events)
    })
    .await?;
    Ok(Answer::data(&Events { events: events.into_iter().map(Happened::from).collect() }))
}

/// `POST /events`: keeps one.
pub async fn add(State(site): State<Arc<Site>>, given: Result<Json<Given>, JsonRejection>) -> Result<Answer, ApiError> {
    // A form of another site can send no JSON; the guard has looked at the origin already.
    let Json(given) = given.map_err(|error| wrong(error.body_text()))?;
    let now_ms = clock::now_ms();
    let Given { at_ms, target, kind, title, detail, key } = given;
    let event = Event { at_ms: at_ms.unwrap_or(now_ms), target, kind, title, detail, key };
    event.check(now_ms).map_err(|EventError(why)| wrong(why))?;
    if !site.adding.allows(now_ms) {
        let text = format!("more than {PER_MINUTE} events in this minute; try again in the next one");
        return Err(ApiError::new(ErrorType::Timeout, format!("the event was not kept: {text}")));
    }
    let store = Arc::clone(&site.store);
    let kept = work::run(&site, work::LONGEST, move |_, _| Ok(store.append_event(&event)?)).await?;
    Ok(Answer::data(&Kept { kept }))
}
