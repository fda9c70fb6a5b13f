//! One statement.

use super::{
    activity::{pid_link, wait_mark},
    frame::{self, Asked},
    parts::{self, link, target_path},
    places,
    words::{counted, number, quantity, span},
};
use crate::views::{
    Scene,
    plot::Unit,
    queries::BLOCK,
    query::{Query, Times, look},
};
use axum::response::Response;
use maud::{Markup, html};
use serde_json::json;

/// `/t/{target}/queries/{query}`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::QUERIES, look, body).await
}

fn body(scene: &Scene, query: &Query) -> Markup {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    let to = |page: &str| link(scene, &target_path(target, page), &[]);
    html! {
        p { a href=(to("/queries")) { "‹ All statements" } }
        h1 { "Query " (query.query) }
        @match &query.text {
            Some(text) => div.text { pre { code { (text) } } surus-copy {} },
            None => (parts::nothing("Its text is not known: PostgreSQL had thrown it out before surus read it.")),
        }
        @if query.calls == 0 { (parts::nothing("No call of it ended in this range.")) }
        div.numbers {
            (figure("calls", number(query.calls as f64)))
            (figure("time", quantity(query.time_ms, Unit::Milliseconds)))
            (figure("mean", mean(query.time_ms, query.calls)))
            (figure("rows / call", per_call(query.rows as f64, query.calls)))
            (figure("read / call", blocks(query.blocks_read, query.calls)))
            (figure("from buffers / call", blocks(query.blocks_hit, query.calls)))
            (figure("temporary", quantity(query.temp_blocks as f64 * BLOCK, Unit::Bytes)))
            (figure("WAL", quantity(query.wal_bytes as f64, Unit::Bytes)))
        }
        div.plots { (plots(scene, &query.times)) }
        (callers_and_waits(scene, query, target))
        (seen(scene, query))
        section.list.wide {
            h2 { "Plans" }
            @if query.plans.is_empty() {
                (parts::nothing("No plan is known: surus does not run EXPLAIN by itself, and reads no log yet."))
            }
            @for plan in &query.plans {
                details { summary { (parts::time(plan.at_ms)) " " code { (plan.hash) } } pre { code { (plan.plan) } } }
            }
        }
    }
}

/// Who runs it, and what it waits for.
fn callers_and_waits(scene: &Scene, query: &Query, target: &str) -> Markup {
    html! {
        div.lists {
            section.list {
                h2 { "Who runs it" }
                @if query.by.is_empty() { (parts::nothing("nobody in this range")) } @else {
                    table {
                        thead {
                            tr {
                                th scope="col" { "User" }
                                th scope="col" { "Database" }
                                th.number scope="col" { "Calls" }
                                th.number scope="col" { "Time" }
                            }
                        }
                        tbody { @for one in &query.by { tr {
                            td { (one.user) } td { (one.database) } td.number { (number(one.calls as f64)) }
                            td.number { (quantity(one.time_ms, Unit::Milliseconds)) }
                        } } }
                    }
                }
            }
            section.list {
                h2 { "What it waits for" }
                @if query.waits.is_empty() { (parts::nothing("It was never seen at work: it is too short for looks that are a second apart.")) } @else {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Wait" }
                                th.number scope="col" { "Sessions" }
                                th.number scope="col" { "Share" }
                            }
                        }
                        tbody { @for wait in &query.waits { tr {
                            td { (wait_mark(&wait.key)) }
                            td.number { (number(wait.sessions)) }
                            td.number { (format!("{:.0} %", wait.share * 100.0)) }
                        } } }
                    }
                    p {
                        a href=(link(scene, &target_path(target, "/activity"), &[("query", &query.query)])) {
                            "Its activity"
                        }
                    }
                }
            }
        }
    }
}

fn figure(name: &str, value: String) -> Markup {
    html! { div.figure { span.value { (value) } span.faint { (name) } } }
}

fn mean(time_ms: f64, calls: i64) -> String {
    if calls > 0 { quantity(time_ms / calls as f64, Unit::Milliseconds) } else { "–".to_owned() }
}

fn per_call(value: f64, calls: i64) -> String {
    if calls > 0 { number(value / calls as f64) } else { "–".to_owned() }
}

fn blocks(blocks: i64, calls: i64) -> String {
    if calls > 0 { quantity(blocks as f64 * BLOCK / calls as f64, Unit::Bytes) } else { "–".to_owned() }
}

fn plots(scene: &Scene, times: &Times) -> Markup {
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    let one = |title: &str, unit: &str, series: serde_json::Value| {
        let data = json!({ "at": times.at_ms, "series": series });
        html! {
            figure.panel {
                figcaption { h2 { (title) } }
                surus-plot data=(data) kind="line" unit=(unit) from=(scene.range.from_ms) to=(scene.range.to_ms)
                    label=(title) empty="No call of it ended in this range." events=(target) {}
            }
        }
    };
    html! {
        (one("Mean time", "milliseconds", json!([{ "name": "mean", "values": times.mean_ms }])))
        (one("Calls", "per_second", json!([{ "name": "calls", "values": times.calls }])))
        (one("Rows per call", "count", json!([{ "name": "rows", "values": times.rows }])))
        (one("Blocks", "bytes_per_second", json!([
            { "name": "read", "values": times.read_bytes }, { "name": "from buffers", "values": times.hit_bytes },
        ])))
    }
}

fn seen(scene: &Scene, query: &Query) -> Markup {
    html! {
        section.list.wide {
            h2 {
                "Executions that were seen "
                span.faint { "in " (counted(usize::try_from(query.looks).unwrap_or(usize::MAX), "look")) }
            }
            @if query.seen.is_empty() { (parts::nothing("none")) } @else {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "When" }
                        th.number scope="col" { "Process" }
                        th scope="col" { "Who" }
                        th scope="col" { "Waited for" }
                        th.number scope="col" { "Running for" }
                    } }
                    tbody { @for one in &query.seen { tr {
                        td { (parts::time(one.at_ms)) }
                        td.number { (pid_link(scene, one.pid)) }
                        td {
                            (one.application.as_deref().unwrap_or("–"))
                            " "
                            span.faint {
                                (one.user.as_deref().unwrap_or_default())
                                " "
                                (one.client.as_deref().unwrap_or_default())
                            }
                        }
                        td { (wait_mark(&one.wait)) }
                        td.number { @if let Some(ms) = one.query_age_ms { (span(ms.max(0))) } }
                    } } }
                } }
            }
        }
    }
}
