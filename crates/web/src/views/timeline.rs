//! What happened: restarts, failovers, changed settings, schema changes, long vacuums, deploys.

use super::Asking;
use crate::api::answer::ApiError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use surus_store::samples::Event;

/// Events that are listed: the newest.
const ROWS: usize = 500;

/// The events of a range.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Timeline {
    /// How many there are of each kind, whatever the filter.
    pub kinds: BTreeMap<String, usize>,
    /// The kind that is shown, if only one is.
    pub kind: Option<String>,
    /// Newest first.
    pub rows: Vec<Happened>,
    /// How many older ones fit.
    pub more: usize,
}

/// An event.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Happened {
    pub at_ms: i64,
    /// The target it is about; empty for all.
    pub target: String,
    pub kind: String,
    pub title: String,
    pub detail: Value,
}

impl From<Event> for Happened {
    fn from(event: Event) -> Self {
        let Event { at_ms, target, kind, title, detail, key: _ } = event;
        Self { at_ms, target, kind, title, detail }
    }
}

/// Looks at the events: of the target that the address names, or of all.
pub fn look(asking: &Asking<'_>) -> Result<Timeline, ApiError> {
    let (scene, target) = (&asking.scene, asking.scene.target.as_ref().map(|target| target.name.as_str()));
    let mut events = asking.site.store.events(target, scene.range.window())?;
    if target.is_some() {
        // What is about all targets is about this one.
        events.extend(asking.site.store.events(Some(""), scene.range.window())?);
        events.sort_by_key(|event| event.at_ms);
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for event in &events {
        *kinds.entry(event.kind.clone()).or_default() += 1;
    }
    let kind = scene.form.get("kind").map(str::to_owned);
    let words = scene.form.get("filter").unwrap_or_default().to_lowercase();
    events.retain(|event| {
        let text = format!("{} {} {}", event.title, event.kind, event.target).to_lowercase();
        kind.as_ref().is_none_or(|kind| event.kind == *kind) && words.split_whitespace().all(|word| text.contains(word))
    });
    events.reverse();
    let more = events.len().saturating_sub(ROWS);
    events.truncate(ROWS);
    Ok(Timeline { kinds, kind, rows: events.into_iter().map(Happened::from).collect(), more })
}
