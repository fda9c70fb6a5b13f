//! Statements of the range.

use super::{
    activity::statement_link,
    frame::{self, Asked},
    parts, places,
    words::{counted, number, quantity},
};
use crate::views::{
    Scene,
    plot::Unit,
    queries::{BLOCK, Queries, Row, look},
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/queries`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::QUERIES, look, body).await
}

fn body(scene: &Scene, queries: &Queries) -> Markup {
    let head = |key: &str, name: &str| parts::sort_head(scene, key, name, &queries.sorted_by, true);
    html! {
        h1 { (headline(queries)) }
        (slower(scene, queries))
        (parts::filter(scene, "statements, users, databases"))
        @if let Some(why) = &queries.empty { (parts::nothing(why)) } @else {
            div.scroll {
                table.dense {
                    thead {
                        tr {
                            th.statement scope="col" { "Statement" }
                            (head("time", "Time"))
                            th scope="col" { "Share of the load" }
                            (head("calls", "Calls"))
                            (head("mean", "Mean"))
                            (head("week", "vs. a week ago"))
                            (head("rows", "Rows / call"))
                            (head("read", "Read"))
                            (head("hit", "From buffers"))
                            (head("temp", "Temporary"))
                            (head("wal", "WAL"))
                        }
                    }
                    tbody { @for one in &queries.rows { (row(scene, one)) } }
                }
            }
            @if queries.statements > queries.rows.len() {
                p.faint { (queries.rows.len()) " of " (counted(queries.statements, "statement")) " are shown." }
            }
        }
    }
}

fn headline(queries: &Queries) -> String {
    match queries.rows.iter().max_by(|a, b| a.share.total_cmp(&b.share)) {
        Some(first) if first.share >= 0.3 && queries.statements > 1 => {
            format!("One statement takes {:.0} % of the time of all", first.share * 100.0)
        }
        _ => format!("{} ran, {} calls", counted(queries.statements, "statement"), number(queries.calls as f64)),
    }
}

fn slower(scene: &Scene, queries: &Queries) -> Markup {
    let slower: Vec<&Row> = queries.rows.iter().filter(|row| row.slower).collect();
    html! {
        @if !slower.is_empty() {
            p.warn {
                (counted(slower.len(), "statement")) " became slower than a week ago: "
                @for (at, row) in slower.iter().take(3).enumerate() {
                    @if at > 0 { ", " }
                    (statement_link(scene, &row.query, row.text.as_deref()))
                    " "
                    (times(row.against_week.unwrap_or_default()))
                }
            }
        }
    }
}

fn times(times: f64) -> String {
    format!("{times:.1}×")
}

fn row(scene: &Scene, row: &Row) -> Markup {
    let per_call = |count: i64| if row.calls > 0 { number(count as f64 / row.calls as f64) } else { "–".to_owned() };
    let bytes = |blocks: i64| if blocks == 0 { "0".to_owned() } else { quantity(blocks as f64 * BLOCK, Unit::Bytes) };
    html! {
        tr {
            td.name {
                (statement_link(scene, &row.query, row.text.as_deref()))
                div.faint { (row.users.join(", ")) @if !row.databases.is_empty() { " in " (row.databases.join(", ")) } }
            }
            td.number { (quantity(row.time_ms, Unit::Milliseconds)) }
            td.load {
                (parts::bar(row.share)) span.number { (format!("{:.1} %", row.share * 100.0)) }
                (parts::sparkline(&row.spark, "time over the range", None))
            }
            td.number { (number(row.calls as f64)) }
            td.number { (quantity(row.mean_ms, Unit::Milliseconds)) }
            td.number.warn[row.slower] {
                @match row.against_week { Some(ratio) => (times(ratio)), None => span.faint { "–" } }
            }
            td.number { (per_call(row.rows)) }
            td.number { (bytes(row.blocks_read)) }
            td.number { (bytes(row.blocks_hit)) }
            td.number { (bytes(row.temp_blocks)) }
            td.number { @if row.wal_bytes == 0 { "0" } @else { (quantity(row.wal_bytes as f64, Unit::Bytes)) } }
        }
    }
}
