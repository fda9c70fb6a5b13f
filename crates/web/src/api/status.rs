//! What answers here, and what is known about metrics and targets.

use super::{
    answer::{Answer, ApiError},
    form::Form,
    work,
};
use crate::Site;
use axum::extract::State;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use surus_core::series::MetricKind;
use surus_observe::TargetNow;

/// The version of Prometheus whose API and PromQL are spoken: Grafana chooses by it what it asks.
const SPEAKS: &str = "3.4.0";

/// `/api/v1/status/buildinfo`
pub async fn build_info() -> Answer {
    Answer::data(&json!({
        "version": SPEAKS,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "surus",
        "applicationVersion": env!("CARGO_PKG_VERSION"),
    }))
}

/// `/api/v1/rules`: surus evaluates none yet.
pub async fn rules() -> Answer {
    Answer::data(&json!({ "groups": [] }))
}

/// `/api/v1/alerts`
pub async fn alerts() -> Answer {
    Answer::data(&json!({ "alerts": [] }))
}

/// `/api/v1/metadata`
pub async fn metadata(State(site): State<Arc<Site>>, form: Form) -> Result<Answer, ApiError> {
    let metric = form.get("metric").map(str::to_owned);
    let limit = form.limit("limit")?;
    let all = work::run(&site, work::LONGEST, move |source, _| Ok(source.metadata(metric.as_deref())?)).await?;
    let one = |kind: MetricKind, help: String| {
        let kind = if kind == MetricKind::Unknown { "unknown" } else { kind.as_str() };
        json!([{ "type": kind, "help": help, "unit": "" }])
    };
    let all: Map<String, Value> = all
        .into_iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|metadata| (metadata.metric, one(metadata.kind, metadata.help)))
        .collect();
    Ok(Answer::data(&all))
}

/// `/api/v1/targets`: those that surus watches, in the shape of Prometheus's scrape targets.
pub async fn targets(State(site): State<Arc<Site>>) -> Answer {
    let active: Vec<Value> = site.observatory.targets().iter().map(|target| one_target(target)).collect();
    Answer::data(&json!({ "activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {} }))
}

fn one_target(target: &TargetNow) -> Value {
    let newest_ms = target.answers.iter().map(|answer| answer.at_ms).max();
    let newest = newest_ms.and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    let seconds = target.collectors.iter().map(|collector| collector.duration_ms).sum::<f64>() / 1000.0;
    let mut labels = json!({ "job": "postgres", "instance": target.name });
    if let Some(cluster) = &target.cluster {
        labels["cluster"] = json!(cluster);
    }
    json!({
        "discoveredLabels": { "__address__": target.server },
        "labels": labels,
        "scrapePool": "postgres",
        "scrapeUrl": "",
        "globalUrl": "",
        "lastError": target.trouble.as_ref().map(|why| why.text.as_str()).unwrap_or_default(),
        "lastScrape": newest.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string(),
        "lastScrapeDuration": seconds,
        "health": if target.up { "up" } else { "down" },
    })
}
