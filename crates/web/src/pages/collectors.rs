//! The page of collectors: what each one reads, how it is, and what it costs.

use super::{
    frame, places,
    words::{ago, span, why},
};
use crate::views::{Asking, Scene};
use axum::response::Response;
use maud::{Markup, html};
use surus_observe::{CollectorNow, State as CollectorState, TargetNow};

/// `/collectors`
pub async fn collectors(asked: frame::Asked) -> Response {
    frame::show(asked, &places::COLLECTORS, |_: &Asking<'_>| Ok(()), body).await
}

fn body(scene: &Scene, (): &()) -> Markup {
    let snapshot = &scene.snapshot;
    html! {
        h1 { "Collectors" }
        p.faint { "What surus reads, how often, and what it costs the server. Those that fail come first." }
        @for target in &snapshot.targets { (section(target, snapshot.at_ms)) }
        @if snapshot.targets.is_empty() { p { "No target is watched." } }
    }
}

fn section(target: &TargetNow, now_ms: i64) -> Markup {
    let mut all: Vec<&CollectorNow> = target.collectors.iter().collect();
    all.sort_by_key(|collector| (rank(collector.state), collector.name, collector.database.clone()));
    let busy_ms: f64 = all.iter().map(|collector| collector.duration_ms).sum();
    html! {
        h2 { (target.name) }
        p {
            (target.connections) " of 2 connections open"
            " · the last run of each took " (format!("{busy_ms:.1}")) " ms together"
            @if target.skipped > 0 {
                " · "
                (target.skipped)
                " cycles were skipped because the one before was still running"
            }
        }
        div.scroll {
            table {
                thead {
                    tr {
                        th { "Collector" }
                        th { "State" }
                        th.number { "Took" }
                        th.number { "Rows" }
                        th { "Last run" }
                        th { "Next" }
                        th { "Reads" }
                    }
                }
                tbody { @for collector in all { (row(collector, now_ms)) } }
            }
        }
    }
}

fn row(collector: &CollectorNow, now_ms: i64) -> Markup {
    let (class, word) = shown(collector.state);
    html! {
        tr {
            td { (collector.name) @if let Some(database) = &collector.database { br; span.faint { "in " (database) } } }
            td {
                span class=(format!("state {class}")) { (word) }
                @if let Some(reason) = &collector.reason { br; (why(reason)) }
            }
            td.number { @if collector.last_run_ms.is_some() { (format!("{:.1}", collector.duration_ms)) " ms" } }
            td.number { @if collector.last_run_ms.is_some() { (collector.rows) } }
            td.time { @if let Some(at_ms) = collector.last_run_ms { (ago(now_ms, at_ms)) } }
            td.time { @if let Some(at_ms) = collector.next_run_ms { "in " (span((at_ms - now_ms).max(0))) } }
            td.faint { (collector.reads) }
        }
    }
}

fn rank(state: CollectorState) -> u8 {
    match state {
        CollectorState::Failing => 0,
        CollectorState::Resting => 1,
        CollectorState::Waiting => 2,
        CollectorState::Fine => 3,
        CollectorState::Absent => 4,
    }
}

/// Class and word of a state.
fn shown(state: CollectorState) -> (&'static str, &'static str) {
    match state {
        CollectorState::Waiting => ("faint", "not run yet"),
        CollectorState::Fine => ("ok", "fine"),
        CollectorState::Absent => ("faint", "not here"),
        CollectorState::Failing => ("crit", "failing"),
        CollectorState::Resting => ("warn", "resting"),
    }
}
