//! The first page: which targets are watched, how they are, and what is missing.

use super::{
    frame::frame,
    words::{ago, bytes, counted, moment, span, why},
};
use crate::Site;
use axum::{extract::State, response::Html};
use maud::{Markup, html};
use std::{collections::BTreeMap, sync::Arc};
use surus_observe::{Snapshot, State as CollectorState, TargetNow, own};

/// Addresses for programs, with what they are for.
const ADDRESSES: &[(&str, &str)] = &[
    ("/metrics", "the newest answers, for a scrape"),
    ("/api/v1/query?query=pg_up", "PromQL, one moment"),
    ("/api/v1/labels", "the names of all labels"),
    ("/api/v1/metadata", "what each metric means"),
    ("/api/v1/targets", "the targets, as JSON"),
    ("/-/ready", "whether surus has started"),
];

/// `/`
pub async fn first(State(site): State<Arc<Site>>) -> Html<String> {
    let snapshot = site.observatory.snapshot();
    frame("surus", site.access.asks(), page(&snapshot, &remembered(&site)))
}

fn remembered(site: &Site) -> String {
    let size = std::fs::metadata(site.store.path()).map_or(0, |file| file.len());
    format!(
        "{} remembered in {} on disk",
        counted(site.store.series_count(), "series").replace("seriess", "series"),
        bytes(size)
    )
}

fn page(snapshot: &Snapshot, remembered: &str) -> Markup {
    let now_ms = snapshot.at_ms;
    let down = snapshot.targets.iter().filter(|target| !target.up).count();
    html! {
        h1 { (headline(snapshot.targets.len(), down)) }
        p.faint { "As of " (moment(now_ms)) " · " (remembered) }
        @if !snapshot.targets.is_empty() {
            div.scroll {
                table {
                    thead {
                        tr {
                            th { "Target" } th { "State" } th { "Server" } th { "Newest answer" } th { "What is missing, and why" }
                        }
                    }
                    tbody {
                        @for target in &snapshot.targets { (row(target, now_ms)) }
                    }
                }
            }
        }
        h2 { "For programs" }
        ul.plain {
            @for (address, what) in ADDRESSES {
                li { a href=(address) { code { (address) } } " " span.faint { (what) } }
            }
        }
        p.faint { "Grafana: add a data source of type Prometheus with this server's address; dashboards come from "
            code { "surus grafana export" } "." }
    }
}

fn headline(all: usize, down: usize) -> String {
    match (all, down) {
        (0, _) => "No target is watched: surus.toml has no [[target]]".to_owned(),
        (1, 0) => "The target answers".to_owned(),
        (1, _) => "The target does not answer".to_owned(),
        (all, 0) => format!("All {all} targets answer"),
        (all, down) => format!("{down} of {all} targets {} not answer", if down == 1 { "does" } else { "do" }),
    }
}

fn row(target: &TargetNow, now_ms: i64) -> Markup {
    // What surus itself says of the target (that it is down) is no answer of the server.
    let heard = target.answers.iter().filter(|answer| answer.told.iter().all(|told| told.family.name != own::UP.name));
    let newest = heard.map(|answer| answer.at_ms).max();
    html! {
        tr {
            td.name { (target.name) @if let Some(cluster) = &target.cluster { br; span.faint { "cluster " (cluster) } } }
            td.time {
                @if target.up { span.state.ok { "up" } } @else { span.state.crit { "down" } }
                br; span.faint { "for " (span((now_ms - target.since_ms).max(0))) }
            }
            td {
                @if let Some(version) = &target.version { "PostgreSQL " (version) }
                @if let Some(role) = target.role { ", " (role) }
                br; span.faint { (target.server) }
            }
            td.time { @match newest { Some(at_ms) => (ago(now_ms, at_ms)), None => span.faint { "none yet" } } }
            td { (missing(target)) }
        }
    }
}

/// What is not there, each reason once.
fn missing(target: &TargetNow) -> Markup {
    let mut silent: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let quiet = [CollectorState::Absent, CollectorState::Failing, CollectorState::Resting];
    for collector in target.collectors.iter().filter(|collector| quiet.contains(&collector.state)) {
        let reason = collector.reason.as_ref().map_or("for an unknown reason", |why| why.text.as_str());
        let place = collector.database.as_ref().map(|database| format!(" in {database}")).unwrap_or_default();
        silent.entry(reason).or_default().push(format!("{}{place}", collector.name));
    }
    html! {
        @if let Some(trouble) = &target.trouble { p.crit { (why(trouble)) } }
        @for reason in &target.missing { p.warn { (why(reason)) } }
        @if silent.is_empty() && target.trouble.is_none() && target.missing.is_empty() { span.faint { "nothing" } }
        @if !silent.is_empty() {
            details {
                summary { (counted(silent.values().map(Vec::len).sum(), "collector")) " without an answer" }
                ul.plain {
                    @for (reason, names) in &silent { li { b { (names.join(", ")) } ": " (reason) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::tests::target;

    fn shown(targets: Vec<TargetNow>) -> String {
        let targets = targets.into_iter().map(Arc::new).collect();
        page(&Snapshot { at_ms: 65_000, targets, ..Snapshot::default() }, "1 series").into_string()
    }

    #[test]
    fn it_says_in_words_what_is_wrong() {
        let text = shown(vec![target(true), target(false)]);
        for part in
            ["1 of 2 targets does not answer", "shop &lt;primary&gt;", "for 65 s", "SURUS-C004", "next: Check port"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(shown(vec![target(true)]).contains("The target answers"));
        assert!(shown(Vec::new()).contains("No target is watched"));
    }
}
