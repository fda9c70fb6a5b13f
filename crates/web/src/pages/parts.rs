//! Pieces that pages are made of: links, plots, small plots, bars, headers that sort.

use super::words::quantity;
use crate::views::{
    Scene,
    plot::{Kind, Plot, Unit},
    worries::Worry,
};
use maud::{Markup, html};

/// A target's address, and of a page below it.
pub fn target_path(target: &str, page: &str) -> String {
    format!("/t/{}{page}", segment(target))
}

/// One part of a path.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// An address that keeps the range that is shown, with more parameters.
pub fn link(scene: &Scene, path: &str, more: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in ["from", "to", "live"] {
        if let Some(value) = scene.form.get(name) {
            query.append_pair(name, value);
        }
    }
    query.extend_pairs(more);
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// This very address with some parameters set or taken away.
pub fn here(scene: &Scene, changes: &[(&str, Option<&str>)]) -> String {
    let query = scene.form.with(changes);
    if query.is_empty() { scene.path.clone() } else { format!("{}?{query}", scene.path) }
}

/// Where a query can be looked at by itself.
pub fn explore(scene: &Scene, query: &str) -> String {
    link(scene, "/explore", &[("query", query)])
}

/// A time of the address as a person would write it.
pub fn told(text: &str) -> String {
    match text.parse::<i64>().ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => text.to_owned(),
    }
}

/// A time, short; the whole of it on a closer look.
pub fn time(at_ms: i64) -> Markup {
    let Ok(at) = jiff::Timestamp::from_millisecond(at_ms) else { return html! { "at an unknown time" } };
    html! { time datetime=(at) title=(at) { (at.strftime("%m-%d %H:%M:%S")) } }
}

/// A plot in its panel.
pub fn plot(scene: &Scene, plot: &Plot) -> Markup {
    let queries: Vec<_> =
        plot.queries.iter().map(|query| serde_json::json!({ "expr": query.expr, "legend": query.legend })).collect();
    let kind = match plot.kind {
        Kind::Line => "line",
        Kind::Stack => "stack",
    };
    let target = scene.target.as_ref().map(|target| target.name.as_str()).unwrap_or_default();
    html! {
        figure.panel #{ "plot-" (plot.id) } {
            figcaption {
                h2 { (plot.title) }
                details.promql {
                    summary { "PromQL" }
                    ul.plain {
                        @for query in &plot.queries {
                            li { a href=(explore(scene, &query.expr)) { code { (query.expr) } } }
                        }
                    }
                }
                @if !plot.about.is_empty() { p.faint { (plot.about) } }
            }
            surus-plot queries=(serde_json::Value::from(queries)) kind=(kind) unit=(unit(plot.unit))
                from=(scene.range.from_ms) to=(scene.range.to_ms) step=(scene.range.step_ms() / 1000)
                label=(plot.title) empty=(plot.empty) events=(target)
                palette=[plot.waits.then_some("waits")]
                limit=[plot.limit.as_ref().map(|limit| limit.value)]
                limit-label=[plot.limit.as_ref().map(|limit| limit.label.as_str())] {}
        }
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Count => "count",
        Unit::Bytes => "bytes",
        Unit::BytesPerSecond => "bytes_per_second",
        Unit::PerSecond => "per_second",
        Unit::Seconds => "seconds",
        Unit::Milliseconds => "milliseconds",
        Unit::Percent => "percent",
        Unit::Sessions => "sessions",
    }
}

/// A small plot inside a text or a table: no axes, gaps stay gaps.
pub fn sparkline(values: &[Option<f64>], about: &str, most: Option<f64>) -> Markup {
    let top = values.iter().flatten().copied().chain(most).fold(0.0, f64::max);
    let (width, height) = (values.len().max(2) - 1, 24.0);
    let mut path = String::new();
    let mut drawing = false;
    for (x, value) in values.iter().enumerate() {
        let Some(value) = value else {
            drawing = false;
            continue;
        };
        let y = if top > 0.0 { height - 1.0 - value / top * (height - 2.0) } else { height - 1.0 };
        path.push_str(&format!("{}{x} {y:.1}", if drawing { "L" } else { "M" }));
        drawing = true;
    }
    html! {
        svg.spark viewBox=(format!("0 0 {width} {height}")) preserveAspectRatio="none" role="img" aria-label=(about) {
            path d=(path) vector-effect="non-scaling-stroke" {}
        }
    }
}

/// A share from 0 to 1 as a bar; for the eye only, the number stands beside it.
pub fn bar(share: f64) -> Markup {
    let width = (share.clamp(0.0, 1.0) * 100.0 * 10.0).round() / 10.0;
    html! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true" {
            rect.bar-all width="100" height="6" {}
            rect.bar-part width=(width) height="6" {}
        }
    }
}

/// Several shares side by side as one bar, each with the name of its class and its share of the whole.
pub fn shares(parts: &[(String, f64)], about: &str) -> Markup {
    let all: f64 = parts.iter().map(|(_, value)| value).sum();
    let width = |value: f64| if all > 0.0 { value / all * 100.0 } else { 0.0 };
    let begins = parts.iter().scan(0.0, |x, (_, value)| {
        let begin = *x;
        *x += width(*value);
        Some(begin)
    });
    html! {
        svg.shares viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(about) {
            @for ((name, value), x) in parts.iter().zip(begins) {
                rect class=(format!("wait wait-{}", segment(name))) x=(format!("{x:.2}")) width=(format!("{:.2}", width(*value))) height="8" {
                    title { (name) }
                }
            }
        }
    }
}

/// The first of what is wrong, as a list, and the page of the target that has more.
pub fn worries(scene: &Scene, target: &str, worries: &[Worry], at_most: usize, rest: &str) -> Markup {
    html! {
        ul.worries {
            @for worry in worries.iter().take(at_most) {
                li class=(worry.severity.word()) {
                    span.mark { (worry.mark()) } " "
                    @let path = match worry.page.as_str() {
                        "collectors" => "/collectors".to_owned(),
                        "" => target_path(target, ""),
                        page => target_path(target, &format!("/{}", page.split('#').next().unwrap_or_default())),
                    };
                    @let place = worry.page.split_once('#').map(|(_, place)| format!("#{}", segment(place)));
                    a href=(link(scene, &path, &[]) + &place.unwrap_or_default()) { (worry.text) }
                }
            }
            @if worries.len() > at_most {
                li { a href=(link(scene, &target_path(target, rest), &[])) { "and " (worries.len() - at_most) " more" } }
            }
        }
    }
}

/// The head of a column that the table can be sorted by: once for the greatest first, again for the least.
pub fn sort_head(scene: &Scene, key: &str, name: &str, sorted_by: &str, number: bool) -> Markup {
    let (by, least_first) = sorted_by.strip_prefix('-').map_or((sorted_by, true), |by| (by, false));
    let own = by == key;
    let next = if own && !least_first { key.to_owned() } else { format!("-{key}") };
    let sorted = own.then_some(if least_first { "ascending" } else { "descending" });
    html! {
        th.number[number] scope="col" aria-sort=[sorted] {
            a href=(here(scene, &[("sort", Some(&next))])) {
                (name)
                @if own { @if least_first { " ↑" } @else { " ↓" } }
            }
        }
    }
}

/// The form that filters a table by words.
pub fn filter(scene: &Scene, what: &str) -> Markup {
    html! {
        form.filter method="get" action=(scene.path) role="search" {
            @for (name, value) in scene.form.pairs().filter(|(name, _)| *name != "filter") {
                input type="hidden" name=(name) value=(value);
            }
            label { span.hidden { "Filter " (what) }
                input #filter type="search" name="filter" value=(scene.form.get("filter").unwrap_or_default())
                    placeholder=(format!("Filter {what} (/)")) autocomplete="off";
            }
            noscript { button { "Filter" } }
        }
    }
}

/// A number with its name.
pub fn number(name: &str, value: Option<f64>, unit: Unit, href: &str, promql: &str) -> Markup {
    html! {
        div.figure {
            a.value href=(href) {
                @match value { Some(value) => (quantity(value, unit)), None => "–" }
            }
            span.faint {
                (name)
                " "
                a.source href=(promql) title="PromQL" aria-label=(format!("the query of {name}")) { "∿" }
            }
        }
    }
}

/// Says why nothing is there.
pub fn nothing(why: &str) -> Markup {
    html! { p.nothing { (why) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_makes_a_path() {
        assert_eq!(target_path("db1:5432", "/activity"), "/t/db1:5432/activity");
        assert_eq!(target_path("/tmp/a b", ""), "/t/%2Ftmp%2Fa%20b");
    }

    #[test]
    fn gaps_stay_gaps() {
        let text = sparkline(&[Some(0.0), Some(2.0), None, Some(1.0)], "load", None).into_string();
        assert!(text.contains(r#"d="M0 23.0L1 1.0M3 12.0""#), "{text}");
        assert!(sparkline(&[], "none", None).into_string().contains("viewBox=\"0 0 1 24\""));
    }
}
