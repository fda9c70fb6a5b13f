//! Tables.

use super::{
    frame::{self, Asked},
    parts::{self, here},
    places,
    words::{ago, counted, quantity},
};
use crate::views::{
    Scene,
    plot::Unit,
    tables::{Table, Tables, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/tables`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::TABLES, look, body).await
}

fn body(scene: &Scene, tables: &Tables) -> Markup {
    let head = |key: &str, name: &str| parts::sort_head(scene, key, name, &tables.sorted_by, key != "name");
    html! {
        h1 { (counted(tables.all, "table")) ", " (quantity(tables.total_bytes, Unit::Bytes)) " with indexes" }
        p.faint { "As of the newest answers; growth, rows read and rows changed over the range that is shown." }
        (missing(&tables.missing))
        (parts::filter(scene, "tables"))
        @if tables.rows.is_empty() { (parts::nothing(why_empty(tables))) } @else {
            div.scroll {
                table.dense {
                    thead { tr {
                        (head("name", "Table"))
                        (head("size", "Size"))
                        (head("index", "Indexes"))
                        (head("growth", "Growth"))
                        (head("live", "Rows"))
                        (head("dead", "Dead"))
                        (head("share", "Dead share"))
                        (head("bloat", "Bloat"))
                        (head("seq", "Read in sequence"))
                        (head("changed", "Changed"))
                        (head("vacuumed", "Vacuumed"))
                        (head("age", "Freeze age"))
                    } }
                    tbody { @for table in &tables.rows { (row(scene, table)) } }
                }
            }
            (more(scene, tables.more))
        }
    }
}

/// What is not known, if anything is not.
pub fn missing(missing: &[String]) -> Markup {
    html! {
        @if !missing.is_empty() {
            details.missing {
                summary { (counted(missing.len(), "answer")) " missing" }
                ul.plain { @for why in missing { li { (why) } } }
            }
        }
    }
}

/// How to see the rest.
pub fn more(scene: &Scene, more: usize) -> Markup {
    html! { @if more > 0 { p { a href=(here(scene, &[("all", Some("1"))])) { "Show " (more) " more" } } } }
}

fn why_empty(tables: &Tables) -> &'static str {
    if tables.all > 0 {
        "No table fits the filter."
    } else {
        "No table is known: the databases have none, or they have not been looked into yet."
    }
}

fn row(scene: &Scene, table: &Table) -> Markup {
    let bytes = |value: Option<f64>| known(value, Unit::Bytes);
    html! {
        tr {
            th.name scope="row" { (table.name) div.faint { (table.database) "." (table.schema) } }
            td.number { (bytes(table.bytes)) }
            td.number { (bytes(table.index_bytes)) }
            td.number { (growth(table.growth_bytes)) }
            td.number { (known(table.live_rows, Unit::Count)) }
            td.number { (known(table.dead_rows, Unit::Count)) }
            td.number.warn[is_dead(table)] { (known(table.dead_share, Unit::Percent)) }
            td.number { (known(table.bloat, Unit::Percent)) }
            td.number { (known(table.seq_rows.map(f64::round), Unit::Count)) }
            td.number { (known(table.changed_rows.map(f64::round), Unit::Count)) }
            td.number { (when(scene, table.vacuumed_ms)) }
            td.number { (known(table.frozen_age, Unit::Count)) }
        }
    }
}

/// Much of it is dead, and it is no toy.
pub fn is_dead(table: &Table) -> bool {
    table.dead_share.is_some_and(|share| share >= 0.2) && table.dead_rows.is_some_and(|rows| rows >= 1000.0)
}

/// A value that may not be known.
pub fn known(value: Option<f64>, unit: Unit) -> Markup {
    html! { @match value { Some(value) => (quantity(value, unit)), None => span.faint title="not known" { "–" } } }
}

fn growth(bytes: Option<f64>) -> Markup {
    let Some(bytes) = bytes else { return known(None, Unit::Bytes) };
    let sign = if bytes < 0.0 { "−" } else { "+" };
    html! { @if bytes.abs() < 1.0 { "0" } @else { (sign) (quantity(bytes.abs(), Unit::Bytes)) } }
}

/// A moment in the past; 0 stands for never.
pub fn when(scene: &Scene, at_ms: Option<f64>) -> Markup {
    html! {
        @match at_ms {
            None => span.faint title="not known" { "–" },
            Some(0.0) => span.faint { "never" },
            Some(at_ms) => (ago(scene.now_ms, at_ms as i64)),
        }
    }
}
