//! Indexes.

use super::{
    frame::{self, Asked},
    parts, places,
    tables::{known, missing, more},
    words::{counted, quantity},
};
use crate::views::{
    Scene,
    indexes::{Index, Indexes, look},
    plot::Unit,
};
use axum::response::Response;
use maud::{Markup, html};

/// `/t/{target}/indexes`
pub async fn page(asked: Asked) -> Response {
    frame::show(asked, &places::INDEXES, look, body).await
}

fn body(scene: &Scene, indexes: &Indexes) -> Markup {
    let head = |key: &str, name: &str| parts::sort_head(scene, key, name, &indexes.sorted_by, key != "name");
    let findings = scene
        .target
        .as_ref()
        .map(|target| parts::link(scene, &parts::target_path(&target.name, "/findings"), &[("filter", "idx.")]));
    html! {
        h1 {
            (counted(indexes.all, "index").replace("indexs", "indexes"))
            ", "
            (quantity(indexes.total_bytes, Unit::Bytes))
            @if indexes.unused_bytes > 0.0 {
                ", of which "
                (quantity(indexes.unused_bytes, Unit::Bytes))
                " were never used"
            }
        }
        p.faint {
            "Scans are counted since the statistics began, on this server only: an index that a standby uses looks unused here. "
            @if let Some(findings) = findings {
                a href=(findings) { "Findings about indexes" }
                " say which are duplicate, missing or of no use, with the commands."
            }
        }
        (missing(&indexes.missing))
        (parts::filter(scene, "indexes"))
        @if indexes.rows.is_empty() {
            (parts::nothing(if indexes.all > 0 { "No index fits the filter." } else { "No index is known: the databases have none, or they have not been looked into yet." }))
        } @else {
            div.scroll {
                table.dense {
                    thead { tr {
                        (head("name", "Index"))
                        th scope="col" { "Table" }
                        (head("size", "Size"))
                        (head("scans", "Scans"))
                        (head("entries", "Entries read"))
                        (head("hit", "Found in buffers")) (head("bloat", "Bloat"))
                    } }
                    tbody { @for index in &indexes.rows { (row(index)) } }
                }
            }
            (more(scene, indexes.more))
        }
    }
}

fn row(index: &Index) -> Markup {
    html! {
        tr {
            th.name scope="row" {
                (index.name)
                @if index.invalid { " " span.state.crit { "invalid" } }
                div.faint { (index.database) "." (index.schema) }
            }
            td { (index.table) }
            td.number { (known(index.bytes, Unit::Bytes)) }
            td.number.warn[index.scans == Some(0.0)] {
                @if index.scans == Some(0.0) { "never" } @else { (known(index.scans, Unit::Count)) }
            }
            td.number { (known(index.entries, Unit::Count)) }
            td.number { (known(index.hit_share, Unit::Percent)) }
            td.number { (known(index.bloat, Unit::Percent)) }
        }
    }
}
