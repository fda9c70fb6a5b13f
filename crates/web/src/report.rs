//! A range of one target as one file to send: no script, nothing from elsewhere, light and dark, on paper too.

mod chart;
mod lists;

use crate::{
    pages::{
        frame::{Asked, failed},
        parts::segment,
        places,
        words::{counted, moment, quantity, span},
    },
    range::Range,
    views::{
        self, Scene,
        report::{Report, look},
        worries::Worry,
    },
};
use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use surus_core::finding::Severity;

/// The page loads nothing and runs nothing, wherever it is opened.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";
/// What a `meta` element cannot say.
const SERVED: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; \
     form-action 'none'";
/// What is wrong, at most; the findings follow in full.
const WORRIES: usize = 12;
const STYLE: &str = include_str!("report/style.css");

/// `/t/{target}/report`
pub async fn page((State(site), request, form): Asked) -> Response {
    let scene = match Scene::of(&site, request, form) {
        Ok(scene) => scene,
        Err(error) => return failed(None, &places::INSTANCE, &error),
    };
    match views::look(&site, scene.clone(), look).await {
        Ok(report) => {
            let name = format!("inline; filename=\"{}\"", file_name(&report.instance.name, &report.range));
            let named = HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("inline"));
            let policy = HeaderValue::from_static(SERVED);
            let headers = [(header::CONTENT_DISPOSITION, named), (header::CONTENT_SECURITY_POLICY, policy)];
            (headers, Html(document(&report).into_string())).into_response()
        }
        Err(error) => failed(Some(&scene), &places::INSTANCE, &error),
    }
}

/// What the file is called when a browser saves it.
fn file_name(target: &str, range: &Range) -> String {
    let time = |at_ms: i64| {
        jiff::Timestamp::from_millisecond(at_ms).map(|at| at.strftime("%Y%m%dT%H%MZ").to_string()).unwrap_or_default()
    };
    let target = segment(target).replace(['%', ':'], "_");
    format!("surus-{target}-{}-{}.html", time(range.from_ms), time(range.to_ms))
}

fn document(report: &Report) -> Markup {
    let instance = &report.instance;
    let (from, to) = (moment(report.range.from_ms), moment(report.range.to_ms));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                title { (instance.name) " · " (from) " to " (to) " · surus" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    p.faint {
                        (instance.name)
                        @if let Some(role) = instance.role { " · " (role) }
                        @if let Some(version) = &instance.version { " · PostgreSQL " (version) }
                        " · " (from) " to " (to) " (" (span(report.range.length_ms())) ")"
                    }
                    h1 { (headline(report)) }
                    (wrong(report))
                    (numbers(report))
                    (plots(report))
                    (lists::statements(&report.queries))
                    (lists::waits(&report.activity))
                    (lists::blocking(&report.blocking))
                    (lists::events(&report.events))
                    (lists::findings(&report.findings))
                    (lists::unseen(report))
                    (about(report))
                }
            }
        }
    }
}

fn bad(report: &Report) -> impl Iterator<Item = &Worry> {
    report.instance.worries.iter().filter(|worry| worry.severity > Severity::Info)
}

fn headline(report: &Report) -> String {
    let name = &report.instance.name;
    let count = bad(report).count();
    let crit = bad(report).filter(|worry| worry.severity == Severity::Crit).count();
    match (report.instance.up, crit, count) {
        (false, ..) => format!("{name} does not answer"),
        (true, 0, 0) if report.instance.worries.iter().any(|worry| worry.unknown) => {
            format!("{name}: not everything could be looked at")
        }
        (true, 0, 0) => format!("Nothing is wrong with {name} that surus can see"),
        (true, 0, count) => format!("{name}: {} to look at", counted(count, "thing")),
        (true, crit, count) => format!("{name}: {}, {crit} of them critical", counted(count, "trouble")),
    }
}

fn wrong(report: &Report) -> Markup {
    let ended = report.made_ms - report.range.to_ms > 120_000;
    html! {
        section aria-label="What is wrong" {
            // Worries come from the newest answers: of a range that is over they may say nothing.
            p.faint {
                "As of " (moment(report.made_ms))
                @if ended { ", after the end of this range" }
                ":"
            }
            ul.worries {
                @for worry in report.instance.worries.iter().take(WORRIES) {
                    li { span class=(format!("mark {}", worry.severity.word())) { (worry.mark()) } " " (worry.text) }
                }
                @let more = report.instance.worries.len().saturating_sub(WORRIES);
                @if more > 0 { li.faint { "and " (more) " more; the findings are below." } }
                @if report.instance.worries.is_empty() { li.ok { "Nothing is wrong that surus can see." } }
            }
        }
    }
}

fn numbers(report: &Report) -> Markup {
    html! {
        section aria-label="Numbers at the end of the range" {
            div.numbers {
                @for number in &report.instance.numbers {
                    div {
                        b { @match number.value { Some(value) => (quantity(value, number.unit)), None => "–" } }
                        span.faint { (number.name) }
                    }
                }
            }
            p.faint { "At the end of the range." }
        }
    }
}

fn plots(report: &Report) -> Markup {
    let range = (report.range.from_ms, report.range.to_ms);
    html! {
        section {
            h2 { "Load over time" }
            div.plots {
                @for (plot, drawn) in report.instance.plots.iter().zip(&report.drawn) {
                    (chart::draw(plot, drawn, range, &report.events.rows))
                }
            }
            @if !report.events.rows.is_empty() {
                p.faint { "Broken vertical lines are events; they are listed below." }
            }
        }
    }
}

fn about(report: &Report) -> Markup {
    let instance = &report.instance;
    html! {
        footer {
            h2 { "About this report" }
            dl {
                dt { "Range" }
                dd { (moment(report.range.from_ms)) " to " (moment(report.range.to_ms)) }
                dt { "Target" }
                dd {
                    (instance.name)
                    @if !instance.server.is_empty() { " at " (instance.server) }
                    @if let Some(cluster) = &instance.cluster { ", cluster " (cluster) }
                }
                dt { "PostgreSQL" }
                dd {
                    (instance.version.as_deref().unwrap_or("version not known"))
                    @if let Some(role) = instance.role { ", " (role) }
                    @if let Some(started_ms) = instance.started_ms { ", started " (moment(started_ms)) }
                }
                dt { "Made" }
                dd { (moment(report.made_ms)) " by surus " (report.surus) }
            }
            p.faint { "All times are UTC. surus only read; statements are shown as pg_stat_statements keeps them." }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::form::Form;

    #[test]
    fn a_file_has_a_plain_name() {
        let form = Form::of("from=1790000000000&to=1790003600000");
        let range = Range::read(&form, 1_790_003_600_000).unwrap();
        assert_eq!(file_name("db1:5432/a b", &range), "surus-db1_5432_2Fa_20b-20260921T1413Z-20260921T1513Z.html");
    }

    #[test]
    fn the_style_asks_for_nothing() {
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import") && !STYLE.contains("</"));
    }
}
